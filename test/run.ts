/** Runs the test files of the named suites with Node's test runner: `run.ts unit contract`. Fails when a suite has no file. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Each file is a process; more than the two cores of a small machine only makes timing worse. */
const concurrency = 2;

function testFiles(suite: string): string[] {
  const root = join('test', suite);
  const files = existsSync(root) ? (readdirSync(root, { recursive: true }) as string[]).filter((file) => file.endsWith('.test.ts')) : [];
  if (files.length === 0) {
    process.stderr.write(`test/${suite}: no test files\n`);
    process.exit(2);
  }
  return files.sort().map((file) => join(root, file));
}

const suites = process.argv.slice(2);
const serial = suites.includes('e2e');
const result = spawnSync(
  process.execPath,
  ['--import', 'tsx', '--test', '--test-reporter=spec', `--test-concurrency=${serial ? 1 : concurrency}`, ...suites.flatMap(testFiles)],
  { stdio: 'inherit' },
);
process.exit(result.status ?? 1);
