/** Copies owned blobs to durable storage: a durable queue, retried without end; a blob stays pinned on disk until its copy is acknowledged. */
import { AppError, type Digest, type Logger, type Meter, parseDigest } from '#core';
import { type BlobBackend, type BlobStore, type DurableQueue, readRange } from '#storage';

export interface WriteBackOptions {
  /** Blobs written at the same time. */
  readonly concurrency: number;
  /** How much longer each further owner of a blob waits than the one before it. */
  readonly staggerMs: number;
}

export interface WriteBackDeps {
  readonly queue: DurableQueue<Digest>;
  readonly store: BlobStore;
  /** Undefined when no durable storage is configured: nothing is queued then. */
  readonly backend: BlobBackend | undefined;
  /** This origin's place among the owners of a blob: 0 for the first. */
  readonly rankOf: (digest: Digest) => number;
  readonly logger: Logger;
  readonly meter: Meter;
}

export interface PendingWriteBack {
  readonly digest: Digest;
  readonly attemptCount: number;
  readonly lastError: string;
}

/** Reads a queued digest back. Throws `invalid-argument` for anything else. */
export function decodeWriteBack(payload: unknown): Digest {
  return parseDigest(String(payload));
}

export class WriteBack {
  readonly #options: WriteBackOptions;
  readonly #deps: WriteBackDeps;

  constructor(options: WriteBackOptions, deps: WriteBackDeps) {
    this.#options = options;
    this.#deps = deps;
    deps.meter.gauge('shoal_origin_write_back_blobs', 'Blobs that wait to be written to durable storage', () => deps.queue.size());
  }

  /**
   * Durable once it resolves: pins the blob, then queues it. Pinned first, so that a crash between the two only keeps too much. The first owner
   * writes at once; each further one waits in case those before it are lost, and usually finds the copy there.
   */
  async enqueue(digest: Digest): Promise<void> {
    if (this.#deps.backend === undefined) return;
    await this.#deps.store.setPinned(digest, true);
    await this.#deps.queue.enqueue(digest, digest, { delayMs: this.#deps.rankOf(digest) * this.#options.staggerMs });
  }

  /** The blob is known to be in durable storage; false also when the storage does not answer. */
  async isDone(digest: Digest, options: { readonly signal: AbortSignal }): Promise<boolean> {
    if (this.#deps.backend === undefined || this.isPending(digest)) return false;
    return (await this.#deps.backend.stat(digest, options).catch(() => undefined)) !== undefined;
  }

  isPending(digest: Digest): boolean {
    return this.#deps.queue.has(digest);
  }

  /** In digest order, after `after`. */
  list(page: { readonly limit: number; readonly after?: Digest }): readonly PendingWriteBack[] {
    return this.#deps.queue.list(page).map(({ key, attempts, lastError = '' }) => ({
      digest: parseDigest(key),
      attemptCount: attempts,
      lastError,
    }));
  }

  state(): { readonly healthy: boolean; readonly message: string } {
    const count = this.#deps.queue.size();
    const [first] = this.#deps.queue.list({ limit: 1 });
    const failing = first !== undefined && first.attempts > 0;
    return { healthy: !failing, message: failing ? `${count} waiting; the first failed ${first.attempts} times` : `${count} waiting` };
  }

  async run(options: { readonly signal: AbortSignal }): Promise<void> {
    const { queue, backend } = this.#deps;
    if (backend === undefined) return;
    await queue.run(async (digest, call) => this.#write(backend, digest, call), {
      concurrency: this.#options.concurrency,
      signal: options.signal,
    });
  }

  async #write(backend: BlobBackend, digest: Digest, options: { readonly signal: AbortSignal }): Promise<void> {
    const { store, logger } = this.#deps;
    await using blob = await store.open(digest);
    if (blob === undefined) {
      if ((await backend.stat(digest, options)) !== undefined) return;
      throw new AppError('data-loss', 'a blob vanished from disk before it was written to durable storage; restore it from another owner');
    }
    const { sizeBytes } = blob.metainfo;
    if ((await backend.stat(digest, options)) !== sizeBytes) {
      await backend.write(digest, sizeBytes, readRange(blob, { startByte: 0, endByte: sizeBytes }, options), options);
    }
    await store.setPinned(digest, false);
    logger.info('blob written to durable storage', { digest, sizeBytes, backend: backend.name });
  }
}
