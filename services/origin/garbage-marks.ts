/** What an origin remembers between two collections: since when blobs are without a repository, and which index said so. */
import type { IndexState } from '#cluster';
import { type Digest, isDigest } from '#core';
import { commit, type EmbeddedDb, type Table } from '#storage';

interface IndexRow {
  readonly id: string;
  /** Decimal. */
  readonly version: string;
}

const indexKey = 'index';

export class GarbageMarks {
  readonly #db: EmbeddedDb;
  readonly #marks: Table<number>;
  readonly #index: Table<IndexRow>;

  /** The database stays the caller's to close. */
  constructor(db: EmbeddedDb) {
    this.#db = db;
    this.#marks = db.openDB<number, string>({ name: 'marks', encoding: 'json' });
    this.#index = db.openDB<IndexRow, string>({ name: 'index', encoding: 'json' });
  }

  /** Since when a blob is known to be without a repository, in Unix milliseconds; undefined when it is not. */
  sinceMs(digest: Digest): number | undefined {
    return this.#marks.get(digest);
  }

  /** Takes note of a verdict: `unreferenced` are marked with `nowMs` unless they are marked already, `referenced` are not marked any more. */
  async note(verdict: { readonly unreferenced: readonly Digest[]; readonly referenced: readonly Digest[] }, nowMs: number): Promise<void> {
    const fresh = verdict.unreferenced.filter((digest) => this.sinceMs(digest) === undefined);
    const stale = verdict.referenced.filter((digest) => this.sinceMs(digest) !== undefined);
    if (fresh.length + stale.length === 0) return;
    await commit(this.#db, () => {
      for (const digest of fresh) this.#marks.putSync(digest, nowMs);
      for (const digest of stale) this.#marks.removeSync(digest);
    });
  }

  /** The blob is wanted, or gone. */
  async clear(digest: Digest): Promise<void> {
    await this.note({ unreferenced: [], referenced: [digest] }, 0);
  }

  /** In digest order, after `after`. */
  list(page: { readonly limit: number; readonly after?: Digest }): readonly Digest[] {
    const { limit, after } = page;
    return [...this.#marks.getKeys({ limit, ...(after === undefined ? {} : { start: `${after}\u0000` }) })].filter(isDigest);
  }

  /** The index as it was known last. */
  index(): IndexState | undefined {
    const row = this.#index.get(indexKey);
    return row === undefined ? undefined : { id: row.id, version: BigInt(row.version) };
  }

  async setIndex({ id, version }: IndexState): Promise<void> {
    await commit(this.#db, () => this.#index.putSync(indexKey, { id, version: String(version) }));
  }
}
