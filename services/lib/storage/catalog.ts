/**
 * What a blob store holds, in memory: who is open, who is pinned, who was used last, and how many bytes that makes. It
 * decides what is evicted; the stores do the removing. Every method is synchronous, so that its decisions cannot interleave.
 */
import { AppError, assert, type Clock, type Digest } from '#core';

/** One blob. `data` is the store's own. An entry that is gone stays counted until its last handle is closed. */
export interface Entry<T> {
  readonly digest: Digest;
  readonly sizeBytes: number;
  state: 'partial' | 'complete';
  pinned: boolean;
  /** Unix milliseconds, whole minutes. */
  lastUsedMs: number;
  refCount: number;
  /** Evicted, deleted or replaced: no longer found under its digest. */
  gone: boolean;
  readonly data: T;
}

export interface CatalogOptions {
  /** The most bytes of all blobs. */
  readonly capacityBytes: number;
  /** Eviction starts when a reservation would fill more than this part of the capacity; 0 to 1, default 0.95. */
  readonly highWatermark?: number;
  /** Eviction goes on down to this part of the capacity, so that it comes in batches; at most `highWatermark`, default 0.85. */
  readonly lowWatermark?: number;
}

const minuteMs = 60_000;

/** The start of the minute, in milliseconds. */
export function minuteOf(timeMs: number): number {
  return Math.floor(timeMs / minuteMs) * minuteMs;
}

export class Catalog<T> {
  readonly #entries = new Map<Digest, Entry<T>>();
  readonly #listeners = new Set<(digest: Digest) => void>();
  readonly #options: Required<CatalogOptions>;
  readonly #clock: Clock;
  #usedBytes = 0;

  constructor(options: CatalogOptions, deps: { readonly clock: Clock }) {
    const { capacityBytes, highWatermark = 0.95, lowWatermark = 0.85 } = options;
    assert(capacityBytes >= 0, 'a capacity is not negative');
    assert(lowWatermark <= highWatermark && highWatermark <= 1 && lowWatermark >= 0, 'watermarks are ordered parts of one');
    this.#options = { capacityBytes, highWatermark, lowWatermark };
    this.#clock = deps.clock;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  get capacityBytes(): number {
    return this.#options.capacityBytes;
  }

  get(digest: Digest): Entry<T> | undefined {
    return this.#entries.get(digest);
  }

  complete(digest: Digest): Entry<T> | undefined {
    const entry = this.#entries.get(digest);
    return entry?.state === 'complete' ? entry : undefined;
  }

  /** Least recently used first. */
  entries(): IterableIterator<Entry<T>> {
    return this.#entries.values();
  }

  /**
   * Claims `sizeBytes` for a blob that will be inserted, and returns the blobs that were evicted for it: already gone from
   * here, for the caller to erase. Throws `resource-exhausted` and evicts nothing when the space cannot be made.
   */
  reserve(sizeBytes: number): readonly Entry<T>[] {
    const { capacityBytes, highWatermark, lowWatermark } = this.#options;
    const wantedBytes = this.#usedBytes + sizeBytes;
    const victims: Entry<T>[] = [];
    if (wantedBytes > capacityBytes * highWatermark) {
      let leftBytes = wantedBytes;
      for (const entry of this.#entries.values()) {
        if (leftBytes <= capacityBytes * lowWatermark) break;
        if (entry.pinned || entry.refCount > 0) continue;
        victims.push(entry);
        leftBytes -= entry.sizeBytes;
      }
      if (leftBytes > capacityBytes) throw this.#full(sizeBytes);
    }
    this.#usedBytes += sizeBytes;
    for (const victim of victims) this.remove(victim);
    return victims;
  }

  /** Gives back what {@link reserve} claimed for a blob that was not inserted after all. */
  unreserve(sizeBytes: number): void {
    this.#usedBytes -= sizeBytes;
    assert(this.#usedBytes >= 0, 'no more is given back than was reserved');
  }

  /** Adds a blob whose bytes are reserved. What stood under the digest must be gone. */
  insert(entry: Omit<Entry<T>, 'lastUsedMs' | 'refCount' | 'gone'>): Entry<T> {
    assert(!this.#entries.has(entry.digest), 'a digest has one entry');
    const added: Entry<T> = { ...entry, lastUsedMs: this.#minute(), refCount: 0, gone: false };
    this.#entries.set(entry.digest, added);
    return added;
  }

  /** Adds a blob found on disk at the start; call in order of last use. May fill more than the capacity. */
  restore(entry: Omit<Entry<T>, 'refCount' | 'gone'>): Entry<T> {
    assert(!this.#entries.has(entry.digest), 'a digest has one entry');
    const added: Entry<T> = { ...entry, refCount: 0, gone: false };
    this.#entries.set(entry.digest, added);
    this.#usedBytes += entry.sizeBytes;
    return added;
  }

  /** Marks a blob as used now; true when the minute of its last use changed. */
  touch(entry: Entry<T>): boolean {
    if (entry.gone) return false;
    this.#entries.delete(entry.digest);
    this.#entries.set(entry.digest, entry);
    const minute = this.#minute();
    const changed = minute !== entry.lastUsedMs;
    entry.lastUsedMs = minute;
    return changed;
  }

  /** Counts one more open handle. */
  retain(entry: Entry<T>): void {
    entry.refCount += 1;
  }

  /** Counts one handle less; true when it was the last. */
  release(entry: Entry<T>): boolean {
    assert(entry.refCount > 0, 'a handle is released once');
    entry.refCount -= 1;
    if (entry.refCount > 0) return false;
    if (entry.gone) this.unreserve(entry.sizeBytes);
    return true;
  }

  /** Takes a blob out and tells the listeners. Its bytes are free once nobody has it open. */
  remove(entry: Entry<T>): void {
    this.replace(entry);
    for (const listener of this.#listeners) listener(entry.digest);
  }

  /** Takes a partial blob out because the complete one arrived another way: not a removal to anyone. */
  replace(entry: Entry<T>): void {
    assert(!entry.gone && this.#entries.get(entry.digest) === entry, 'an entry is removed once');
    this.#entries.delete(entry.digest);
    entry.gone = true;
    if (entry.refCount === 0) this.unreserve(entry.sizeBytes);
  }

  onRemoved(listener: (digest: Digest) => void): () => void {
    // A wrapper makes each subscription its own, even of the same function.
    const own = (digest: Digest): void => listener(digest);
    this.#listeners.add(own);
    return () => this.#listeners.delete(own);
  }

  #minute(): number {
    return minuteOf(this.#clock.wallMs());
  }

  #full(neededBytes: number): AppError {
    const { capacityBytes } = this.#options;
    const usedBytes = this.#usedBytes;
    return new AppError(
      'resource-exhausted',
      `the blob store is full: ${usedBytes} of ${capacityBytes} bytes are used, ${neededBytes} more are needed and the blobs ` +
        'that are neither pinned nor open do not make that room; raise the capacity or delete blobs',
      { data: { usedBytes, capacityBytes, neededBytes }, retryAfterMs: 5_000 },
    );
  }
}
