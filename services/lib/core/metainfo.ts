/** Metainfo: what a peer must know to fetch and verify a blob piece by piece. */
import { createHash, type Hash } from 'node:crypto';
import { assert } from './assert.ts';
import type { Digest } from './digest.ts';
import { AppError } from './errors.ts';
import { blobSizeBytesMax, isPieceLength, leafSizeBytes, pieceCountOf, pieceLengthFor, pieceSizeOf } from './geometry.ts';

export const hashSizeBytes = 32;

/** Immutable; one object is shared by everyone who works on the blob. */
export interface Metainfo {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly pieceLengthBytes: number;
  readonly pieceCount: number;
  /** `pieceCount` SHA-256 values, 32 bytes each, in order. */
  readonly pieceHashes: Uint8Array;
}

/**
 * Validates metainfo that came from outside. Throws `invalid-argument` unless the piece length is one of ours and
 * there is exactly one hash for each piece.
 */
export function metainfoOf(parts: Omit<Metainfo, 'pieceCount'>): Metainfo {
  const { sizeBytes, pieceLengthBytes, pieceHashes } = parts;
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0 || sizeBytes > blobSizeBytesMax) {
    throw new AppError('invalid-argument', `metainfo: size must be 0 to ${blobSizeBytesMax} bytes`);
  }
  if (!isPieceLength(pieceLengthBytes)) {
    throw new AppError('invalid-argument', 'metainfo: the piece length must be 256 KiB times a power of two, at most 4 MiB');
  }
  const pieceCount = pieceCountOf(sizeBytes, pieceLengthBytes);
  if (pieceHashes.byteLength !== pieceCount * hashSizeBytes) {
    throw new AppError('invalid-argument', `metainfo: expected ${pieceCount} piece hashes of ${hashSizeBytes} bytes`);
  }
  return { ...parts, pieceCount };
}

/** The hash a piece must have. A view, not a copy. */
export function pieceHashOf(metainfo: Metainfo, index: number): Uint8Array {
  return metainfo.pieceHashes.subarray(index * hashSizeBytes, (index + 1) * hashSizeBytes);
}

/** Bytes of piece `index`. */
export function pieceSize(metainfo: Metainfo, index: number): number {
  return pieceSizeOf(metainfo.sizeBytes, metainfo.pieceLengthBytes, index);
}

/** True when `bytes` is exactly piece `index` of the blob. Costs one SHA-256 over the bytes. */
export function verifyPiece(metainfo: Metainfo, index: number, bytes: Uint8Array): boolean {
  if (index < 0 || index >= metainfo.pieceCount || bytes.byteLength !== pieceSize(metainfo, index)) return false;
  return Buffer.compare(hashPiece(bytes, metainfo.pieceLengthBytes), pieceHashOf(metainfo, index)) === 0;
}

/**
 * The hash of one piece. Pieces of one leaf (256 KiB) are hashed directly; a longer piece is the SHA-256 of its leaves'
 * SHA-256 values, so that leaves can be hashed before the blob's size, and with it the piece length, is known.
 */
export function hashPiece(bytes: Uint8Array, pieceLengthBytes: number): Buffer {
  if (pieceLengthBytes === leafSizeBytes) return createHash('sha256').update(bytes).digest();
  const combined = createHash('sha256');
  for (let at = 0; at < bytes.byteLength; at += leafSizeBytes) {
    combined.update(
      createHash('sha256')
        .update(bytes.subarray(at, at + leafSizeBytes))
        .digest(),
    );
  }
  return combined.digest();
}

/** Hashes leaves while a blob of unknown length streams by; 32 bytes are kept for each 256 KiB. */
export class MetainfoBuilder {
  readonly #leaves: Buffer[] = [];
  #leaf: Hash = createHash('sha256');
  #leafBytes = 0;
  #sizeBytes = 0;

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  update(bytes: Uint8Array): this {
    let at = 0;
    while (at < bytes.byteLength) {
      const take = Math.min(bytes.byteLength - at, leafSizeBytes - this.#leafBytes);
      this.#leaf.update(bytes.subarray(at, at + take));
      this.#leafBytes += take;
      at += take;
      if (this.#leafBytes === leafSizeBytes) this.#closeLeaf();
    }
    this.#sizeBytes += bytes.byteLength;
    return this;
  }

  /** Ends the builder. `digest` is the blob's digest, which the caller computed over the same bytes. */
  finish(digest: Digest): Metainfo {
    if (this.#leafBytes > 0) this.#closeLeaf();
    return metainfoOfLeaves(digest, this.#sizeBytes, Buffer.concat(this.#leaves));
  }

  #closeLeaf(): void {
    this.#leaves.push(this.#leaf.digest());
    this.#leaf = createHash('sha256');
    this.#leafBytes = 0;
  }
}

/** The metainfo of a blob from the hashes of all its leaves, one after the other. */
export function metainfoOfLeaves(digest: Digest, sizeBytes: number, leaves: Uint8Array): Metainfo {
  assert(leaves.byteLength === pieceCountOf(sizeBytes, leafSizeBytes) * hashSizeBytes, 'a blob has all of its leaves');
  const pieceLengthBytes = pieceLengthFor(sizeBytes);
  if (pieceLengthBytes === leafSizeBytes) return metainfoOf({ digest, sizeBytes, pieceLengthBytes, pieceHashes: Uint8Array.from(leaves) });
  const pieceHashes = new Uint8Array(pieceCountOf(sizeBytes, pieceLengthBytes) * hashSizeBytes);
  const leavesOfPieceBytes = (pieceLengthBytes / leafSizeBytes) * hashSizeBytes;
  for (let at = 0, leafAt = 0; at < pieceHashes.byteLength; at += hashSizeBytes, leafAt += leavesOfPieceBytes) {
    pieceHashes.set(
      createHash('sha256')
        .update(leaves.subarray(leafAt, leafAt + leavesOfPieceBytes))
        .digest(),
      at,
    );
  }
  return metainfoOf({ digest, sizeBytes, pieceLengthBytes, pieceHashes });
}
