/** The readers handed out by `open`: of a complete blob, of one still on its way, and of bytes in memory. */
import { AppError, type BlobReader, type ByteRange, type CallOptions, piecesOfRange, type ReadOptions } from '#core';
import { type BlobStore, LentChunks, type PartialBlob, type ReadableBlob, readRange } from '#storage';
import type { ReaderId } from '#swarm';
import type { Interest } from './downloads.ts';
import type { SharedPiece } from './piece-waiters.ts';
import type { SharedBlob } from './shared-blob.ts';

/** Chunks from disk: large enough to be cheap, small enough for a reader that stops early. A reader has up to three of them. */
const chunkBytes = 512 * 1024;
/** Of a few readers at a time they are larger: a quarter more throughput, for 6 MiB each. */
const largeChunkBytes = 2 * 1024 * 1024;
const largeReadsMax = 8;
/** A shorter range ends before that is worth its memory. */
const largeRangeBytesMin = 16 * 1024 * 1024;

/** The places for readers with large chunks. */
export class LargeReads {
  #count = 0;

  enter(): boolean {
    if (this.#count >= largeReadsMax) return false;
    this.#count += 1;
    return true;
  }

  leave(): void {
    this.#count -= 1;
  }
}

/** Told the time of the first byte, once. */
export type FirstByte = () => void;

/** A complete blob. */
export class StoredReader implements BlobReader {
  readonly sizeBytes: number;
  readonly #blob: ReadableBlob;
  readonly #largeReads: LargeReads;

  constructor(blob: ReadableBlob, largeReads: LargeReads) {
    this.#blob = blob;
    this.#largeReads = largeReads;
    this.sizeBytes = blob.metainfo.sizeBytes;
  }

  async *read(range: ByteRange, { signal, lend = false }: ReadOptions): AsyncGenerator<Uint8Array> {
    checkRange(range, this.sizeBytes);
    const isLarge = lend && range.endByte - range.startByte >= largeRangeBytesMin && this.#largeReads.enter();
    try {
      yield* readRange(this.#blob, range, { signal, chunkBytes: isLarge ? largeChunkBytes : chunkBytes, lend });
    } finally {
      if (isLarge) this.#largeReads.leave();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#blob[Symbol.asyncDispose]();
  }
}

/** A tiny blob in memory. */
export class BytesReader implements BlobReader {
  readonly sizeBytes: number;
  readonly isAtHand = true;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.sizeBytes = bytes.byteLength;
  }

  async *read(range: ByteRange, { signal }: CallOptions): AsyncGenerator<Uint8Array> {
    checkRange(range, this.sizeBytes);
    signal.throwIfAborted();
    if (range.endByte > range.startByte) yield this.#bytes.subarray(range.startByte, range.endByte);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Nothing is held.
  }
}

export interface DownloadReaderDeps {
  readonly interest: Interest;
  /** The reader becomes a user of it. */
  readonly blob: SharedBlob<PartialBlob>;
  /** Read when the blob turns up there by another way. */
  readonly store: BlobStore;
  readonly newReaderId: () => ReaderId;
  readonly firstByte: FirstByte;
  readonly readAheadBytes: number;
}

/** How a read goes: whether its bytes are lent, and in which memory those from disk. */
interface Reading {
  readonly signal: AbortSignal;
  readonly lend: false | LentChunks;
}

/**
 * A blob on its way: pieces in order, each as soon as it is verified, out of memory when it has just come and else from disk. The same handle reads on when
 * the blob is complete.
 */
export class DownloadReader implements BlobReader {
  readonly sizeBytes: number;
  readonly #deps: DownloadReaderDeps;
  readonly #blob: SharedBlob<PartialBlob>;
  readonly #ended = new AbortController();
  #readCount = 0;
  #closed = false;

  constructor(deps: DownloadReaderDeps) {
    this.#deps = deps;
    this.#blob = deps.blob.retain();
    this.sizeBytes = deps.blob.metainfo.sizeBytes;
  }

  async *read(range: ByteRange, options: ReadOptions): AsyncGenerator<Uint8Array> {
    checkRange(range, this.sizeBytes);
    const { download } = this.#deps.interest;
    const { pieceLengthBytes } = this.#blob.metainfo;
    const { first, end } = piecesOfRange(range, pieceLengthBytes);
    const signal = AbortSignal.any([options.signal, this.#ended.signal]);
    signal.throwIfAborted();
    const reading: Reading = { signal, lend: options.lend === true && new LentChunks(chunkBytes) };
    let lentPiece: SharedPiece | undefined;
    const reader = this.#deps.newReaderId();
    const aheadCount = Math.max(1, Math.floor(this.#deps.readAheadBytes / pieceLengthBytes));
    this.#blob.retain();
    this.#readCount += 1;
    try {
      for (let piece = first; piece < end; piece += 1) {
        if (!download.hasPiece(piece)) download.readerMoved(reader, piece, Math.min(end, piece + aheadCount));
        const shared = await download.piece(piece, signal);
        const pieceStart = piece * pieceLengthBytes;
        const from = Math.max(range.startByte, pieceStart);
        const to = Math.min(range.endByte, pieceStart + pieceLengthBytes);
        if (this.#readCount === 1 && piece === first) this.#deps.firstByte();
        if (shared !== undefined) {
          yield shared.bytes.subarray(from - pieceStart, to - pieceStart);
        } else if (download.hasPiece(piece)) {
          yield* readRange(this.#blob.blob, { startByte: from, endByte: to }, { ...reading, chunkBytes });
        } else {
          yield* this.#readStored({ startByte: from, endByte: range.endByte }, reading);
          return;
        }
        // Another chunk was yielded after the piece before, and one more is asked for: nobody has that piece any more.
        if (reading.lend !== false) lentPiece?.release();
        lentPiece = shared;
      }
    } finally {
      download.readerClosed(reader);
      await this.#blob.release();
    }
  }

  /** The rest, from a blob that was stored while it was being downloaded. */
  async *#readStored(range: ByteRange, reading: Reading): AsyncGenerator<Uint8Array> {
    const stored = await this.#deps.store.open(this.#blob.metainfo.digest);
    if (stored === undefined) throw new AppError('aborted', 'the blob was deleted while it was being read; ask again');
    await using blob = stored;
    yield* readRange(blob, range, { ...reading, chunkBytes });
  }

  /** Reads under way end with an error; the interest in the blob is given up. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#ended.abort(new AppError('cancelled', 'the reader was closed'));
    this.#deps.interest.release();
    await this.#blob.release();
  }
}

/** Throws `out-of-range` unless the range lies inside the blob. */
function checkRange({ startByte, endByte }: ByteRange, sizeBytes: number): void {
  if (startByte >= 0 && startByte <= endByte && endByte <= sizeBytes) return;
  throw new AppError('out-of-range', `the range must lie inside the blob of ${sizeBytes} bytes`, { data: { startByte, endByte } });
}
