/** Brings a blob back from durable storage: one read per blob however many ask, hashed on the way, complete or not at all. */
import { mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, algorithmOf, type Clock, type Digest, DigestHasher, hexOf, type Logger, type Metainfo, MetainfoBuilder } from '#core';
import { type BlobBackend, type BlobStore, onDisk } from '#storage';
import { copyDeadlineMs, statDeadlineMs, withDeadline } from './deadline.ts';
import { requireRoom } from './room.ts';

/** Blobs read from storage at the same time; more would only share its bandwidth. */
const concurrencyMax = 16;

export interface RefillDeps {
  readonly store: BlobStore;
  readonly backend: BlobBackend | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

export class Refill {
  readonly #root: string;
  readonly #deps: RefillDeps;
  readonly #running = new Map<Digest, Promise<Metainfo | undefined>>();
  /** Sizes of the copies under way. */
  #copyingBytes = 0;

  private constructor(options: { readonly root: string }, deps: RefillDeps) {
    this.#root = options.root;
    this.#deps = deps;
  }

  /** Empties folder `root`, which is this object's alone, of what an earlier run did not finish. Throws `unavailable`. */
  static async open(options: { readonly root: string }, deps: RefillDeps): Promise<Refill> {
    await onDisk('emptying the refill folder', async () => {
      await rm(options.root, { recursive: true, force: true });
      await mkdir(options.root, { recursive: true });
    });
    return new Refill(options, deps);
  }

  /**
   * The blob's metainfo once it is in the store; undefined when the storage has no such blob (or none is configured).
   * A caller that goes away does not stop a read that others may need. Throws `unavailable`, `resource-exhausted`, `data-loss`.
   */
  async get(digest: Digest, options: { readonly signal: AbortSignal }): Promise<Metainfo | undefined> {
    const { backend } = this.#deps;
    if (backend === undefined) return undefined;
    const running = this.#running.get(digest) ?? this.#start(backend, digest);
    return new Promise((resolve, reject) => {
      const onAbort = (): void => reject(options.signal.reason);
      if (options.signal.aborted) onAbort();
      options.signal.addEventListener('abort', onAbort, { once: true });
      running.then(resolve, reject).finally(() => options.signal.removeEventListener('abort', onAbort));
    });
  }

  #start(backend: BlobBackend, digest: Digest): Promise<Metainfo | undefined> {
    if (this.#running.size >= concurrencyMax) {
      return Promise.reject(
        new AppError('resource-exhausted', 'too many blobs are being read from durable storage; try again', { retryAfterMs: 1000 }),
      );
    }
    const running = this.#read(backend, digest).finally(() => this.#running.delete(digest));
    this.#running.set(digest, running);
    return running;
  }

  async #read(backend: BlobBackend, digest: Digest): Promise<Metainfo | undefined> {
    const deps = { clock: this.#deps.clock, signal: new AbortController().signal };
    const sizeBytes = await withDeadline(statDeadlineMs, deps, (call) => backend.stat(digest, call));
    if (sizeBytes === undefined) return undefined;
    const path = join(this.#root, hexOf(digest));
    this.#copyingBytes += sizeBytes;
    try {
      await requireRoom({ root: this.#root, sizeBytes, copyingBytes: this.#copyingBytes }, this.#deps);
      const metainfo = await withDeadline(copyDeadlineMs(sizeBytes), deps, (call) => this.#copy(backend, digest, { path, ...call }));
      await this.#deps.store.adopt(path, metainfo, { fsync: true });
      this.#deps.logger.info('blob read from durable storage', { digest, sizeBytes: metainfo.sizeBytes, backend: backend.name });
      return metainfo;
    } finally {
      this.#copyingBytes -= sizeBytes;
      await rm(path, { force: true });
    }
  }

  async #copy(backend: BlobBackend, digest: Digest, options: { readonly path: string; readonly signal: AbortSignal }): Promise<Metainfo> {
    const hasher = new DigestHasher(algorithmOf(digest));
    const builder = new MetainfoBuilder();
    await using file = await onDisk('refilling a blob', () => open(options.path, 'w'));
    for await (const chunk of backend.read(digest, undefined, { signal: options.signal })) {
      hasher.update(chunk);
      builder.update(chunk);
      // Unlike `write`, it goes on when the system takes only a part.
      await onDisk('refilling a blob', () => file.appendFile(chunk));
    }
    if (hasher.finish() !== digest) {
      this.#deps.logger.error('durable storage returned other bytes than the digest names', { digest, backend: backend.name });
      throw new AppError('data-loss', 'durable storage returned other bytes than the digest names; restore the blob there', {
        data: { digest },
      });
    }
    return builder.finish(digest);
  }
}
