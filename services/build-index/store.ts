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
import { Fences } from './fences.ts';
import { HybridClock } from './hlc.ts';
import { prepareTables } from './migration.ts';
import { keysUnder, openTables, type Tables } from './records.ts';
import { IndexRows, tagEntry } from './rows.ts';

/** A lease younger than this is not written again, so that many questions cost one write; the collector adds it to its grace. */
export const leaseResolutionMs = 600_000;

export interface IndexStoreOptions {
  readonly path: string;
  /** How exactly leases follow the questions they come from; {@link leaseResolutionMs} by default. */
  readonly leaseResolutionMs?: number;
}

export interface IndexStoreDeps {
  readonly clock: Pick<Clock, 'wallMs'>;
}

export class IndexStore implements AsyncDisposable {
  readonly #tables: Tables;
  readonly #wallMs: () => number;
  readonly #leaseResolutionMs: number;
  /** For the collector. */
  readonly rows: IndexRows;
  readonly fences: Fences;

  private constructor(tables: Tables, options: IndexStoreOptions, deps: IndexStoreDeps) {
    this.#tables = tables;
    this.#wallMs = () => deps.clock.wallMs();
    this.#leaseResolutionMs = options.leaseResolutionMs ?? leaseResolutionMs;
    const versions = new HybridClock();
    this.rows = new IndexRows({ tables, versions, wallMs: this.#wallMs });
    versions.observe(this.rows.version());
    this.fences = new Fences(this.rows, { wallMs: this.#wallMs });
  }

  /** Opens or creates the index in folder `path`. Throws `unavailable` when the folder cannot be used. */
  static async open(options: IndexStoreOptions, deps: IndexStoreDeps): Promise<IndexStore> {
    const store = new IndexStore(await openTables(options.path), options, deps);
    await prepareTables(store.rows);
    return store;
  }

  /**
   * Makes a blob visible in a repository. `fence` was taken before its bytes were placed. Throws `aborted` (kind `collected`, `fence`) when they may
   * have been deleted since.
   */
  async linkBlob(repository: RepositoryName, blob: BlobStat, fence: bigint): Promise<void> {
    await this.#fenced(blob.digest, fence, () => this.rows.link(repository, blob.digest, blob.sizeBytes));
  }

  /** Throws `not-found` (kind `blob`). */
  blobLink(repository: RepositoryName, digest: Digest): BlobStat {
    const sizeBytes = this.#tables.links.get([repository, digest]);
    if (sizeBytes === undefined) throw notFound('blob', repository);
    return { digest, sizeBytes };
  }

  /** As {@link blobLink}; the link stays for the grace of the collector from now on. */
  async renewBlobLink(repository: RepositoryName, digest: Digest): Promise<BlobStat> {
    const stat = this.blobLink(repository, digest);
    if (this.#isLeased(repository, digest)) return stat;
    return this.write(() => {
      const still = this.blobLink(repository, digest);
      this.rows.renew(repository, digest);
      return still;
    });
  }

  /** Makes a blob of `source` (of any repository when undefined) visible. Throws `not-found` (kind `blob`) when it is not visible there. */
  async mountBlob(repository: RepositoryName, digest: Digest, source: RepositoryName | undefined): Promise<BlobStat> {
    return this.write(() => {
      const sizeBytes = source === undefined ? this.#anyHolder(digest) : this.#tables.links.get([source, digest]);
      if (sizeBytes === undefined) throw notFound('blob', source ?? repository);
      this.rows.link(repository, digest, sizeBytes);
      return { digest, sizeBytes };
    });
  }

  /** Throws `not-found` (kind `blob`). */
  async unlinkBlob(repository: RepositoryName, digest: Digest): Promise<void> {
    await this.write(() => {
      this.blobLink(repository, digest);
      this.rows.unlink(repository, digest);
    });
  }

  /**
   * Throws `failed-precondition` (kind `missing`, `digests`) when something the manifest refers to is not in the repository, unless it is `sparse`,
   * and `aborted` as {@link linkBlob} does.
   */
  async putManifest(
    repository: RepositoryName,
    entry: ManifestEntry,
    tags: readonly Tag[],
    fence: bigint,
    { sparse }: { readonly sparse: boolean } = { sparse: false },
  ): Promise<readonly TagEntry[]> {
    return this.#fenced(entry.digest, fence, () => {
      if (!sparse) this.#requireReferences(repository, entry);
      this.rows.putManifest(repository, entry);
      return tags.map((tag) => this.rows.setTag(repository, tag, entry.digest));
    });
  }

  /** Throws `not-found` (kind `manifest`). */
  manifest(repository: RepositoryName, reference: Reference): { readonly manifest: ManifestEntry; readonly tag: TagEntry | undefined } {
    const tag = 'tag' in reference ? this.rows.tag(repository, reference.tag) : undefined;
    const digest = 'tag' in reference ? tag?.digest : reference.digest;
    const manifest = digest === undefined ? undefined : this.rows.manifest(repository, digest);
    if (manifest === undefined) throw notFound('manifest', repository);
    return { manifest, tag };
  }

  /** As {@link manifest}; it stays for the grace of the collector from now on. */
  async renewManifest(repository: RepositoryName, reference: Reference): Promise<ManifestEntry> {
    const { manifest } = this.manifest(repository, reference);
    if (this.#isLeased(repository, manifest.digest)) return manifest;
    return this.write(() => {
      const still = this.manifest(repository, reference).manifest;
      this.rows.renew(repository, still.digest);
      return still;
    });
  }

  /** By digest: the manifest and every tag on it; by tag: the tag alone. Throws `not-found` (kind `manifest`). */
  async deleteManifest(repository: RepositoryName, reference: Reference): Promise<void> {
    await this.write(() => {
      const { manifest, tag } = this.manifest(repository, reference);
      if (tag !== undefined) this.rows.deleteTag(repository, tag);
      else this.rows.deleteManifest(repository, manifest);
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
      const entry = this.rows.manifest(repository, parseDigest(String(digest)));
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
  async write<T>(change: () => T): Promise<T> {
    return commit(this.#tables.db, change);
  }

  /** Publishes bytes that were placed after `fence` was taken. */
  async #fenced<T>(digest: Digest, fence: bigint, change: () => T): Promise<T> {
    const outcome = await this.write(() =>
      this.fences.admits(digest, fence) ? { published: change() } : { newFence: this.fences.renew() },
    );
    if (outcome.newFence === undefined) return outcome.published;
    throw new AppError('aborted', 'the bytes were collected as garbage while they were pushed: place them again', {
      data: { kind: 'collected', fence: String(outcome.newFence) },
    });
  }

  #isLeased(repository: RepositoryName, digest: Digest): boolean {
    const leasedMs = this.#tables.leases.get([repository, digest]);
    const ageMs = this.#wallMs() - (leasedMs ?? Number.NEGATIVE_INFINITY);
    // A lease from the future is one from before the wall clock was set back.
    return ageMs >= 0 && ageMs < this.#leaseResolutionMs;
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
