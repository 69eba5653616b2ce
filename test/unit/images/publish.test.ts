import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError, isAppError } from '#core';
import { placeAndPublish } from '#images';

const options = { signal: new AbortController().signal };
const refusal = (kind: string): AppError => new AppError('aborted', 'placed too early', { data: { kind } });

/** A publication whose link is refused `refusals` times; what happened, in order. */
function setUp(refusals: number, kind = 'collected') {
  const log: string[] = [];
  let fence = 10n;
  let pausesMs = 0;
  const deps = {
    index: { fence: async () => fence },
    clock: {
      sleep: async (delayMs: number) => {
        pausesMs += delayMs;
      },
    },
  };
  const publication = {
    place: async () => void log.push('place'),
    publish: async (taken: bigint) => {
      log.push(`link ${taken}`);
      if (log.length > 2 * refusals) return 'done';
      fence += 1n;
      throw refusal(kind);
    },
  };
  return { log, run: () => placeAndPublish(publication, deps, options), pausesMs: () => pausesMs };
}

test('bytes that were collected before their link are placed again, with the fence of that time', async () => {
  const { log, run } = setUp(2);
  assert.equal(await run(), 'done');
  assert.deepEqual(log, ['place', 'link 10', 'place', 'link 11', 'place', 'link 12']);
});

test('after some seconds it is left to the client to try again', async () => {
  const { log, run, pausesMs } = setUp(100);
  await assert.rejects(run(), (error) => isAppError(error, 'unavailable') && error.retryAfterMs !== undefined);
  assert.equal(log.length, 14);
  assert.equal(pausesMs(), 6300);
});

test('another refusal is not a matter of placing again', async () => {
  const { log, run } = setUp(1, 'session');
  await assert.rejects(run(), (error) => isAppError(error, 'aborted'));
  assert.equal(log.length, 2);
});
