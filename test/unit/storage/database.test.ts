import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { commit, openDatabase } from '#storage';
import { tempDir } from '../../support/storage-fixtures.ts';

const child = join(dirname(fileURLToPath(import.meta.url)), 'full-disk.child.ts');

test('a transaction the disk refuses fails its callers and nothing else, and the database can be closed', async (t) => {
  const root = await tempDir(t);
  // Files may not grow past 300 KiB, which a write sees as it sees a full disk.
  const limited = `trap '' XFSZ; ulimit -f 300; exec "$0" --import tsx "$1" "$2"`;
  const { stdout } = await promisify(execFile)('bash', ['-c', limited, process.execPath, child, root], { timeout: 60_000 });
  const outcome = JSON.parse(stdout.split('\n').at(-2) ?? '');
  assert.ok(outcome.storedCount > 0, stdout);
  assert.ok(outcome.codes.length > 0);
  for (const code of outcome.codes) assert.ok(['unavailable', 'resource-exhausted'].includes(code), code);
  assert.deepEqual(outcome.lost, [], 'what was acknowledged is there');
  assert.deepEqual(outcome.torn, [], 'what was refused left nothing');
  assert.equal(outcome.unhandledCount, 0);
  assert.ok((await readFile(join(root, 'data.mdb'))).byteLength <= 300 * 1024);
});

test('what a change throws is thrown to its caller and to nobody beside it', async (t) => {
  const db = await openDatabase(await tempDir(t));
  t.after(() => db.close());
  const table = db.openDB<string, string>({ name: 'a', encoding: 'json' });
  const failing = commit(db, () => {
    throw new RangeError('mine');
  });
  const fine = commit(db, () => {
    table.putSync('key', 'value');
    return 7;
  });
  await assert.rejects(failing, RangeError);
  assert.equal(await fine, 7);
  assert.equal(table.get('key'), 'value');
});
