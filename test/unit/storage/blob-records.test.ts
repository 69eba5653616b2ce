import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { tempDir } from '../../support/storage-fixtures.ts';

const child = join(dirname(fileURLToPath(import.meta.url)), 'late-rows.child.ts');

test('a row that the disk refuses later is seen meanwhile, and saved when there is room again', async (t) => {
  const root = await tempDir(t);
  // Files may not grow past 300 KiB, which a write sees as it sees a full disk.
  const limited = `trap '' XFSZ; ulimit -f 300; exec "$0" --import tsx "$1" "$2"`;
  const { stdout } = await promisify(execFile)('bash', ['-c', limited, process.execPath, child, root], { timeout: 60_000 });
  const outcome = JSON.parse(stdout.split('\n').at(-2) ?? '');
  assert.ok(outcome.largeCount > 0, stdout);
  assert.deepEqual(outcome, {
    largeCount: outcome.largeCount,
    listedWhileRefused: true,
    saved: [{ isLate: true, durable: false }],
    metainfoSaved: true,
  });
});
