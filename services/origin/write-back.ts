/** Copies owned blobs to durable storage: a durable queue, retried without end; a blob stays pinned on disk until its copy is acknowledged. */
import { usualIngestMs } from '#cluster';
import {
  AppError,
  algorithmOf,
  type Clock,
  type Digest,
  DigestHasher,
  isAppError,
  isDigest,
  type Logger,
  type Meter,
  parseDigest,
} from '#core';
import { type BlobBackend, type BlobStore, type DurableQueue, type ReadableBlob, readRange, type StoredBlob } from '#storage';
import { copyDeadlineMs, statDeadlineMs, withDeadline } from './deadline.ts';

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
  /** Starts to fetch a blob from the other owners, which queues it again; called when this disk has lost one that is queued. */
  readonly fetchAgain: (digest: Digest, options: { readonly signal: AbortSignal }) => Promise<void>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly meter: Meter;
}

export interface PendingWriteBack {
  readonly digest: Digest;
  readonly attemptCount: number;
  readonly lastError: string;
}

/** While the other owners of a blob fetch it, but no longer than this, it is not read for storage too: that would slow the push. */
const settleMsMax = 30_000;

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
   * writes when the others should have the blob (10 s for each GB, at most 30 s); each further one waits in case those before it are lost, and
   * usually finds the copy there. It waits no longer once they are down ({@link takeOver}) or have lost the blob ({@link writeNow}).
   */
  async enqueue(digest: Digest): Promise<void> {
    if (this.#deps.backend === undefined) return;
    await this.#deps.store.setPinned(digest, true);
    await this.#deps.queue.enqueue(digest, digest, { delayMs: this.#delayMs(digest) });
  }

  /** An owner has lost a blob that this origin holds: it is written now, whoever's turn it is. */
  async writeNow(digest: Digest): Promise<void> {
    await this.#deps.queue.hasten(digest, 0);
  }

  /** Other origins are up or down than before: what it has become this origin's turn to write waits no longer for those that are gone. */
  async takeOver(options: { readonly signal: AbortSignal }): Promise<void> {
    for (let after: string | undefined; !options.signal.aborted; ) {
      const page = this.#deps.queue.keys({ limit: listPageSize, ...(after === undefined ? {} : { after }) });
      for (const digest of page.filter(isDigest)) await this.#deps.queue.hasten(digest, this.#delayMs(digest));
      after = page.at(-1);
      if (page.length < listPageSize) return;
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
  }

  #delayMs(digest: Digest): number {
    const { sizeBytes = 0 } = this.#deps.store.stat(digest) ?? {};
    return Math.min(settleMsMax, usualIngestMs(sizeBytes)) + this.#deps.rankOf(digest) * this.#options.staggerMs;
  }

  /** The blob is known to be in durable storage; false also when the storage does not answer. */
  async isDone(digest: Digest, options: { readonly signal: AbortSignal }): Promise<boolean> {
    if (this.#deps.backend === undefined || this.isPending(digest)) return false;
    return (await this.#sizeThere(this.#deps.backend, digest, options).catch(() => undefined)) !== undefined;
  }

  /** Gives up writing a blob that is about to be deleted. A write under way ends by itself. */
  async forget(digest: Digest): Promise<void> {
    await this.#deps.queue.remove(digest);
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

  /** Blobs on this disk that durable storage is not known to hold, of a page of the queue in digest order. `next` is where the next page begins. */
  pendingHere(page: { readonly limit: number; readonly after?: Digest }): {
    readonly blobs: readonly StoredBlob[];
    readonly next: Digest | undefined;
  } {
    const digests = this.#deps.queue.keys(page).filter(isDigest);
    const blobs = digests.map((digest) => this.#deps.store.stat(digest)).filter((blob) => blob !== undefined);
    return { blobs, next: digests.length < page.limit ? undefined : digests.at(-1) };
  }

  /** Whether durable storage is configured. */
  get hasStorage(): boolean {
    return this.#deps.backend !== undefined;
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
    await this.#enqueueForgotten(options.signal);
    await queue.run(async (digest, call) => this.#write(backend, digest, call), {
      concurrency: this.#options.concurrency,
      signal: options.signal,
    });
  }

  /** A crash between pin and queue left blobs that nothing would ever unpin. */
  async #enqueueForgotten(signal: AbortSignal): Promise<void> {
    const { store, queue, logger } = this.#deps;
    let after: Digest | undefined;
    while (!signal.aborted) {
      const page = store.list({ limit: listPageSize, ...(after === undefined ? {} : { after }) });
      const forgotten = page.filter(({ digest, pinned }) => pinned && !queue.has(digest));
      for (const { digest } of forgotten) {
        try {
          await this.enqueue(digest);
        } catch (error) {
          // Removed meanwhile, or the queue cannot take it now: the next start tries again.
          logger.warn('a pinned blob could not be queued for durable storage', { digest, error });
        }
      }
      if (page.length < listPageSize) return;
      after = page.at(-1)?.digest;
      // The list is read synchronously: let others go on between two pages.
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
  }

  async #write(backend: BlobBackend, digest: Digest, options: { readonly signal: AbortSignal }): Promise<void> {
    const { store, clock, logger } = this.#deps;
    await using blob = await store.open(digest);
    const sizeThere = await this.#sizeThere(backend, digest, options);
    if (blob === undefined) {
      if (sizeThere === undefined) await this.#fetchAgain(digest, options);
      return;
    }
    const { sizeBytes } = blob.metainfo;
    if (sizeThere !== sizeBytes) {
      try {
        await withDeadline(copyDeadlineMs(sizeBytes), { clock, signal: options.signal }, async (call) =>
          backend.write(digest, sizeBytes, verified(blob, call), call),
        );
      } catch (error) {
        if (isAppError(error, 'digest-mismatch')) await this.#discard(digest);
        throw error;
      }
    }
    await store.setPinned(digest, false);
    logger.info('blob written to durable storage', { digest, sizeBytes, backend: backend.name });
  }

  /** The task stays, and fails until the blob is here again. */
  async #fetchAgain(digest: Digest, options: { readonly signal: AbortSignal }): Promise<never> {
    await this.#deps.fetchAgain(digest, options);
    throw new AppError('data-loss', 'the blob was lost here before it was in durable storage; it is being fetched from another owner');
  }

  async #discard(digest: Digest): Promise<void> {
    this.#deps.logger.error('the disk returned other bytes than were stored: the blob is discarded; check the disk', { digest });
    await this.#deps.store.delete(digest);
  }

  #sizeThere(backend: BlobBackend, digest: Digest, { signal }: { readonly signal: AbortSignal }): Promise<number | undefined> {
    return withDeadline(statDeadlineMs, { clock: this.#deps.clock, signal }, (call) => backend.stat(digest, call));
  }
}

const listPageSize = 1000;

/** The blob's bytes; throws `digest-mismatch` at their end, before a backend shows them to anyone, when they are not the blob. */
async function* verified(blob: ReadableBlob, options: { readonly signal: AbortSignal }): AsyncGenerator<Uint8Array> {
  const { digest, sizeBytes } = blob.metainfo;
  const hasher = new DigestHasher(algorithmOf(digest));
  for await (const chunk of readRange(blob, { startByte: 0, endByte: sizeBytes }, { ...options, lend: true })) {
    hasher.update(chunk);
    yield chunk;
  }
  if (hasher.finish() !== digest) throw new AppError('digest-mismatch', 'the blob on this disk is damaged; it is fetched again');
}
