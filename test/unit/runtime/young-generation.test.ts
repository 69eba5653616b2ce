/** What the first import of a service's bundle does to V8. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { runOk } from '../../support/processes.ts';

const first = fileURLToPath(new URL('../../../services/lib/runtime/young-generation.mjs', import.meta.url));
/** Makes 50 MB that stays, as loading modules does, and prints the MiB of the young generation. */
const program = `
  const kept = [];
  for (let i = 0; i < 500_000; i += 1) kept.push({ i, next: [i] });
  const space = require('node:v8').getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space');
  process.stdout.write(String(space.space_size / 2 ** 20));
`;

for (const [name, args, isSmall] of [
  ['stays small while modules are loaded', ['--import', first], true],
  ['would grow', [], false],
] as const) {
  test(`the young generation ${name}`, async () => {
    const stdout = await runOk(process.execPath, [...args, '--eval', program]);
    const sizeMib = Number(stdout);
    assert.ok(isSmall ? sizeMib > 0 && sizeMib <= 4 : sizeMib >= 16, `${sizeMib} MiB`);
  });
}
