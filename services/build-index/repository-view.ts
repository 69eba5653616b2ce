/** A repository's rows as the planner of the garbage collection reads them. */
import type { ManifestEntry, TagEntry } from '#cluster';
import { type Digest, parseDigest, type RepositoryName } from '#core';
import type { RepositoryView } from './garbage-plan.ts';
import { keysUnder } from './records.ts';
import { type IndexRows, tagEntry } from './rows.ts';

export class RepositoryRows implements RepositoryView {
  readonly #repository: RepositoryName;
  readonly #rows: IndexRows;

  constructor(repository: RepositoryName, rows: IndexRows) {
    this.#repository = repository;
    this.#rows = rows;
  }

  tags(after: string, limit: number): readonly TagEntry[] {
    const found: TagEntry[] = [];
    for (const { key, value } of this.#rows.tables.tags.getRange(keysUnder([this.#repository], after))) {
      if (found.length >= limit) break;
      if (!value.deleted) found.push(tagEntry(String(key[1]), value));
    }
    return found;
  }

  manifestDigests(after: string, limit: number): readonly Digest[] {
    const keys = this.#rows.tables.manifests.getKeys({ ...keysUnder([this.#repository], after), limit });
    return [...keys].map(([, digest]) => parseDigest(String(digest)));
  }

  links(after: string, limit: number): readonly { readonly digest: Digest; readonly sizeBytes: number }[] {
    const rows = this.#rows.tables.links.getRange({ ...keysUnder([this.#repository], after), limit });
    return [...rows].map(({ key, value }) => ({ digest: parseDigest(String(key[1])), sizeBytes: value }));
  }

  tag(tag: string): TagEntry | undefined {
    return this.#rows.tag(this.#repository, tag);
  }

  manifest(digest: Digest): ManifestEntry | undefined {
    return this.#rows.manifest(this.#repository, digest);
  }

  tagsOf(digest: Digest): readonly string[] {
    return this.#rows.tagsOf(this.#repository, digest);
  }

  parents(digest: Digest): Iterable<Digest> {
    return lastDigests(this.#rows.tables.parents.getKeys(keysUnder([this.#repository, digest])));
  }

  referrers(digest: Digest): Iterable<Digest> {
    return lastDigests(this.#rows.tables.referrers.getKeys(keysUnder([this.#repository, digest])));
  }

  /** Every link and manifest has a lease; one that has none all the same is kept. */
  leasedMs(digest: Digest): number {
    return this.#rows.tables.leases.get([this.#repository, digest]) ?? Number.POSITIVE_INFINITY;
  }
}

function* lastDigests(keys: Iterable<readonly string[]>): Generator<Digest> {
  for (const key of keys) yield parseDigest(String(key.at(-1)));
}
