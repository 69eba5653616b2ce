import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const linesMax = 400;
/** Those that cannot be spelled here without being found here. */
const marks = new RegExp(['TO' + 'DO', 'FIX' + 'ME', 'HA' + 'CK', 'XX' + 'X'].map((mark) => `\\b${mark}\\b`).join('|'));
const narrowed = new RegExp(`\\.(${['skip', 'only', 'todo'].join('|')})\\(`);

const files = ['services', 'test', 'proto']
  .flatMap((root) => (readdirSync(root, { recursive: true }) as string[]).map((file) => join(root, file)))
  .filter((file) => file.endsWith('.ts'))
  .map((file) => ({ file, text: readFileSync(file, 'utf8') }));

/** The places of `pattern` in the files whose path begins with one of `roots`. */
function places(pattern: RegExp, ...roots: readonly string[]): string[] {
  return files
    .filter(({ file }) => roots.some((root) => file.startsWith(root)))
    .flatMap(({ file, text }) =>
      text.split('\n').flatMap((line, index) => (pattern.test(line) ? [`${file}:${index + 1}: ${line.trim()}`] : [])),
    );
}

test('there is something to look at', () => assert.ok(files.length > 100));

test(`no production file is longer than ${linesMax} lines`, () => {
  const long = files
    .filter(({ file, text }) => !file.startsWith('test/') && text.split('\n').length > linesMax + 1)
    .map(({ file }) => file);
  assert.deepEqual(long, []);
});

test('production code has no unfinished marks', () => assert.deepEqual(places(marks, 'services/', 'proto/'), []));

test('no test is skipped or narrowed', () => assert.deepEqual(places(narrowed, 'test/'), []));

test('the pure layers take time and randomness from outside', () => {
  const pure = ['core', 'swarm', 'placement', 'sim'].map((name) => `services/lib/${name}/`);
  assert.deepEqual(places(/Math\.random|Date\.now|new Date\(|process\.hrtime|performance\.now|setTimeout|setInterval/, ...pure), []);
});

test('every source file begins with its job', () => {
  const without = files.filter(
    ({ file, text }) => file.startsWith('services/') && !/^(\/\*\*|\/\/|export \{|export type|import .* from)/.test(text),
  );
  assert.deepEqual(
    without.map(({ file }) => file),
    [],
  );
});

test('no module is exported whole', () => assert.deepEqual(places(/^export \* from/, 'services/'), []));
