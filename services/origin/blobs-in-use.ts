/** Keeps the collection of garbage away from blobs that are being taken in at this moment, and the taking in away from blobs being deleted. */
import type { Digest } from '#core';

export class BlobsInUse {
  readonly #holderCounts = new Map<Digest, number>();
  readonly #deleting = new Map<Digest, Promise<unknown>>();

  /** Runs `work`, which takes a blob in; waits first until a deletion under way has ended. */
  async hold<T>(digest: Digest, work: () => Promise<T>): Promise<T> {
    for (let running = this.#deleting.get(digest); running !== undefined; running = this.#deleting.get(digest)) {
      await running.catch(() => undefined);
    }
    this.#holderCounts.set(digest, (this.#holderCounts.get(digest) ?? 0) + 1);
    try {
      return await work();
    } finally {
      const left = (this.#holderCounts.get(digest) ?? 1) - 1;
      if (left === 0) this.#holderCounts.delete(digest);
      else this.#holderCounts.set(digest, left);
    }
  }

  /** Whether the blob is being taken in or deleted at this moment. */
  has(digest: Digest): boolean {
    return this.#holderCounts.has(digest) || this.#deleting.has(digest);
  }

  /** Runs `work`, which deletes a blob, unless somebody holds it: undefined then. */
  async deleteUnlessHeld<T>(digest: Digest, work: () => Promise<T>): Promise<T | undefined> {
    if (this.#holderCounts.has(digest) || this.#deleting.has(digest)) return undefined;
    const running = work();
    this.#deleting.set(digest, running);
    try {
      return await running;
    } finally {
      this.#deleting.delete(digest);
    }
  }
}
