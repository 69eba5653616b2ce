import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  blobSizeBytesMax,
  digestOf,
  isAppError,
  isPieceLength,
  leafSizeBytes,
  MetainfoBuilder,
  metainfoOf,
  pieceCountOf,
  pieceLengthBytesMax,
  pieceLengthFor,
  pieceSize,
  pieceSizeOf,
  piecesOfRange,
  verifyPiece,
} from '#core';

/** Bytes that differ from piece to piece and are cheap to make. */
function sampleBytes(sizeBytes: number, seed: number): Buffer {
  const bytes = Buffer.alloc(sizeBytes, seed);
  for (let at = 0; at + 4 <= sizeBytes; at += 4096) bytes.writeUInt32LE((seed + at) >>> 0, at);
  return bytes;
}

test('piece lengths are valid, never shrink with the size, and keep the count near a thousand', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: blobSizeBytesMax }), fc.nat({ max: 2 ** 31 }), (sizeBytes, more) => {
      const length = pieceLengthFor(sizeBytes);
      assert.equal(isPieceLength(length), true);
      assert.ok(pieceLengthFor(Math.min(blobSizeBytesMax, sizeBytes + more)) >= length);
      if (length < pieceLengthBytesMax) assert.ok(pieceCountOf(sizeBytes, length) <= 1024);
      if (length > leafSizeBytes) assert.ok(pieceCountOf(sizeBytes, length / 2) > 1024);
    }),
  );
});

test('the pieces of a blob add up to its size', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 50 * leafSizeBytes }), (sizeBytes) => {
      const count = pieceCountOf(sizeBytes, leafSizeBytes);
      let total = 0;
      for (let index = 0; index < count; index += 1) total += pieceSizeOf(sizeBytes, leafSizeBytes, index);
      assert.equal(total, sizeBytes);
    }),
  );
});

test('a range touches exactly the pieces that hold one of its bytes', () => {
  fc.assert(
    fc.property(fc.nat({ max: 200 }), fc.nat({ max: 200 }), fc.integer({ min: 1, max: 20 }), (a, b, length) => {
      const range = { startByte: Math.min(a, b), endByte: Math.max(a, b) };
      const touched = new Set<number>();
      for (let at = range.startByte; at < range.endByte; at += 1) touched.add(Math.floor(at / length));
      const { first, end } = piecesOfRange(range, length);
      assert.deepEqual(
        [...touched],
        Array.from({ length: end - first }, (_, i) => first + i),
      );
    }),
  );
});

test('metainfo does not depend on how the bytes were chunked, and every piece verifies', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 5 * leafSizeBytes }),
      fc.array(fc.integer({ min: 1, max: 2 * leafSizeBytes }), { maxLength: 6 }),
      fc.nat({ max: 255 }),
      (sizeBytes, cuts, seed) => {
        const bytes = sampleBytes(sizeBytes, seed);
        const chunked = new MetainfoBuilder();
        let at = 0;
        for (const cut of cuts) {
          chunked.update(bytes.subarray(at, at + cut));
          at = Math.min(sizeBytes, at + cut);
        }
        chunked.update(bytes.subarray(at));
        const metainfo = chunked.finish(digestOf(bytes));
        assert.deepEqual(metainfo, new MetainfoBuilder().update(bytes).finish(digestOf(bytes)));
        for (let index = 0; index < metainfo.pieceCount; index += 1) {
          const start = index * metainfo.pieceLengthBytes;
          assert.equal(verifyPiece(metainfo, index, bytes.subarray(start, start + pieceSize(metainfo, index))), true);
        }
      },
    ),
    { numRuns: 40 },
  );
});

test('longer pieces hash their leaves and verify too', () => {
  const sizeBytes = 257 * 1024 * 1024 + 12_345;
  const block = sampleBytes(leafSizeBytes * 4, 7);
  const builder = new MetainfoBuilder();
  for (let at = 0; at < sizeBytes; at += block.byteLength) builder.update(block.subarray(0, Math.min(block.byteLength, sizeBytes - at)));
  const metainfo = builder.finish(digestOf(Buffer.from('any')));
  assert.equal(metainfo.pieceLengthBytes, 2 * leafSizeBytes);
  assert.equal(verifyPiece(metainfo, 0, block.subarray(0, 2 * leafSizeBytes)), true);
  const last = metainfo.pieceCount - 1;
  assert.equal(verifyPiece(metainfo, last, block.subarray((last % 2) * 2 * leafSizeBytes).subarray(0, pieceSize(metainfo, last))), true);
});

test('one flipped bit, a wrong length or a wrong index fails verification', () => {
  const bytes = sampleBytes(2 * leafSizeBytes + 5, 3);
  const metainfo = new MetainfoBuilder().update(bytes).finish(digestOf(bytes));
  const piece = Buffer.from(bytes.subarray(0, leafSizeBytes));
  assert.equal(verifyPiece(metainfo, 0, piece), true);
  assert.equal(verifyPiece(metainfo, 1, piece), false);
  assert.equal(verifyPiece(metainfo, 3, piece), false);
  assert.equal(verifyPiece(metainfo, -1, piece), false);
  assert.equal(verifyPiece(metainfo, 0, piece.subarray(1)), false);
  piece[1000] = (piece[1000] ?? 0) ^ 1;
  assert.equal(verifyPiece(metainfo, 0, piece), false);
});

test('metainfo from outside must have one of our piece lengths and a hash for each piece', () => {
  const digest = digestOf(Buffer.from('x'));
  const good = { digest, sizeBytes: 5, pieceLengthBytes: leafSizeBytes, pieceHashes: new Uint8Array(32) };
  assert.equal(metainfoOf(good).pieceCount, 1);
  for (const bad of [
    { sizeBytes: -1 },
    { sizeBytes: 1.5 },
    { sizeBytes: blobSizeBytesMax + 1 },
    { pieceLengthBytes: 1000 },
    { pieceHashes: new Uint8Array(64) },
  ]) {
    assert.throws(
      () => metainfoOf({ ...good, ...bad }),
      (error) => isAppError(error, 'invalid-argument'),
    );
  }
});
