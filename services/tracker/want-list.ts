/** Who would still take peers, by blob: newcomers are offered to the one who has waited longest. */
import type { Digest } from '#core';

export class WantList<S> {
  /** The places each subscriber has left, longest waiting first. */
  readonly #wants = new Map<Digest, Map<S, number>>();

  /** `subscriber` takes `count` more peers of the blob; 0 or less: none. */
  set(digest: Digest, subscriber: S, count: number): void {
    if (count <= 0) {
      this.delete(digest, subscriber);
      return;
    }
    const wants = this.#wants.get(digest) ?? new Map<S, number>();
    this.#wants.set(digest, wants);
    wants.set(subscriber, count);
  }

  delete(digest: Digest, subscriber: S): void {
    const wants = this.#wants.get(digest);
    wants?.delete(subscriber);
    if (wants?.size === 0) this.#wants.delete(digest);
  }

  /** Takes one place each from up to `count` subscribers other than `except`; who has places left waits again, last. */
  take(digest: Digest, count: number, except: S): S[] {
    const wants = this.#wants.get(digest);
    if (wants === undefined) return [];
    const taken: S[] = [];
    for (const subscriber of wants.keys()) {
      if (taken.length >= count) break;
      if (subscriber !== except) taken.push(subscriber);
    }
    for (const subscriber of taken) {
      const left = (wants.get(subscriber) ?? 1) - 1;
      wants.delete(subscriber);
      if (left > 0) wants.set(subscriber, left);
    }
    if (wants.size === 0) this.#wants.delete(digest);
    return taken;
  }

  /** Blobs somebody wants peers for. */
  get blobCount(): number {
    return this.#wants.size;
  }
}
