import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';
import { AppError } from '#core';
import { renewCertificates } from '../../../services/cli/devcluster/command.ts';
import { watchSignals } from '../../../services/cli/devcluster/signals.ts';
import { ManualClock } from '../../support/manual-clock.ts';

test('the first signal of any kind asks to stop, and one a moment later is the same keystroke', async (t) => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    const source = new EventEmitter();
    const clock = new ManualClock();
    const kills: string[] = [];
    const { stopped, release } = watchSignals(source, () => void kills.push(signal), clock);
    t.after(release);
    source.emit(signal);
    await stopped;
    clock.advance(299);
    source.emit(signal);
    assert.deepEqual(kills, []);
    clock.advance(1);
    assert.equal(source.emit(signal), true, 'the handler stays');
    assert.deepEqual(kills, [signal]);
  }
});

test('a renewal that fails is tried again an hour later', async () => {
  const clock = new ManualClock();
  let attempts = 0;
  let stop = (): void => undefined;
  const stopped = new Promise<void>((resolve) => {
    stop = resolve;
  });
  const renewDue = async (): Promise<never> => {
    attempts += 1;
    throw new AppError('failed-precondition', 'a certificate file is damaged');
  };
  const renewing = renewCertificates({ renewDue }, clock, stopped);
  for (const expected of [1, 2]) {
    clock.advance(3_600_000);
    await new Promise(setImmediate);
    assert.equal(attempts, expected);
  }
  stop();
  await renewing;
});
