/**
 * Whether a blob that a repository shows still exists somewhere. A client skips a layer that a registry says it has, so an answer from the link
 * alone would make a lost blob impossible to repair by another push.
 */
import type { OriginCluster } from '#cluster';
import { type CallOptions, type Clock, type Digest, isAppError } from '#core';
import type { BlobStore } from '#storage';

/** Long enough for the many questions of one push, short enough that a loss shows in the next one. */
const freshMs = 30_000;
/** A few megabytes; more blobs than any image has. */
const entriesMax = 10_000;

export interface BlobHoldersDeps {
  /** This node's blobs. */
  readonly store: Pick<BlobStore, 'stat'>;
  readonly origins: Pick<OriginCluster, 'getMetainfo'>;
  readonly clock: Pick<Clock, 'nowMs'>;
}

export class BlobHolders {
  readonly #deps: BlobHoldersDeps;
  /** When an owner was last known to hold it; the least recently asked for comes first. */
  readonly #seenMs = new Map<Digest, number>();

  constructor(deps: BlobHoldersDeps) {
    this.#deps = deps;
  }

  /**
   * True when an owner or durable storage holds the blob; that yes is believed for 30 seconds. False only when every owner says no: a copy on this
   * node alone is a cache that no other node finds, and pushing the blob again repairs the loss. While the owners do not answer, a copy
   * here will do; without one it throws `unavailable`.
   */
  async holds(digest: Digest, options: CallOptions): Promise<boolean> {
    const { store, origins, clock } = this.#deps;
    const seenMs = this.#seenMs.get(digest);
    this.#seenMs.delete(digest);
    if (seenMs !== undefined && clock.nowMs() - seenMs < freshMs) {
      this.#seenMs.set(digest, seenMs);
      return true;
    }
    try {
      await origins.getMetainfo(digest, options);
    } catch (error) {
      if (isAppError(error, 'not-found')) return false;
      if (isAppError(error, 'unavailable', 'deadline-exceeded') && store.stat(digest) !== undefined) return true;
      throw error;
    }
    this.#remember(digest, clock.nowMs());
    return true;
  }

  #remember(digest: Digest, nowMs: number): void {
    this.#seenMs.delete(digest);
    this.#seenMs.set(digest, nowMs);
    if (this.#seenMs.size <= entriesMax) return;
    for (const oldest of this.#seenMs.keys()) {
      this.#seenMs.delete(oldest);
      return;
    }
  }
}
