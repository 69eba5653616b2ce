import assert from 'node:assert/strict';
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { AppError, type Logger, silentLogger } from '#core';
import { ManualClock } from '#test/support/manual-clock';
import { tempDir } from '#test/support/temp';
import { WatchedFile } from '../../../services/lib/access/watched-file.ts';

const path = join(tempDir('watched'), 'file');

function parse(text: string): number {
  const value = Number(text);
  if (Number.isNaN(value)) throw new AppError('invalid-argument', 'not a number');
  return value;
}

test('a change counts a second later; what is wrong is told once and changes nothing', async () => {
  const errors: string[] = [];
  const logger: Logger = { ...silentLogger, error: (message) => errors.push(message) };
  const clock = new ManualClock();
  writeFileSync(path, '1');
  const file = await WatchedFile.open({ path, sizeBytesMax: 100, parse }, { clock, logger });
  writeFileSync(`${path}.new`, '2');
  renameSync(`${path}.new`, path);
  assert.equal(await file.current(), 1);
  clock.advance(1000);
  assert.deepEqual(await Promise.all([file.current(), file.current()]), [2, 2]);
  for (const bad of ['x', 'y', '3'.repeat(101)]) {
    writeFileSync(path, bad);
    clock.advance(1000);
    assert.equal(await file.current(), 2);
  }
  rmSync(path);
  clock.advance(1000);
  assert.equal(await file.current(), 2);
  assert.equal(errors.length, 3);
  writeFileSync(path, '4');
  clock.advance(1000);
  assert.equal(await file.current(), 4);
});

test('a file that is absent at the start is told by its name', async () => {
  const options = { path: `${path}.absent`, sizeBytesMax: 100, parse };
  await assert.rejects(WatchedFile.open(options, { clock: new ManualClock(), logger: silentLogger }), {
    code: 'not-found',
    message: /cannot read .*file\.absent/,
  });
});
