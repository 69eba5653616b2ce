/** What the index remembers, in an embedded database: each write is one transaction, and on disk when its promise resolves. */
import type { ManifestEntry, TagEntry } from '#cluster';
import {
  AppError,
  type BlobStat,
  type Clock,
  type Digest,
  type Page,
  type PageRequest,
  parseDigest,
  parseRepositoryName,
  type Reference,
  type RepositoryName,
  type Tag,
} from '#core';
import { commit } from '#storage';
import { HybridClock } from './hlc.ts';
import { hasUnder, keysUnder, type ManifestRow, openTables, type Tables, type TagRow } from './records.ts';

const versionKey = 'version';

export interface IndexStoreDeps {
  readonly clock: Pick<Clock, 'wallMs'>;
}

export class IndexStore implements AsyncDisposable {
  readonly #tables: Tables;
  readonly #wallMs: () => number;
  readonly #versions: HybridClock;

  private constructor(tables: Tables, deps: IndexStoreDeps) {
    this.#tables = tables;
    this.#wallMs = () => deps.clock.wallMs();
    this.#versions = new HybridClock(BigInt(tables.meta.get(versionKey) ?? '0'));
  }

  /** Opens or creates the index in folder `path`. Throws `unavailable` when the folder cannot be used. */
  static async open(options: { readonly path: string }, deps: IndexStoreDeps): Promise<IndexStore> {
    return new IndexStore(await openTables(options.path), deps);
  }

  /** Makes a blob visible in a repository. */
  async linkBlob(repository: RepositoryName, blob: BlobStat): Promise<void> {
    await this.#write(() => this.#link(repository, blob.digest, blob.sizeBytes));
  }

  /** Throws `not-found` (kind `blob`). */
  blobLink(repository: RepositoryName, digest: Digest): BlobStat {
    const sizeBytes = this.#tables.links.get([repository, digest]);
    if (sizeBytes === undefined) throw notFound('blob', repository);
    return { digest, sizeBytes };
  }

