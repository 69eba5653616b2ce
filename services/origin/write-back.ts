/** Copies owned blobs to durable storage: a durable queue, retried without end; a blob stays pinned on disk until its copy is acknowledged. */
import { AppError, type Digest, type Logger, type Meter, parseDigest } from '#core';
import { type BlobBackend, type BlobStore, type DurableQueue, readRange } from '#storage';

export interface WriteBackDeps {
  readonly queue: DurableQueue;
  readonly store: BlobStore;
  /** Undefined when no durable storage is configured: nothing is queued then. */
  readonly backend: BlobBackend | undefined;
  readonly logger: Logger;
  readonly meter: Meter;
}

export interface PendingWriteBack {
  readonly digest: Digest;
  readonly attemptCount: number;
  readonly lastError: string;
}

export class WriteBack {
  readonly #concurrency: number;
  readonly #deps: WriteBackDeps;

  constructor(options: { readonly concurrency: number }, deps: WriteBackDeps) {
    this.#concurrency = options.concurrency;
    this.#deps = deps;
    deps.meter.gauge('shoal_origin_write_back_blobs', 'Blobs that wait to be written to durable storage', () => deps.queue.size());
  }

  /** Durable once it resolves: pins the blob, then queues it. Pinned first, so that a crash between the two only keeps too much. */
  async enqueue(digest: Digest): Promise<void> {
    if (this.#deps.backend === undefined) return;
    await this.#deps.store.setPinned(digest, true);
    await this.#deps.queue.enqueue(digest, digest);
  }

  isPending(digest: Digest): boolean {
    return this.#deps.queue.has(digest);
  }

  list(): readonly PendingWriteBack[] {
    return this.#deps.queue.list().map((task) => ({
      digest: parseDigest(task.key),
      attemptCount: task.attemptCount,
      lastError: task.lastError ?? '',
    }));
  }

  state(): { readonly healthy: boolean; readonly message: string } {
    const count = this.#deps.queue.size();
    const failing = this.#deps.queue.list().filter((task) => task.attemptCount > 0).length;
    return { healthy: failing === 0, message: failing === 0 ? `${count} waiting` : `${failing} of ${count} failing` };
  }

  async run(options: { readonly signal: AbortSignal }): Promise<void> {
    const { queue, backend } = this.#deps;
    if (backend === undefined) return;
    await queue.run(async (payload, call) => this.#write(backend, parseDigest(payload), call), {
      concurrency: this.#concurrency,
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
