import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { nullMeter, silentLogger } from '#core';
import { LogFile } from '#telemetry';
import { ManualClock } from '#test/support/manual-clock';
import { tempDir } from '#test/support/temp';

const root = tempDir('log-file');
const deps = { clock: new ManualClock(), logger: silentLogger, meter: nullMeter };

test('lines are all there once it is closed, also those of an earlier run', async () => {
  const path = join(root, 'a', 'log');
  for (const run of [1, 2]) {
    const file = await LogFile.open(path, deps);
    for (let line = 0; line < 1000; line += 1) file.write(`${run} ${line}\n`);
    await file[Symbol.asyncDispose]();
    file.write('after the end\n');
  }
  assert.equal(readFileSync(path, 'utf8').split('\n').length, 2001);
});

test('a disk that takes nothing holds nobody up, and costs bounded memory', async () => {
  const path = join(root, 'fifo');
  execFileSync('mkfifo', [path]);
  // A reader that does not read: the pipe is full after 64 KiB.
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const errors: string[] = [];
  const file = await LogFile.open(path, { ...deps, logger: { ...silentLogger, error: (message) => errors.push(message) } });
  const line = `${'x'.repeat(1023)}\n`;
  const startedMs = performance.now();
  for (let count = 0; count < 20_000; count += 1) file.write(line);
  assert.ok(performance.now() - startedMs < 2000);
  assert.deepEqual(errors, ['log lines dropped, the disk is too slow']);
  const chunk = Buffer.alloc(1 << 20);
  const closed = file[Symbol.asyncDispose]();
  let isClosed = false;
  void closed.then(() => {
    isClosed = true;
  });
  let readBytes = 0;
  while (!isClosed) {
    try {
      readBytes += readSync(reader, chunk);
    } catch {
      // Nothing there yet.
    }
    await new Promise(setImmediate);
  }
  assert.ok(readBytes > 0 && readBytes < 6 * 2 ** 20, `${readBytes} bytes`);
  closeSync(reader);
});
