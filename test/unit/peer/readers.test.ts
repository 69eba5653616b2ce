import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf, metainfoOf } from '#core';
import type { ReadableBlob } from '#storage';
import { LargeReads, StoredReader } from '../../../services/lib/peer/readers.ts';

const mib = 1024 * 1024;
const sizeBytes = 32 * mib;
const { signal } = new AbortController();
const blob: ReadableBlob = {
  metainfo: metainfoOf({ digest: digestOf(Buffer.from('x')), sizeBytes, pieceLengthBytes: mib, pieceHashes: new Uint8Array(32 * 32) }),
  readInto: async () => undefined,
  [Symbol.asyncDispose]: async () => undefined,
};

test('a few readers of large ranges at a time have large chunks', async () => {
  const places = new LargeReads();
  const open = (endByte: number, lend: boolean): AsyncIterator<Uint8Array> =>
    new StoredReader(blob, places).read({ startByte: 0, endByte }, { signal, lend })[Symbol.asyncIterator]();
  const first = async (reader: AsyncIterator<Uint8Array>): Promise<number> => (await reader.next()).value.byteLength / mib;

  const readers = Array.from({ length: 8 }, () => open(sizeBytes, true));
  assert.equal(await first(open(8 * mib, true)), 0.5);
  assert.equal(await first(open(sizeBytes, false)), 0.5);
  for (const reader of readers) assert.equal(await first(reader), 2);
  assert.equal(await first(open(sizeBytes, true)), 0.5);
  await readers[0]?.return?.();
  assert.equal(await first(open(sizeBytes, true)), 2);
});
