/** Differences between two texts, line by line, as `diff -u` shows them. Made for configuration files: the work grows with the product of the lines that differ. */

const contextLines = 3;

type Line = { readonly kind: ' ' | '-' | '+'; readonly text: string };

/** Empty when they are the same; undefined stands for no file. */
export function unifiedDiff(path: string, before: string | undefined, after: string | undefined): string {
  if (before === after) return '';
  const lines = compare(linesOf(before), linesOf(after));
  const head = [`--- ${before === undefined ? '/dev/null' : path}`, `+++ ${after === undefined ? '/dev/null' : path}`];
  return [...head, ...hunks(lines)].join('\n');
}

function linesOf(text: string | undefined): string[] {
  if (text === undefined || text === '') return [];
  return (text.endsWith('\n') ? text.slice(0, -1) : text).split('\n');
}

/** The longest common subsequence, kept; the rest taken out or put in. */
function compare(before: readonly string[], after: readonly string[]): Line[] {
  const common = commonLengths(before, after);
  const lines: Line[] = [];
  let [i, j] = [0, 0];
  while (i < before.length || j < after.length) {
    const kind = nextKind(before[i], after[j], common(i + 1, j) >= common(i, j + 1));
    lines.push({ kind, text: (kind === '+' ? after[j] : before[i]) ?? '' });
    if (kind !== '+') i += 1;
    if (kind !== '-') j += 1;
  }
  return lines;
}

function nextKind(old: string | undefined, fresh: string | undefined, oldFirst: boolean): Line['kind'] {
  if (old === fresh) return ' ';
  if (fresh === undefined) return '-';
  return old !== undefined && oldFirst ? '-' : '+';
}

/** How many lines the rests of both texts have in common, from line `i` of one and `j` of the other on. */
function commonLengths(before: readonly string[], after: readonly string[]): (i: number, j: number) => number {
  const width = after.length + 1;
  const lengths = new Uint32Array((before.length + 1) * width);
  const at = (i: number, j: number): number => lengths[i * width + j] ?? 0;
  for (let i = before.length - 1; i >= 0; i -= 1) {
    for (let j = after.length - 1; j >= 0; j -= 1) {
      lengths[i * width + j] = before[i] === after[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  return at;
}

/** The lines that differ, with a few around them. */
function hunks(lines: readonly Line[]): string[] {
  const isShown = (at: number): boolean =>
    lines.slice(Math.max(0, at - contextLines), at + contextLines + 1).some(({ kind }) => kind !== ' ');
  const output: string[] = [];
  for (let at = 0; at < lines.length; ) {
    let end = at;
    while (end < lines.length && isShown(end)) end += 1;
    if (end > at)
      output.push(headOf(lines.slice(0, at), lines.slice(at, end)), ...lines.slice(at, end).map(({ kind, text }) => kind + text));
    at = Math.max(end, at + 1);
  }
  return output;
}

function headOf(earlier: readonly Line[], hunk: readonly Line[]): string {
  const range = (other: '+' | '-'): string => {
    const count = (lines: readonly Line[]): number => lines.filter(({ kind }) => kind !== other).length;
    return `${count(hunk) === 0 ? count(earlier) : count(earlier) + 1},${count(hunk)}`;
  };
  return `@@ -${range('+')} +${range('-')} @@`;
}
