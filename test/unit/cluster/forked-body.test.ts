import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { giveBack, isAppError } from '#core';
import { BodyBranch, forkBody } from '../../../services/lib/cluster/forked-body.ts';
import { ManualClock } from '../../support/manual-clock.ts';

const kib = 1024;

async function* chunksOf(sizes: readonly number[]): AsyncGenerator<Uint8Array> {
  let count = 0;
  for (const size of sizes) {
    count += 1;
    yield Buffer.alloc(size, count);
  }
}

const turns = async (count: number): Promise<void> => {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};

/** Reads as a sender does: looks at the bytes, then gives their memory back. */
async function read(body: AsyncIterable<Uint8Array>, pauses: readonly number[]): Promise<string> {
  const seen: string[] = [];
  for await (const bytes of body) {
    await turns(pauses[seen.length % pauses.length] ?? 0);
    seen.push(`${bytes.byteLength} x ${bytes[0]}`);
    giveBack(bytes);
  }
  return seen.join();
}

test('every reader gets all bytes, whoever is slower, and whoever gives their memory back first', async () => {
  const sizes = fc.array(fc.constantFrom(10, 16 * kib, 64 * kib), { maxLength: 40 });
  const pauses = fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 5 });
  await fc.assert(
    fc.asyncProperty(sizes, pauses, pauses, pauses, async (chunks, ...each) => {
      const branches = [new BodyBranch(new ManualClock()), new BodyBranch(new ManualClock())];
      const bodies = [forkBody(chunksOf(chunks), branches), ...branches];
      const got = await Promise.all(bodies.map(async (body, index) => read(body, each[index] ?? [0])));
      const expected = chunks.map((size, index) => `${size} x ${index + 1}`).join();
      assert.deepEqual(got, [expected, expected, expected]);
    }),
    { numRuns: 60 },
  );
});

test('a reader that takes nothing is left behind after three seconds, with half a megabyte waiting at most', async () => {
  const clock = new ManualClock();
  const branch = new BodyBranch(clock);
  let givenBytes = 0;
  async function* counted(): AsyncGenerator<Uint8Array> {
    for await (const bytes of chunksOf(Array.from({ length: 40 }, () => 64 * kib))) {
      givenBytes += bytes.byteLength;
      yield bytes;
    }
  }
  const main = read(forkBody(counted(), [branch]), [0]);
  await turns(200);
  assert.equal(givenBytes, 512 * kib);
  clock.advance(2999);
  await turns(50);
  assert.equal(givenBytes, 512 * kib);
  clock.advance(1);
  assert.equal((await main).split(',').length, 40);
  await assert.rejects(read(branch, [0]), (error) => isAppError(error, 'aborted'));
});

test('what the body breaks off with reaches every reader; one that leaves early holds nobody up', async () => {
  const broken = new Error('broken');
  async function* breaking(): AsyncGenerator<Uint8Array> {
    yield* chunksOf([10]);
    throw broken;
  }
  const branch = new BodyBranch(new ManualClock());
  const [main, other] = await Promise.allSettled([read(forkBody(breaking(), [branch]), [0]), read(branch, [0])]);
  assert.deepEqual([main, other], Array(2).fill({ status: 'rejected', reason: broken }));

  const left = new BodyBranch(new ManualClock());
  const all = forkBody(chunksOf(Array.from({ length: 40 }, () => 64 * kib)), [left]);
  const leave = async (): Promise<void> => {
    for await (const bytes of left) if (bytes.byteLength > 0) break;
  };
  const [text] = await Promise.all([read(all, [0]), leave()]);
  assert.equal(text.split(',').length, 40);
});

test('a main reader that leaves ends the branches', async () => {
  const branch = new BodyBranch(new ManualClock());
  for await (const bytes of forkBody(chunksOf([10, 10, 10]), [branch])) if (bytes.byteLength > 0) break;
  await assert.rejects(read(branch, [0]), (error) => isAppError(error, 'cancelled'));
});
