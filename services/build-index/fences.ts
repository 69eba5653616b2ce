/**
 * Decides the race between a push and the origins' garbage collection. A blob's bytes are placed first and linked afterwards; in between nothing
 * refers to them. So a pusher takes the fence (a version of the index) before it places bytes, and the link is refused when an origin has claimed
 * the blob for deletion, or has released it after the fence: then the bytes may be gone, and the pusher places them again with a new fence.
 *
 * A claim is a fence in the future: until it is released it refuses every link; if its origin dies, it is over when its time is.
 */
import type { Digest } from '#core';
import { hasUnder, keysUnder } from './records.ts';
import type { IndexRows } from './rows.ts';

/** Origins delete a batch within seconds; this is how long a dead one may keep its batch from being pushed. */
export const claimLifetimeMs = 300_000;
/** Fences older than this go; a push that took its own before that has to take another. Longer than pushes last, shorter than rows pile up. */
const fenceLifetimeMs = 24 * 3_600_000;

const purgedKey = 'fences-purged';

export class Fences {
  readonly #rows: IndexRows;
  readonly #wallMs: () => number;

  constructor(rows: IndexRows, deps: { readonly wallMs: () => number }) {
    this.#rows = rows;
    this.#wallMs = deps.wallMs;
  }

  /** What a pusher takes before it places bytes. */
  current(): bigint {
    return this.#rows.version();
  }

  /** Whether bytes placed after `fence` was taken are still there. */
  admits(digest: Digest, fence: bigint): boolean {
    const { fences, meta } = this.#rows.tables;
    if (fence < BigInt(meta.get(purgedKey) ?? '0')) return false;
    for (const { value } of fences.getRange(keysUnder([digest]))) if (fence < BigInt(value)) return false;
    return true;
  }

  /** A new fence for a pusher who was refused. In a transaction. */
  renew(): bigint {
    return this.#rows.nextVersion();
  }

  isReferenced(digest: Digest): boolean {
    return hasUnder(this.#rows.tables.holders, [digest]) || hasUnder(this.#rows.tables.manifestHolders, [digest]);
  }

  /** Repositories that show the bytes, counted once for each kind. */
  holderCount(digest: Digest): number {
    const { holders, manifestHolders } = this.#rows.tables;
    return holders.getKeysCount(keysUnder([digest])) + manifestHolders.getKeysCount(keysUnder([digest]));
  }

  /** In a transaction: claims for `origin` what nobody shows, and returns it. */
  claim(digests: readonly Digest[], origin: string): readonly Digest[] {
    const free = digests.filter((digest) => !this.isReferenced(digest));
    const untilVersion = versionAt(this.#wallMs() + claimLifetimeMs);
    for (const digest of free) this.#rows.tables.fences.putSync([digest, origin], String(untilVersion));
    return free;
  }

  /** In a transaction: what is placed from now on can be linked. Returns the fence that says so. */
  release(digests: readonly Digest[], origin: string): bigint {
    const { fences } = this.#rows.tables;
    const version = this.#rows.nextVersion();
    for (const digest of digests) {
      if (fences.get([digest, origin]) !== undefined) fences.putSync([digest, origin], String(version));
    }
    return version;
  }

  /** In a transaction: forgets up to `limit` of the fences that are a day old, from `after` on. Returns where to go on; undefined at the end. */
  purge(limit: number, after: readonly string[]): readonly string[] | undefined {
    const { fences, meta } = this.#rows.tables;
    const oldest = versionAt(this.#wallMs() - fenceLifetimeMs);
    let purged = BigInt(meta.get(purgedKey) ?? '0');
    const old: string[][] = [];
    let last: readonly string[] | undefined;
    let count = 0;
    for (const { key, value } of fences.getRange({ ...(after.length === 0 ? {} : { start: [...after, ''] }), limit })) {
      count += 1;
      last = key;
      const version = BigInt(value);
      if (version > oldest) continue;
      old.push(key);
      if (version > purged) purged = version;
    }
    if (old.length > 0) meta.putSync(purgedKey, String(purged));
    for (const key of old) fences.removeSync(key);
    return count < limit ? undefined : last;
  }
}

const versionAt = (wallMs: number): bigint => BigInt(Math.max(0, wallMs)) << 16n;
