import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isAppError } from '#core';
import { ExchangeResponse } from '#gen/shoal/peer/v1/exchange';
import { PieceFramePool, pieceFrame } from '#wire';
import { decodeFrame, encodePiece } from '../../../services/lib/wire/piece-frames.ts';

const index = fc.oneof(fc.nat({ max: 262_143 }), fc.constantFrom(0, 1, 127, 128, 16_383, 16_384, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1));
const data = fc.oneof(
  fc.uint8Array({ maxLength: 300 }),
  fc.constantFrom(127, 128, 16_384, 2_097_152, 4_194_304).map((size) => new Uint8Array(size).fill(9)),
);

test('a piece is encoded as the generated code would encode it, without a copy', () => {
  fc.assert(
    fc.property(index, data, fc.boolean(), (piece, bytes, acknowledge) => {
      const frame = pieceFrame(bytes.byteLength);
      frame.body.set(bytes);
      const encoded = encodePiece(piece, frame, acknowledge);
      const generated = ExchangeResponse.encode({ frame: { $case: 'piece', piece: { index: piece, acknowledge, data: bytes } } }).finish();
      assert.ok(encoded.equals(generated));
      assert.equal(encoded.buffer, frame.body.buffer);
      // The same frame may carry another index later.
      assert.ok(
        encodePiece(0, frame).equals(
          ExchangeResponse.encode({ frame: { $case: 'piece', piece: { index: 0, acknowledge: false, data: bytes } } }).finish(),
        ),
      );
    }),
    { numRuns: 60 },
  );
});

test('a received piece is a view of its message', () => {
  const frame = pieceFrame(1000);
  frame.body.fill(3);
  const message = encodePiece(5, frame);
  const decoded = decodeFrame(message);
  assert.ok(decoded?.$case === 'piece');
  assert.equal(decoded.piece.index, 5);
  assert.equal(decoded.piece.data.buffer, message.buffer);
  assert.ok(Buffer.from(decoded.piece.data).equals(frame.body));
});

test('whatever arrives is a frame, an unknown frame or an invalid argument', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      try {
        decodeFrame(bytes);
      } catch (error) {
        assert.ok(isAppError(error, 'invalid-argument'), String(error));
      }
    }),
  );
  assert.throws(() => decodeFrame(new Uint8Array(5 * 1024 * 1024 + 1)), { code: 'invalid-argument' });
  assert.equal(decodeFrame(Buffer.from([0x7a, 1, 1])), undefined);
});

test('a piece that fits no frame is a programmer error', () => {
  assert.throws(() => pieceFrame(5 * 1024 * 1024), /a piece fits a frame/);
  assert.throws(() => pieceFrame(-1), /a piece fits a frame/);
});

test('the memory of a piece that was sent carries the next one of its size, up to a bound', () => {
  const pool = new PieceFramePool();
  const kib256 = 256 * 1024;
  const first = pieceFrame(kib256, pool);
  assert.notEqual(pieceFrame(kib256, pool), first, "one that is under way is nobody else's");
  first.taken();
  assert.equal(pieceFrame(2 * kib256, pool) === first, false);
  assert.equal(pieceFrame(kib256, pool), first);
  pieceFrame(1000, pool).taken();
  assert.equal(pool.freeBytes, 0, 'odd sizes do not come again');
  const many = Array.from({ length: 10 }, () => pieceFrame(4 * 1024 * 1024, pool));
  for (const frame of many) frame.taken();
  assert.equal(pool.freeBytes, 16 * 1024 * 1024);
});
