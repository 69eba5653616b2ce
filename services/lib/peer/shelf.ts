/**
 * The blobs the engine knows of and can serve: running downloads, and complete blobs that are loaded when a peer asks and taken out
 * again when nobody has asked for a while, so that idle seeds cost nothing.
 */

import type { PeerDirectory } from '#cluster';
import { AppError, type Clock, type Digest, type Logger, type Metainfo, toAppError } from '#core';
import type { BlobStore, ReadableBlob } from '#storage';
import type { Engine } from './engine.ts';
import { SharedBlob } from './shared-blob.ts';
import type { Background } from './waiting.ts';

export interface ShelfDeps {
  readonly engine: Engine;
  readonly store: BlobStore;
  readonly directory: PeerDirectory;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly background: Background;
  /** Called before a complete blob leaves the engine. */
  readonly beforeUnload: (digest: Digest) => void;
}

interface Entry {
  readonly metainfo: Metainfo;
  /** Open for the links; undefined while nobody has read yet. */
  shared: Promise<SharedBlob> | undefined;
  linkCount: number;
  /** A download is running: it says when it ends. */
  downloading: boolean;
  cancelIdle: (() => void) | undefined;
}

export class Shelf {
  readonly #idleMs: number;
  readonly #deps: ShelfDeps;
  readonly #entries = new Map<Digest, Entry>();

  constructor(options: { readonly seedIdleMs: number }, deps: ShelfDeps) {
    this.#idleMs = options.seedIdleMs;
    this.#deps = deps;
  }

  /** A download begins; the shelf becomes a user of its blob. Tell the engine afterwards. */
  host(blob: SharedBlob): void {
    const { metainfo } = blob;
    this.#entries.set(metainfo.digest, {
      metainfo,
      shared: Promise.resolve(blob.retain()),
      linkCount: 0,
      downloading: true,
      cancelIdle: undefined,
    });
  }

  /** The download of a blob is complete: from now on it is a seed like any other. */
  completed(digest: Digest): void {
    const entry = this.#entries.get(digest);
    if (entry === undefined) return;
    entry.downloading = false;
    this.#maybeIdle(digest, entry);
  }

  /** A peer asks for the blob: loads it into the engine when it is complete on disk. Call before `link-requested`. */
  linkOpened(digest: Digest): void {
    let entry = this.#entries.get(digest);
    if (entry === undefined) {
      const metainfo = this.#deps.store.metainfo(digest);
      if (metainfo === undefined) return;
      entry = { metainfo, shared: undefined, linkCount: 0, downloading: false, cancelIdle: undefined };
      this.#entries.set(digest, entry);
      const owners = this.#deps.directory.owners(digest);
      this.#deps.engine.post({ type: 'blob-seeded', metainfo, owners });
    }
    entry.linkCount += 1;
    entry.cancelIdle?.();
    entry.cancelIdle = undefined;
  }

  linkClosed(digest: Digest): void {
    const entry = this.#entries.get(digest);
    if (entry === undefined || entry.linkCount === 0) return;
    entry.linkCount -= 1;
    this.#maybeIdle(digest, entry);
  }

  metainfo(digest: Digest): Metainfo | undefined {
    return this.#entries.get(digest)?.metainfo;
  }

  /** The blob for one read: release it afterwards. Throws `not-found` when it has gone. */
  async acquire(digest: Digest): Promise<SharedBlob> {
    const entry = this.#entries.get(digest);
    if (entry === undefined) throw gone(digest);
    entry.shared ??= this.#open(digest, entry);
    const shared = await entry.shared;
    // It may have been taken out meanwhile, and closed.
    if (this.#entries.get(digest) !== entry) throw gone(digest);
    return shared.retain();
  }

  /** Takes a blob out of the engine: it was removed, or its download ended without success. Its links close. */
  drop(digest: Digest): void {
    const entry = this.#entries.get(digest);
    if (entry === undefined) return;
    this.#entries.delete(digest);
    entry.cancelIdle?.();
    this.#deps.engine.post({ type: 'blob-forgotten', digest });
    this.#deps.background.run(this.#release(entry));
  }

  /** Closes all files; for the end of the process, when the engine has stopped. */
  async close(): Promise<void> {
    const entries = [...this.#entries.values()];
    this.#entries.clear();
    for (const entry of entries) {
      entry.cancelIdle?.();
      await this.#release(entry);
    }
  }

  #maybeIdle(digest: Digest, entry: Entry): void {
    if (entry.linkCount > 0 || entry.downloading || entry.cancelIdle !== undefined) return;
    entry.cancelIdle = this.#deps.clock.after(this.#idleMs, () => {
      this.#deps.beforeUnload(digest);
      this.drop(digest);
    });
  }

  async #open(digest: Digest, entry: Entry): Promise<SharedBlob> {
    let blob: ReadableBlob | undefined;
    try {
      blob = await this.#deps.store.open(digest);
    } catch (error) {
      entry.shared = undefined;
      throw error;
    }
    if (blob === undefined) {
      entry.shared = undefined;
      throw gone(digest);
    }
    return new SharedBlob(blob, this.#deps.logger);
  }

  async #release(entry: Entry): Promise<void> {
    try {
      await (await entry.shared)?.release();
    } catch (error) {
      this.#deps.logger.debug('a seed had not been opened', { error: toAppError(error) });
    }
  }
}

function gone(digest: Digest): AppError {
  return new AppError('not-found', 'the blob is not here any more; ask another peer', { data: { kind: 'blob', digest } });
}
