/** Brings a blob back from durable storage: one read per blob however many ask, hashed on the way, complete or not at all. */
import { mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, algorithmOf, type Digest, DigestHasher, hexOf, type Logger, type Metainfo, MetainfoBuilder } from '#core';
import type { BlobBackend, BlobStore } from '#storage';

/** Blobs read from storage at the same time; more would only share its bandwidth. */
const concurrencyMax = 16;

export interface RefillDeps {
  readonly store: BlobStore;
  readonly backend: BlobBackend | undefined;
  readonly logger: Logger;
}

export class Refill {
  readonly #root: string;
  readonly #deps: RefillDeps;
  readonly #running = new Map<Digest, Promise<Metainfo | undefined>>();

  constructor(options: { readonly root: string }, deps: RefillDeps) {
    this.#root = options.root;
    this.#deps = deps;
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
    const { signal } = new AbortController();
    const sizeBytes = await backend.stat(digest, { signal });
    if (sizeBytes === undefined) return undefined;
    const path = join(this.#root, hexOf(digest));
    await mkdir(this.#root, { recursive: true });
    try {
      const metainfo = await this.#copy(backend, digest, path);
      await this.#deps.store.adopt(path, metainfo, { fsync: true });
      this.#deps.logger.info('blob read from durable storage', { digest, sizeBytes: metainfo.sizeBytes, backend: backend.name });
      return metainfo;
    } finally {
      await rm(path, { force: true });
    }
  }

  async #copy(backend: BlobBackend, digest: Digest, path: string): Promise<Metainfo> {
    const hasher = new DigestHasher(algorithmOf(digest));
    const builder = new MetainfoBuilder();
    await using file = await open(path, 'w');
    for await (const chunk of backend.read(digest, undefined, { signal: new AbortController().signal })) {
      hasher.update(chunk);
      builder.update(chunk);
      await file.write(chunk);
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
