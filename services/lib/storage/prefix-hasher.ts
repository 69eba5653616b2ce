/**
 * The digest of a blob whose pieces arrive in any order. It hashes the contiguous prefix. Of a small blob a piece that is next comes from memory while
 * it is being written, and pieces behind a gap are read back from the file once the gap closes; the file of a large one is read by the thread for hashing.
 */

import type { FileHandle } from 'node:fs/promises';
import { algorithmOf, type Bitfield, type Digest, DigestHasher, type Metainfo, pieceSize } from '#core';
import type { BufferPool } from './buffer-pool.ts';
import type { ThreadHasher } from './hash-thread.ts';

export interface PrefixHasherDeps {
  /** Pieces that are in the file and may be read back. */
  readonly have: Bitfield;
  /** Fills the buffer from the file. */
  readonly read: (target: Uint8Array, positionBytes: number) => Promise<void>;
  readonly pool: BufferPool;
  /** Reads and hashes the file instead. */
  readonly threaded?: { readonly hasher: ThreadHasher; readonly file: FileHandle } | undefined;
}

/** Pieces are read back this much at a time before another blob gets its turn with the pool's buffers. */
const turnBytesMax = 8 * 1024 * 1024;

export class PrefixHasher {
  readonly #metainfo: Metainfo;
  readonly #deps: PrefixHasherDeps;
  #hasher: DigestHasher;
  /** Pieces before this one are hashed. */
  #next = 0;
  /** Reads back pieces at the moment; until it ends nothing is hashed from memory. */
  #catchingUp: Promise<void> | undefined;

  constructor(metainfo: Metainfo, deps: PrefixHasherDeps) {
    this.#metainfo = metainfo;
    this.#deps = deps;
    this.#hasher = new DigestHasher(algorithmOf(metainfo.digest));
  }

  /** A piece is about to be written: hashes it when it is the next one. Free of waiting. */
  offer(index: number, bytes: Uint8Array): void {
    if (index !== this.#next || this.#catchingUp !== undefined || this.#deps.threaded !== undefined) return;
    this.#hasher.update(bytes);
    this.#next += 1;
  }

  /** A piece offered before was not written after all: what was hashed is in doubt, so hashing starts again. */
  retract(index: number): void {
    if (index < this.#next && this.#deps.threaded === undefined) this.#restart();
  }

  /** A piece was written: when that closed a gap, reads back what follows, in the background. A failed read shows in {@link finish}. */
  advance(): void {
    if (this.#catchingUp !== undefined || !this.#deps.have.has(this.#next)) return;
    const done = (): void => {
      this.#catchingUp = undefined;
    };
    this.#catchingUp = this.#catchUp().then(done, done);
  }

  /** All pieces are written: the digest of the whole blob. Throws what reading back throws. The hasher stays usable. */
  async finish(): Promise<Digest> {
    while (this.#catchingUp !== undefined) await this.#catchingUp;
    const { threaded } = this.#deps;
    if (threaded !== undefined) {
      await threaded.hasher.readTo(threaded.file, this.#metainfo.sizeBytes);
      return await threaded.hasher.digest();
    }
    await this.#catchUp();
    return this.#hasher.peek();
  }

  /** Nothing is asked for a while. */
  end(): void {
    this.#deps.threaded?.hasher.end();
  }

  /** Resolves when nothing reads the file. */
  async idle(): Promise<void> {
    while (this.#catchingUp !== undefined) await this.#catchingUp;
  }

  async #catchUp(): Promise<void> {
    const { threaded } = this.#deps;
    if (threaded !== undefined) return await this.#catchUpThreaded(threaded);
    while (this.#deps.have.has(this.#next)) {
      await this.#deps.pool.use(async (buffer) => {
        let turnBytes = 0;
        while (turnBytes < turnBytesMax && this.#deps.have.has(this.#next)) turnBytes += await this.#readBack(buffer);
      });
    }
  }

  async #catchUpThreaded({ hasher, file }: NonNullable<PrefixHasherDeps['threaded']>): Promise<void> {
    const { pieceCount, pieceLengthBytes, sizeBytes } = this.#metainfo;
    while (this.#next < pieceCount && this.#deps.have.has(this.#next)) {
      let end = this.#next + 1;
      while (end < pieceCount && this.#deps.have.has(end)) end += 1;
      await hasher.readTo(file, Math.min(end * pieceLengthBytes, sizeBytes));
      this.#next = end;
    }
  }

  async #readBack(buffer: Buffer): Promise<number> {
    const hasher = this.#hasher;
    const sizeBytes = pieceSize(this.#metainfo, this.#next);
    const startByte = this.#next * this.#metainfo.pieceLengthBytes;
    try {
      for (let at = 0; at < sizeBytes; at += buffer.byteLength) {
        const chunk = buffer.subarray(0, Math.min(buffer.byteLength, sizeBytes - at));
        await this.#deps.read(chunk, startByte + at);
        hasher.update(chunk);
      }
    } catch (error) {
      this.#restart();
      throw error;
    }
    // A retraction in between has started afresh with another hasher.
    if (hasher === this.#hasher) this.#next += 1;
    return sizeBytes;
  }

  #restart(): void {
    this.#hasher = new DigestHasher(algorithmOf(this.#metainfo.digest));
    this.#next = 0;
  }
}