  /** Makes a blob of `source` (of any repository when undefined) visible. Throws `not-found` (kind `blob`) when it is not visible there. */
  async mountBlob(repository: RepositoryName, digest: Digest, source: RepositoryName | undefined): Promise<BlobStat> {
    return this.#write(() => {
      const sizeBytes = source === undefined ? this.#anyHolder(digest) : this.#tables.links.get([source, digest]);
      if (sizeBytes === undefined) throw notFound('blob', source ?? repository);
      this.#link(repository, digest, sizeBytes);
      return { digest, sizeBytes };
    });
  }

  /** Throws `not-found` (kind `blob`). */
  async unlinkBlob(repository: RepositoryName, digest: Digest): Promise<void> {
    await this.#write(() => {
      if (this.#tables.links.get([repository, digest]) === undefined) throw notFound('blob', repository);
      this.#tables.links.removeSync([repository, digest]);
      this.#tables.holders.removeSync([digest, repository]);
      this.#dropWhenEmpty(repository);
    });
  }

  /** Throws `failed-precondition` (kind `missing`, `digests`) when something the manifest refers to is not in the repository. */
  async putManifest(repository: RepositoryName, entry: ManifestEntry, tags: readonly Tag[]): Promise<readonly TagEntry[]> {
    return this.#write(() => {
      this.#requireReferences(repository, entry);
      const { digest, subject, artifactType, pushedMs: _unset, ...rest } = entry;
      const row: ManifestRow = { ...rest, subject: subject ?? null, artifactType: artifactType ?? null, pushedMs: this.#wallMs() };
      this.#tables.manifests.putSync([repository, digest], row);
      if (subject !== undefined) this.#tables.referrers.putSync([repository, subject, digest], true);
      this.#tables.repositories.putSync(repository, true);
      return tags.map((tag) => this.#setTag(repository, tag, digest));
    });
  }

  /** Throws `not-found` (kind `manifest`). */
  manifest(repository: RepositoryName, reference: Reference): { readonly manifest: ManifestEntry; readonly tag: TagEntry | undefined } {
    const tag = 'tag' in reference ? this.#tag(repository, reference.tag) : undefined;
    const digest = 'tag' in reference ? tag?.digest : reference.digest;
    const manifest = digest === undefined ? undefined : this.#manifest(repository, digest);
    if (manifest === undefined) throw notFound('manifest', repository);
    return { manifest, tag };
  }

  /** By digest: the manifest and every tag on it; by tag: the tag alone. Throws `not-found` (kind `manifest`). */
  async deleteManifest(repository: RepositoryName, reference: Reference): Promise<void> {
    await this.#write(() => {
      if ('tag' in reference) this.#deleteTag(repository, reference.tag);
      else this.#deleteDigest(repository, reference.digest);
      this.#dropWhenEmpty(repository);
    });
  }

  /** Live tags in bytewise order. Throws `not-found` (kind `repository`) for an unknown repository. */
  listTags(repository: RepositoryName, page: PageRequest<string>): Page<TagEntry> {
    if (this.#tables.repositories.get(repository) === undefined) throw notFound('repository', repository);
    const rows = this.#tables.tags.getRange(keysUnder([repository], page.after));
    return takePage(rows, page.limit, ({ key, value }) => (value.deleted ? undefined : tagEntry(String(key[1]), value)));
  }

  listRepositories(page: PageRequest<string>): Page<RepositoryName> {
    const keys = this.#tables.repositories.getKeys(page.after === undefined ? {} : { start: `${page.after}\u0000` });
    return takePage(keys, page.limit, parseRepositoryName);
  }

  /** Manifests whose subject is `subject`, in digest order. */
  listReferrers(
    repository: RepositoryName,
    subject: Digest,
    filter: PageRequest<string> & { readonly artifactType?: string },
  ): Page<ManifestEntry> {
    const keys = this.#tables.referrers.getKeys(keysUnder([repository, subject], filter.after));
    return takePage(keys, filter.limit, ([, , digest]) => {
      const entry = this.#manifest(repository, parseDigest(String(digest)));
      return filter.artifactType === undefined || entry?.artifactType === filter.artifactType ? entry : undefined;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tables.db.close();
  }

  /**
   * One transaction, synced to disk. `change` checks everything before its first write, so that what it throws leaves nothing behind; writes of
   * concurrent calls share a sync.
   */
  async #write<T>(change: () => T): Promise<T> {
    return commit(this.#tables.db, change);
  }

  #link(repository: RepositoryName, digest: Digest, sizeBytes: number): void {
    this.#tables.links.putSync([repository, digest], sizeBytes);
    this.#tables.holders.putSync([digest, repository], sizeBytes);
    this.#tables.repositories.putSync(repository, true);
  }

  #anyHolder(digest: Digest): number | undefined {
    for (const { value } of this.#tables.holders.getRange({ ...keysUnder([digest]), limit: 1 })) return value;
    return undefined;
  }

  #requireReferences(repository: RepositoryName, { blobs, manifests, either }: ManifestEntry): void {
    const isBlob = (digest: Digest): boolean => this.#tables.links.get([repository, digest]) !== undefined;
    const isManifest = (digest: Digest): boolean => this.#tables.manifests.get([repository, digest]) !== undefined;
    const missing = [
      ...blobs.filter((digest) => !isBlob(digest)),
      ...manifests.filter((digest) => !isManifest(digest)),
      ...either.filter((digest) => !isBlob(digest) && !isManifest(digest)),
    ];
    if (missing.length === 0) return;
    throw new AppError('failed-precondition', 'the manifest refers to what is not in the repository: push that first', {
      data: { kind: 'missing', digests: [...new Set(missing)].join(',') },
    });
  }

  #manifest(repository: RepositoryName, digest: Digest): ManifestEntry | undefined {
    const row = this.#tables.manifests.get([repository, digest]);
    if (row === undefined) return undefined;
    return { ...row, digest, subject: row.subject ?? undefined, artifactType: row.artifactType ?? undefined };
  }

  #tag(repository: RepositoryName, tag: string): TagEntry | undefined {
    const row = this.#tables.tags.get([repository, tag]);
    return row === undefined || row.deleted ? undefined : tagEntry(tag, row);
  }

  #setTag(repository: RepositoryName, tag: string, digest: Digest): TagEntry {
    const before = this.#tag(repository, tag);
    if (before !== undefined) this.#tables.tagsOf.removeSync([repository, before.digest, tag]);
    this.#tables.tagsOf.putSync([repository, digest, tag], true);
    const version = this.#nextVersion();
    this.#tables.tags.putSync([repository, tag], { digest, version: String(version), deleted: false });
    return { tag, digest, version };
  }

  #deleteTag(repository: RepositoryName, tag: string): void {
    const entry = this.#tag(repository, tag);
    if (entry === undefined) throw notFound('manifest', repository);
    this.#tables.tagsOf.removeSync([repository, entry.digest, tag]);
    this.#tables.tags.putSync([repository, tag], { digest: entry.digest, version: String(this.#nextVersion()), deleted: true });
  }

  #deleteDigest(repository: RepositoryName, digest: Digest): void {
    const entry = this.#manifest(repository, digest);
    if (entry === undefined) throw notFound('manifest', repository);
    for (const [, , tag] of [...this.#tables.tagsOf.getKeys(keysUnder([repository, digest]))]) this.#deleteTag(repository, String(tag));
    if (entry.subject !== undefined) this.#tables.referrers.removeSync([repository, entry.subject, digest]);
    this.#tables.manifests.removeSync([repository, digest]);
  }

  /** A version is stored with every use, so that a restart goes on above it whatever the wall clock says. */
  #nextVersion(): bigint {
    const version = this.#versions.next(this.#wallMs());
    this.#tables.meta.putSync(versionKey, String(version));
    return version;
  }

  #dropWhenEmpty(repository: RepositoryName): void {
    const { links, manifests, repositories } = this.#tables;
    if (!hasUnder(links, [repository]) && !hasUnder(manifests, [repository])) repositories.removeSync(repository);
  }
}

function tagEntry(tag: string, row: TagRow): TagEntry {
  return { tag, digest: row.digest, version: BigInt(row.version) };
}

function takePage<S, T>(source: Iterable<S>, limit: number, pick: (item: S) => T | undefined): Page<T> {
  const items: T[] = [];
  for (const item of source) {
    const picked = pick(item);
    if (picked === undefined) continue;
    if (items.length === limit) return { items, more: true };
    items.push(picked);
  }
  return { items, more: false };
}

function notFound(kind: 'blob' | 'manifest' | 'repository', repository: RepositoryName): AppError {
  const what = kind === 'repository' ? 'there is no such repository' : `the repository has no such ${kind}`;
  return new AppError('not-found', what, { data: { kind, repository } });
}
