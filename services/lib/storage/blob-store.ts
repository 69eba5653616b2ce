/** The port to blobs on a node's own disk: complete ones, and partial ones that a download fills piece by piece. */
import { assert, type Bitfield, type ByteRange, type Digest, type Metainfo } from '#core';

/** Bytes that can be read at any position inside what is present. Reads of absent bytes are programmer errors. */
export interface ReadableBlob extends AsyncDisposable {
  readonly metainfo: Metainfo;
  /** Fills `target` from `positionBytes`. Throws `data-loss` when the file is shorter than it should be. */
  readInto(target: Uint8Array, positionBytes: number): Promise<void>;
}

/** A blob being filled. Several writers and readers may work on it at once. */
export interface PartialBlob extends ReadableBlob {
  /** Pieces on disk; survives a restart of the process. Owned by the store: read only. */
  readonly have: Bitfield;
  /**
   * Writes one piece whose hash the caller has verified. Writing a piece twice is harmless. The prefix that has become
   * contiguous is hashed on the way, so that `commit` need not read the blob again.
   */
  writePiece(index: number, bytes: Uint8Array): Promise<void>;
  /**
   * All pieces are there: checks the whole blob's digest, fsyncs file and directory when asked, and makes it a complete blob.
   * Throws `digest-mismatch` (and discards the data) when the bytes are not the blob, `aborted` when the blob was deleted meanwhile.
   * Quiet when the blob is complete already. This handle stays readable until disposed.
   */
  commit(options: { readonly fsync: boolean }): Promise<void>;
}

export interface StoredBlob {
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Unix milliseconds of the last open, at a resolution of a minute. */
  readonly lastUsedMs: number;
  /** Never evicted while true (for instance before its write-back). */
  readonly pinned: boolean;
}

export interface StoreOptions {
  /** The bytes and the row are on the disk itself when the call resolves. */
  readonly fsync: boolean;
  /** The blob is pinned from its first moment on; one that is there already is pinned too. False unpins nothing. */
  readonly pinned?: boolean;
}

export interface BlobStore extends AsyncDisposable {
  /** A complete blob, from memory. Does not count as use. */
  stat(digest: Digest): StoredBlob | undefined;
  /** A complete blob's metainfo, or undefined when the blob is not complete here. */
  metainfo(digest: Digest): Metainfo | undefined;
  /** Opens a complete blob for reading; undefined when it is not here. An open blob is not evicted under its reader. */
  open(digest: Digest): Promise<ReadableBlob | undefined>;
  /**
   * Opens or creates the partial blob for `metainfo`; undefined when the blob is complete. Reserves the whole size: throws
   * `resource-exhausted` when the space cannot be made, `failed-precondition` while the blob is open with other metainfo. A partial
   * blob that nobody has open may be evicted like a complete one.
   */
  openPartial(metainfo: Metainfo): Promise<PartialBlob | undefined>;
  /** Partial blobs on disk, for a restart. */
  partials(): readonly Metainfo[];
  /** Stores a small blob (at most 64 MiB) at once, verified and (when asked) fsynced. Returns its metainfo. Throws `digest-mismatch`. */
  put(digest: Digest, bytes: Uint8Array, options: StoreOptions): Promise<Metainfo>;
  /**
   * Takes over a finished file (same filesystem) whose digest the caller has verified, by rename. Replaces nothing: an existing
   * blob stays and the file is removed; asked again after a success, it succeeds though the file is gone. Throws `not-found` (kind
   * `upload`) when neither the file nor the blob is there.
   */
  adopt(path: string, metainfo: Metainfo, options: StoreOptions): Promise<void>;
  /** A complete blob is on the disk itself when this resolves, whatever it was stored with. Throws `not-found` (kind `blob`) when it is not here. */
  sync(digest: Digest): Promise<void>;
  /** Complete blobs in digest order, after `after`. */
  list(page: { readonly limit: number; readonly after?: Digest }): readonly StoredBlob[];
  /** Durable when it resolves. Throws `not-found` (kind `blob`) when the blob is not complete here. */
  setPinned(digest: Digest, pinned: boolean): Promise<void>;
  /** Removes a complete or partial blob; true when there was one. Open handles stay readable. */
  delete(digest: Digest): Promise<boolean>;
  /** Called for each blob that leaves by eviction or delete. Returns the unsubscribe function. */
  onRemoved(listener: (digest: Digest) => void): () => void;
  /** Bytes of complete and partial blobs, and the configured most. */
  usage(): { readonly usedBytes: number; readonly capacityBytes: number };
}

/** One that the caller has, one that it has sent most of, one that is read ahead. */
const lentBuffers = 3;

/** The memory of the chunks of one reader, used in turn: what was lent is written over two chunks later. */
export class LentChunks {
  readonly chunkBytes: number;
  readonly #buffers: Buffer[] = [];
  #turn = 0;

  constructor(chunkBytes: number) {
    this.chunkBytes = chunkBytes;
  }

  /** At most `chunkBytes`. Each of the three comes into being when it is first needed. */
  next(sizeBytes: number): Buffer {
    assert(sizeBytes <= this.chunkBytes, 'a chunk fits the memory that is lent');
    this.#turn = (this.#turn + 1) % lentBuffers;
    const buffer = this.#buffers[this.#turn] ?? Buffer.allocUnsafeSlow(this.chunkBytes);
    this.#buffers[this.#turn] = buffer;
    return buffer.subarray(0, sizeBytes);
  }
}

/**
 * All bytes of a range in chunks of at most `chunkBytes`, one of them read ahead. `lend` is that of `BlobReader.read`; whoever reads range after range
 * for one receiver passes the memory.
 */
export async function* readRange(
  blob: ReadableBlob,
  range: ByteRange,
  options: { readonly signal: AbortSignal; readonly chunkBytes?: number; readonly lend?: boolean | LentChunks },
): AsyncGenerator<Uint8Array> {
  const { lend = false } = options;
  const givenBytes = typeof lend === 'boolean' ? options.chunkBytes : lend.chunkBytes;
  const chunkBytes = Math.min(givenBytes ?? 1024 * 1024, range.endByte - range.startByte);
  const lent = lend === true ? new LentChunks(chunkBytes) : lend;
  const readAt = async (at: number): Promise<Buffer> => {
    const sizeBytes = Math.min(chunkBytes, range.endByte - at);
    const chunk = lent === false ? Buffer.allocUnsafe(sizeBytes) : lent.next(sizeBytes);
    await blob.readInto(chunk, at);
    return chunk;
  };
  let ahead: Promise<Buffer> | undefined;
  try {
    for (let at = range.startByte; at < range.endByte; ) {
      options.signal.throwIfAborted();
      const chunk = await (ahead ?? readAt(at));
      at += chunk.byteLength;
      ahead = at < range.endByte ? readAt(at) : undefined;
      // Its failure is thrown by the next round.
      ahead?.catch(() => undefined);
      yield chunk;
    }
  } finally {
    // The blob may be closed once this has ended.
    await ahead?.catch(() => undefined);
  }
}
