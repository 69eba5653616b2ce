/** How a blob is cut into pieces. Pure arithmetic; every size is in bytes and every index counts from zero. */
import { assert } from './assert.ts';

/** The unit that is hashed while an upload of unknown length streams in: 256 KiB. */
export const leafSizeBytes = 256 * 1024;
/** The largest piece: 4 MiB keeps a piece frame in one gRPC message and a peer's memory bounded. */
export const pieceLengthBytesMax = 4 * 1024 * 1024;
/** The largest blob that may exist: 1 TiB, i.e. 262,144 pieces and an 8 MiB hash list. */
export const blobSizeBytesMax = 2 ** 40;

/** A broadcast of K pieces to N hosts costs about (K + log2 N) / K, so K is kept near a thousand once a blob is large enough. */
const pieceCountTarget = 1024;

/**
 * The piece length for a blob: the smallest power-of-two multiple of the leaf that needs at most about a thousand pieces,
 * i.e. 256 KiB up to 256 MiB, 1 MiB for 1 GiB, 4 MiB from 2 GiB on.
 */
export function pieceLengthFor(sizeBytes: number): number {
  assert(Number.isSafeInteger(sizeBytes) && sizeBytes >= 0, 'a blob size is a whole number of bytes');
  let length = leafSizeBytes;
  while (length < pieceLengthBytesMax && sizeBytes > length * pieceCountTarget) length *= 2;
  return length;
}

/** True for a piece length that {@link pieceLengthFor} can return. */
export function isPieceLength(length: number): boolean {
  for (let valid = leafSizeBytes; valid <= pieceLengthBytesMax; valid *= 2) if (valid === length) return true;
  return false;
}

/** Number of pieces; an empty blob has none. */
export function pieceCountOf(sizeBytes: number, pieceLengthBytes: number): number {
  return Math.ceil(sizeBytes / pieceLengthBytes);
}

/** Bytes of one piece: the piece length, or less for the last. */
export function pieceSizeOf(sizeBytes: number, pieceLengthBytes: number, index: number): number {
  assert(index >= 0 && index * pieceLengthBytes < sizeBytes, 'the piece lies inside the blob');
  return Math.min(pieceLengthBytes, sizeBytes - index * pieceLengthBytes);
}

/** A blob of at most one leaf skips the swarm: it travels inline in one unary RPC. */
export function isTiny(sizeBytes: number): boolean {
  return sizeBytes <= leafSizeBytes;
}

/** A half-open range of bytes. */
export interface ByteRange {
  readonly startByte: number;
  /** Exclusive. */
  readonly endByte: number;
}

/** First and one-past-last piece that a byte range touches. */
export function piecesOfRange(range: ByteRange, pieceLengthBytes: number): { first: number; end: number } {
  if (range.endByte <= range.startByte) return { first: 0, end: 0 };
  return {
    first: Math.floor(range.startByte / pieceLengthBytes),
    end: Math.floor((range.endByte - 1) / pieceLengthBytes) + 1,
  };
}
