import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PieceWaiters, SharedPiece } from '../../../services/lib/peer/piece-waiters.ts';
import { abortable, ByteBudget, Deferred } from '../../../services/lib/peer/waiting.ts';

test('a byte budget is never exceeded, serves in order, and is whole again in the end', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 150 }), { maxLength: 40 }), async (sizes) => {
      const budget = new ByteBudget(100);
      const served: number[] = [];
      const takers = sizes.map(async (sizeBytes, index) => {
        await budget.take(sizeBytes);
        served.push(index);
        assert.ok(budget.takenBytes <= 100 || budget.takenBytes === sizeBytes);
        await Promise.resolve();
        budget.release(sizeBytes);
      });
      await Promise.all(takers);
      assert.equal(budget.takenBytes, 0);
      assert.deepEqual(
        served,
        sizes.map((_, index) => index),
      );
    }),
  );
});

test('abortable gives the value, or the reason of the signal when that comes first', async () => {
  const never = new Deferred<number>();
  const abort = new AbortController();
  assert.equal(await abortable(Promise.resolve(1), abort.signal), 1);
  const waiting = abortable(never.promise, abort.signal);
  abort.abort(new Error('gone'));
  await assert.rejects(waiting, /gone/);
  await assert.rejects(abortable(Promise.resolve(1), abort.signal), /gone/);
});

test('everybody who waits for a piece gets it, and an aborted wait leaves the others', async () => {
  const waiters = new PieceWaiters();
  const { signal } = new AbortController();
  const abort = new AbortController();
  const first = waiters.wait(3, signal);
  const aborted = waiters.wait(3, abort.signal);
  const other = waiters.wait(4, signal);
  abort.abort(new Error('gone'));
  await assert.rejects(aborted, /gone/);
  const piece = new SharedPiece(Uint8Array.of(3));
  waiters.arrived(3, piece);
  assert.equal(await first, piece);
  const later = waiters.wait(5, signal);
  waiters.allOnDisk();
  assert.deepEqual(await Promise.all([other, later]), [undefined, undefined]);
  const failing = waiters.wait(6, signal);
  waiters.fail(new Error('lost'));
  await assert.rejects(failing, /lost/);
});

test('a piece keeps its memory until whoever writes it and every reader have let go of it', async () => {
  const bytes = Buffer.allocUnsafeSlow(1024 * 1024);
  const piece = new SharedPiece(bytes);
  const waiters = new PieceWaiters();
  const { signal } = new AbortController();
  const readers = [waiters.wait(0, signal), waiters.wait(0, signal)];
  waiters.arrived(0, piece);
  for (const reader of readers) {
    assert.equal(await reader, piece);
    piece.release();
    assert.equal(bytes.byteLength, 1024 * 1024);
  }
  piece.release();
  assert.equal(bytes.byteLength, 0);
});
