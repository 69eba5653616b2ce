/**
 * Changes of a database that nobody waits for: visible here at once, saved in the background, many in one transaction. Changes that somebody
 * waits for go past them, except that a change of the same blob takes its late write along, so that each blob's changes keep their order. So a
 * disk that has no room for late writes still takes what removes others.
 */
import type { Digest, Metainfo } from '#core';
import { commit, type EmbeddedDb } from './database.ts';

/** The first rows of a blob. */
export interface LateWrite {
  readonly state: 'partial' | 'complete';
  readonly metainfo: Metainfo;
  readonly apply: () => void;
}

/** So many wait in memory; beyond it their writers wait for the disk. */
const waitingCountMax = 4096;

interface Waiting extends LateWrite {
  /** Transactions under way that hold it. */
  heldCount: number;
}

export class LateWrites {
  readonly #db: EmbeddedDb;
  readonly #onError: (error: unknown) => void;
  /** Not committed, oldest first; the last one of each blob. */
  readonly #waiting = new Map<Digest, Waiting>();
  #saving: Promise<void> | undefined;

  /** `onError` hears when writes were refused; they are tried again with the next one. */
  constructor(db: EmbeddedDb, onError: (error: unknown) => void) {
    this.#db = db;
    this.#onError = onError;
  }

  metainfo(digest: Digest): Metainfo | undefined {
    return this.#waiting.get(digest)?.metainfo;
  }

  /** Blobs whose last late write is of `state`, in order, after `after`. */
  digests(state: LateWrite['state'], after: Digest | undefined): Digest[] {
    const found = [...this.#waiting.values()].filter((write) => write.state === state).map(({ metainfo }) => metainfo.digest);
    return found.filter((digest) => after === undefined || digest > after).sort();
  }

  /** Waits for the disk only when very many writes wait, and then fails as `commit` does. */
  async add(write: LateWrite): Promise<void> {
    const { digest } = write.metainfo;
    const waiting = { ...write, heldCount: 0 };
    const before = this.#waiting.get(digest);
    this.#waiting.delete(digest);
    this.#waiting.set(digest, waiting);
    if (this.#waiting.size > waitingCountMax) {
      try {
        await this.#saveOnce();
      } catch (error) {
        // Its writer hears that it failed, so it must not happen later, nor may such writes pile up.
        if (this.#waiting.get(digest) === waiting) {
          this.#waiting.delete(digest);
          if (before !== undefined) this.#waiting.set(digest, before);
        }
        throw error;
      }
    }
    this.#saveSoon();
  }

  /** One transaction, durable when this resolves: the late writes of `digests` unless it `replaces` them, then `change`. */
  async commit(digests: readonly Digest[], change: () => void, replaces: boolean): Promise<void> {
    const late = digests.flatMap((digest) => this.#waiting.get(digest) ?? []);
    await this.#commit(late, () => {
      if (!replaces) for (const write of late) write.apply();
      change();
    });
  }

  /** Tries once more to save what waits. */
  async close(): Promise<void> {
    await this.#saving;
    await this.#saveOnce().catch(this.#onError);
  }

  #free(): Waiting[] {
    return [...this.#waiting.values()].filter(({ heldCount }) => heldCount === 0);
  }

  #saveSoon(): void {
    if (this.#saving !== undefined || this.#waiting.size === 0) return;
    this.#saving = this.#saveAll().finally(() => {
      this.#saving = undefined;
    });
  }

  /** One transaction after the other while there is something to save: what comes during a sync shares the next. */
  async #saveAll(): Promise<void> {
    try {
      while (this.#free().length > 0) await this.#saveOnce();
    } catch (error) {
      this.#onError(error);
    }
  }

  async #saveOnce(): Promise<void> {
    const late = this.#free();
    if (late.length === 0) return;
    await this.#commit(late, () => {
      for (const write of late) write.apply();
    });
  }

  async #commit(late: readonly Waiting[], change: () => void): Promise<void> {
    for (const write of late) write.heldCount += 1;
    try {
      await commit(this.#db, change);
      for (const write of late) {
        const { digest } = write.metainfo;
        if (this.#waiting.get(digest) === write) this.#waiting.delete(digest);
      }
    } finally {
      for (const write of late) write.heldCount -= 1;
    }
  }
}
