/** What the conformance program prints and writes: a table by target and area, JSON, and JUnit. */
import { type CheckResult, type Totals, totalsOf } from './recorder.ts';

export function table(results: readonly CheckResult[]): string {
  const rows = [['TARGET', 'AREA', 'PASSED', 'FAILED', 'SKIPPED']];
  for (const [key, group] of grouped(results)) {
    const [target = '', area = ''] = key.split('\n');
    rows.push([target, area, ...numbers(totalsOf(group))]);
  }
  rows.push(['all', '', ...numbers(totalsOf(results))]);
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  const cell = (text: string, column: number): string =>
    column < 2 ? text.padEnd(widths[column] ?? 0) : text.padStart(widths[column] ?? 0);
  return rows.map((row) => row.map(cell).join('  ').trimEnd()).join('\n');
}

/** One line for each check that did not pass. */
export function troubles(results: readonly CheckResult[]): string {
  return results
    .filter(({ outcome }) => outcome !== 'passed')
    .map(({ target, area, name, outcome, message }) => `${outcome}: ${target}: ${area}: ${name}\n    ${message ?? ''}`)
    .join('\n');
}

export function junit(results: readonly CheckResult[]): string {
  const suites = [...grouped(results)].map(([key, group]) => {
    const { failed, skipped } = totalsOf(group);
    const cases = group.map(({ name, outcome, message = '', elapsedMs }) => {
      const open = `    <testcase name="${escapeXml(name)}" time="${elapsedMs / 1000}"`;
      if (outcome === 'passed') return `${open}/>`;
      return `${open}><${outcome === 'failed' ? 'failure' : 'skipped'} message="${escapeXml(message)}"/></testcase>`;
    });
    const head = `  <testsuite name="${escapeXml(key.replace('\n', ': '))}" tests="${group.length}" failures="${failed}" skipped="${skipped}">`;
    return [head, ...cases, '  </testsuite>'].join('\n');
  });
  return ['<?xml version="1.0" encoding="UTF-8"?>', '<testsuites>', ...suites, '</testsuites>', ''].join('\n');
}

function grouped(results: readonly CheckResult[]): Map<string, CheckResult[]> {
  const groups = new Map<string, CheckResult[]>();
  for (const result of results) {
    const key = `${result.target}\n${result.area}`;
    groups.set(key, [...(groups.get(key) ?? []), result]);
  }
  return groups;
}

function numbers({ passed, failed, skipped }: Totals): string[] {
  return [passed, failed, skipped].map(String);
}

function escapeXml(text: string): string {
  const named: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
  return [...text].map((char) => named[char] ?? (char < ' ' && char !== '\n' ? ' ' : char)).join('');
}
