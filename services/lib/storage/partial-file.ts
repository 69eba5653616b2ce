/** One partial blob on disk: writes pieces at their place, knows which are there, and hashes the prefix as it grows. */
import type { FileHandle } from 'node:fs/promises';
import { algorithmOf, assert, Bitfield, type Digest, type Metainfo, pieceSize, verifyPiece } from '#core';
import type { BufferPool } from './buffer-pool.ts';
import { readFully, writeFully } from './files.ts';
import { onDisk } from './fs-errors.ts';
import type { HashThread } from './hash-thread.ts';
import { PrefixHasher } from './prefix-hasher.ts';

export interface PartialFileDeps {
  readonly file: FileHandle;
  readonly pool: BufferPool;
  /** Hashes large blobs; without it they are hashed on this thread. */
  readonly hashing?: HashThread | undefined;
}

export class PartialFile {
  readonly metainfo: Metainfo;
  /** Pieces whose bytes are in the file. */
  readonly have: Bitfield;
  /** Pieces added since the bitfield was last persisted. */
  unsavedCount = 0;
  /** Bytes may be in the page cache only. */
  unsynced = false;
  readonly #file: FileHandle;
  readonly #hasher: PrefixHasher;
  readonly #writing = new Map<number, Promise<void>>();

  /** `file` holds the full size and stays the caller's to close, after {@link idle}. */
  constructor(metainfo: Metainfo, have: Bitfield, deps: PartialFileDeps) {
    assert(have.length === metainfo.pieceCount, 'the bitfield is over the pieces of the blob');
    this.metainfo = metainfo;
    this.have = have;
    this.#file = deps.file;
    const read = (target: Uint8Array, positionBytes: number): Promise<void> => readFully(deps.file, target, positionBytes);
    const { hashing } = deps;
    const isLarge = hashing !== undefined && metainfo.sizeBytes >= hashing.sizeBytesMin;
    const hasher = isLarge ? hashing.open({ algorithm: algorithmOf(metainfo.digest), leaves: false }) : undefined;
    const threaded = hasher === undefined ? undefined : { hasher, file: deps.file };
    this.#hasher = new PrefixHasher(metainfo, { have, read, pool: deps.pool, threaded });
  }

  /** Writes a verified piece; one that is there or on its way is not written again. True when this call added it. */
  async writePiece(index: number, bytes: Uint8Array): Promise<boolean> {
    assert(index >= 0 && index < this.metainfo.pieceCount, 'the piece lies inside the blob');
    assert(bytes.byteLength === pieceSize(this.metainfo, index), 'a piece has its whole size');
    if (this.have.has(index)) return false;
    const underWay = this.#writing.get(index);
    if (underWay !== undefined) {
      await underWay;
      return false;
    }
    const write = this.#write(index, bytes);
    this.#writing.set(index, write);
    try {
      await write;
    } finally {
      this.#writing.delete(index);
    }
    return true;
  }

  /** The digest of the whole blob; all pieces must be there. Reads back what is not hashed yet. */
  async finishDigest(): Promise<Digest> {
    assert(this.have.isFull, 'a blob is committed when all of its pieces are there');
    return await onDisk('reading a blob back', () => this.#hasher.finish());
  }

  /** Resolves when no write and no read of this object's own is under way. */
  async idle(): Promise<void> {
    await Promise.allSettled(this.#writing.values());
    await this.#hasher.idle();
  }

  /** No piece is written for a while. What was hashed is forgotten. */
  end(): void {
    this.#hasher.end();
  }

  async #write(index: number, bytes: Uint8Array): Promise<void> {
    this.unsynced = true;
    const written = writeFully(this.#file, bytes, index * this.metainfo.pieceLengthBytes);
    // Hashing here overlaps with the write, which runs on another thread.
    this.#hasher.offer(index, bytes);
    try {
      await onDisk('writing a piece', () => written);
    } catch (error) {
      this.#hasher.retract(index);
      throw error;
    }
    this.have.add(index);
    this.unsavedCount += 1;
    this.#hasher.advance();
  }
}

/**
 * Pieces of `claimed` whose bytes in the file have the right hash. For files whose page cache may have been lost: a
 * bitfield can be on disk before the bytes it speaks of.
 */
export async function verifyPieces(metainfo: Metainfo, claimed: Bitfield, file: FileHandle): Promise<Bitfield> {
  const good = new Bitfield(metainfo.pieceCount);
  const piece = Buffer.allocUnsafe(Math.min(metainfo.pieceLengthBytes, metainfo.sizeBytes));
  for (let index = 0; index < metainfo.pieceCount; index += 1) {
    if (!claimed.has(index)) continue;
    const bytes = piece.subarray(0, pieceSize(metainfo, index));
    await readFully(file, bytes, index * metainfo.pieceLengthBytes);
    if (verifyPiece(metainfo, index, bytes)) good.add(index);
  }
  return good;
}
