/**
 * Changes of the index's rows that keep its tables in agreement. Synchronous: they are called inside one transaction, after everything that could
 * refuse the change has been asked.
 */
import type { ManifestEntry, TagEntry } from '#cluster';
import type { Digest, RepositoryName, Tag } from '#core';
import type { HybridClock } from './hlc.ts';
import { hasUnder, keysUnder, type ManifestRow, type Tables, type TagRow } from './records.ts';

const versionKey = 'version';

export interface IndexRowsDeps {
  readonly tables: Tables;
  readonly versions: HybridClock;
  readonly wallMs: () => number;
}

export class IndexRows {
  readonly tables: Tables;
  readonly #versions: HybridClock;
  readonly #wallMs: () => number;

  constructor(deps: IndexRowsDeps) {
    this.tables = deps.tables;
    this.#versions = deps.versions;
    this.#wallMs = deps.wallMs;
  }

  /** The highest version that is on disk; 0 before the first. */
  version(): bigint {
    return BigInt(this.tables.meta.get(versionKey) ?? '0');
  }

  /** A version is stored with every use, so that a restart goes on above it whatever the wall clock says. */
  nextVersion(): bigint {
    const version = this.#versions.next(this.#wallMs());
    this.tables.meta.putSync(versionKey, String(version));
    return version;
  }

  link(repository: RepositoryName, digest: Digest, sizeBytes: number): void {
    this.tables.links.putSync([repository, digest], sizeBytes);
    this.tables.holders.putSync([digest, repository], sizeBytes);
    this.tables.repositories.putSync(repository, true);
    this.renew(repository, digest);
  }

  unlink(repository: RepositoryName, digest: Digest): void {
    this.tables.links.removeSync([repository, digest]);
    this.tables.holders.removeSync([digest, repository]);
    this.#dropLease(repository, digest);
    this.dropWhenEmpty(repository);
  }

  /** Begins the grace of a link or a manifest anew. */
  renew(repository: RepositoryName, digest: Digest): void {
    this.tables.leases.putSync([repository, digest], this.#wallMs());
  }

  manifest(repository: RepositoryName, digest: Digest): ManifestEntry | undefined {
    const row = this.tables.manifests.get([repository, digest]);
    if (row === undefined) return undefined;
    return { ...row, digest, subject: row.subject ?? undefined, artifactType: row.artifactType ?? undefined };
  }

  putManifest(repository: RepositoryName, entry: ManifestEntry): void {
    const { digest, subject, artifactType, pushedMs: _unset, ...rest } = entry;
    const before = this.manifest(repository, digest);
    if (before !== undefined) this.#dropReferences(repository, before);
    const row: ManifestRow = { ...rest, subject: subject ?? null, artifactType: artifactType ?? null, pushedMs: this.#wallMs() };
    this.tables.manifests.putSync([repository, digest], row);
    this.tables.repositories.putSync(repository, true);
    this.addReferences(repository, entry);
    this.renew(repository, digest);
  }

  /** What is found by what a manifest refers to. */
  addReferences(repository: RepositoryName, entry: ManifestEntry): void {
    const { digest, subject } = entry;
    this.tables.manifestHolders.putSync([digest, repository], entry.sizeBytes);
    for (const child of childrenOf(entry)) this.tables.parents.putSync([repository, child, digest], true);
    if (subject !== undefined) this.tables.referrers.putSync([repository, subject, digest], true);
  }

  tag(repository: RepositoryName, tag: string): TagEntry | undefined {
    const row = this.tables.tags.get([repository, tag]);
    return row === undefined || row.deleted ? undefined : tagEntry(tag, row);
  }

  setTag(repository: RepositoryName, tag: Tag, digest: Digest): TagEntry {
    const before = this.tag(repository, tag);
    if (before !== undefined) this.#untag(repository, before);
    this.tables.tagsOf.putSync([repository, digest, tag], true);
    const version = this.nextVersion();
    this.tables.tags.putSync([repository, tag], { digest, version: String(version), deleted: false });
    return { tag, digest, version };
  }

  /** Leaves a tombstone. */
  deleteTag(repository: RepositoryName, entry: TagEntry): void {
    this.#untag(repository, entry);
    this.tables.tags.putSync([repository, entry.tag], { digest: entry.digest, version: String(this.nextVersion()), deleted: true });
  }

  /** The manifest and every tag on it. */
  deleteManifest(repository: RepositoryName, entry: ManifestEntry): void {
    const { digest } = entry;
    for (const tag of this.tagsOf(repository, digest)) {
      const found = this.tag(repository, tag);
      if (found !== undefined) this.deleteTag(repository, found);
    }
    this.#dropReferences(repository, entry);
    this.tables.manifests.removeSync([repository, digest]);
    this.#dropLease(repository, digest);
    this.dropWhenEmpty(repository);
  }

  /** The live tags on a manifest. */
  tagsOf(repository: RepositoryName, digest: Digest): readonly string[] {
    return [...this.tables.tagsOf.getKeys(keysUnder([repository, digest]))].map(([, , tag]) => String(tag));
  }

  dropWhenEmpty(repository: RepositoryName): void {
    const { links, manifests, repositories } = this.tables;
    if (!hasUnder(links, [repository]) && !hasUnder(manifests, [repository])) repositories.removeSync(repository);
  }

  /** The time a manifest has been without a tag counts from here. */
  #untag(repository: RepositoryName, { tag, digest }: TagEntry): void {
    this.tables.tagsOf.removeSync([repository, digest, tag]);
    this.renew(repository, digest);
  }

  #dropReferences(repository: RepositoryName, entry: ManifestEntry): void {
    const { digest, subject } = entry;
    this.tables.manifestHolders.removeSync([digest, repository]);
    for (const child of childrenOf(entry)) this.tables.parents.removeSync([repository, child, digest]);
    if (subject !== undefined) this.tables.referrers.removeSync([repository, subject, digest]);
  }

  /** Unless the same bytes are still there as the other kind. */
  #dropLease(repository: RepositoryName, digest: Digest): void {
    const { leases, links, manifests } = this.tables;
    const isThere = links.get([repository, digest]) !== undefined || manifests.get([repository, digest]) !== undefined;
    if (!isThere) leases.removeSync([repository, digest]);
  }
}

/** Everything a manifest needs to be pulled: config, layers, and the children of an index. */
export function childrenOf({ blobs, manifests, either }: Pick<ManifestEntry, 'blobs' | 'manifests' | 'either'>): ReadonlySet<Digest> {
  return new Set([...blobs, ...manifests, ...either]);
}

export function tagEntry(tag: string, row: TagRow): TagEntry {
  return { tag, digest: row.digest, version: BigInt(row.version) };
}
