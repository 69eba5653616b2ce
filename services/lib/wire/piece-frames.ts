/**
 * Frames that carry pieces, encoded where the piece's bytes already are. The layout is the one of `ExchangeResponse{piece}`: the header
 * (`0A <length> 08 <index> 10 01 7A <length>`, each number a varint, `10 01` only where an answer is wanted) is written right before the body, so that nothing is copied.
 */

import { AppError, assert, leafSizeBytes } from '#core';
import { ExchangeResponse } from '#gen/shoal/peer/v1/exchange';
import { exchangeFrameSizeBytesMax } from './limits.ts';
import type { PieceFrame } from './types.ts';
import { writeByteBefore, writeVarintBefore } from './varint.ts';

/** Three tags of one byte and three varints of at most five, and two bytes that ask for an answer. */
const headerRoomBytes = 20;
const tagOfPiece = 0x0a;
const tagOfIndex = 0x08;
const tagOfAcknowledge = 0x10;
const tagOfData = 0x7a;

class RoomyFrame implements PieceFrame {
  readonly body: Buffer;
  readonly bytes: Buffer;
  readonly #pool: PieceFramePool | undefined;

  constructor(sizeBytes: number, pool?: PieceFramePool) {
    // Not from Node's shared pool: a frame lives as long as the transport needs it.
    this.bytes = Buffer.allocUnsafeSlow(headerRoomBytes + sizeBytes);
    this.body = this.bytes.subarray(headerRoomBytes);
    this.#pool = pool;
  }

  taken(): void {
    this.#pool?.give(this);
  }
}

/** Memory for one piece of `sizeBytes`, at most 4 MiB, uninitialised. */
export function pieceFrame(sizeBytes: number, pool?: PieceFramePool): PieceFrame {
  assert(
    Number.isSafeInteger(sizeBytes) && sizeBytes >= 0 && sizeBytes + headerRoomBytes <= exchangeFrameSizeBytesMax,
    'a piece fits a frame',
  );
  return pool?.find(sizeBytes) ?? new RoomyFrame(sizeBytes, pool);
}

/** V8 collects garbage after every 64 MiB that were allocated beside its heap, which costs more than reading and sending them. */
const pooledBytesMax = 16 * 1024 * 1024;

/** Frames that were sent, for the next pieces of their size; at most 16 MiB of them. */
export class PieceFramePool {
  readonly #free: RoomyFrame[] = [];
  #freeBytes = 0;

  get freeBytes(): number {
    return this.#freeBytes;
  }

  find(sizeBytes: number): PieceFrame | undefined {
    const at = this.#free.findLastIndex(({ body }) => body.byteLength === sizeBytes);
    const [frame] = at < 0 ? [] : this.#free.splice(at, 1);
    this.#freeBytes -= frame?.body.byteLength ?? 0;
    return frame;
  }

  /** The oldest leave when there are too many: pieces of that size are not sent any more. */
  give(frame: RoomyFrame): void {
    assert(!this.#free.includes(frame), 'a frame is sent once');
    // The last piece of a blob has a size of its own.
    if (frame.body.byteLength % leafSizeBytes !== 0) return;
    this.#free.push(frame);
    this.#freeBytes += frame.body.byteLength;
    while (this.#freeBytes > pooledBytesMax) this.#freeBytes -= this.#free.shift()?.body.byteLength ?? 0;
  }
}

/** The encoded message: a view of the frame's memory. The index is at most 2^32 - 1. */
export function encodePiece(index: number, frame: PieceFrame, acknowledge = false): Buffer {
  assert(frame instanceof RoomyFrame, 'the frame was made by pieceFrame');
  const { bytes, body } = frame;
  let at = headerRoomBytes;
  if (body.byteLength > 0) {
    at = writeVarintBefore(bytes, at, body.byteLength);
    at = writeByteBefore(bytes, at, tagOfData);
  }
  if (acknowledge) {
    at = writeByteBefore(bytes, at, 1);
    at = writeByteBefore(bytes, at, tagOfAcknowledge);
  }
  if (index !== 0) {
    at = writeVarintBefore(bytes, at, index);
    at = writeByteBefore(bytes, at, tagOfIndex);
  }
  at = writeVarintBefore(bytes, at, bytes.byteLength - at);
  at = writeByteBefore(bytes, at, tagOfPiece);
  return bytes.subarray(at);
}

/** Encodes any frame but a piece. */
export function encodeFrame(frame: NonNullable<ExchangeResponse['frame']>): Buffer {
  const bytes = ExchangeResponse.encode({ frame }).finish();
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Decodes a frame; a piece's bytes are a view of `bytes`. Throws `invalid-argument` for a malformed or oversized frame. */
export function decodeFrame(bytes: Uint8Array): ExchangeResponse['frame'] {
  if (bytes.byteLength > exchangeFrameSizeBytesMax) throw new AppError('invalid-argument', 'exchange: the frame is too large');
  try {
    return ExchangeResponse.decode(bytes).frame;
  } catch (error) {
    throw new AppError('invalid-argument', 'exchange: the frame is malformed', { cause: error });
  }
}
