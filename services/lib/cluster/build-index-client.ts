/** The build-index in the types of core: tags, manifests and which blobs a repository shows. Asks the first instance that is up. */
import {
  AppError,
  type BlobStat,
  type CallOptions,
  type Clock,
  type Digest,
  isAppError,
  type Logger,
  type ManifestUpload,
  type Page,
  type PageRequest,
  parseRepositoryName,
  parseTag,
  type Reference,
  type Referrer,
  type RepositoryName,
  type Rng,
  type Tag,
  toAppError,
} from '#core';
import { BuildIndexServiceService } from '#gen/shoal/buildindex/v1/build_index_service';
import { CollectionServiceService, type IndexState as IndexStateMessage } from '#gen/shoal/buildindex/v1/collection_service';
import type { BlobLink, ManifestRecord, TagRecord } from '#gen/shoal/buildindex/v1/image';
import { type Client, digestFromProto, digestToProto, durationFromProto, required, safeNumber, type Target } from '#wire';
import { HealthMonitor } from './health-monitor.ts';
import { type ManifestEntry, manifestFromProto, manifestToProto, type TagEntry } from './index-records.ts';
import type { Channels, Member } from './types.ts';

export interface BuildIndexClientOptions {
  /** Instances of one index, in order of preference. */
  readonly members: readonly Member[];
  /** Of one call at one instance; 5 s by default. */
  readonly timeoutMs?: number;
}

export interface BuildIndexClientDeps {
  readonly channels: Channels;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
}

type IndexClient = Client<typeof BuildIndexServiceService>;

/** Which index answered, and how far it has come. */
export interface IndexState {
  readonly id: string;
  readonly version: bigint;
}

/** What the index says about some of the blobs it was asked about. */
export interface IndexVerdict {
  readonly digests: readonly Digest[];
  readonly index: IndexState;
}

interface IndexCallOptions {
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
}

/** What the service gives at a time. */
const pageSizeMax = 1000;

export class BuildIndexClient implements AsyncDisposable {
  readonly #members: readonly Member[];
  readonly #timeoutMs: number;
  readonly #channels: Channels;
  readonly #monitor: HealthMonitor;
  /** The highest fence that the index has told of. */
  #fence: bigint | undefined;

  constructor(options: BuildIndexClientOptions, deps: BuildIndexClientDeps) {
    this.#members = options.members;
    this.#timeoutMs = options.timeoutMs ?? 5000;
    this.#channels = deps.channels;
    // Every call is a check; only an instance that failed needs to be asked on purpose.
    this.#monitor = new HealthMonitor({ members: options.members, role: 'build-index', probe: 'suspects' }, deps);
  }

  /** Opens the connections before the first call needs them. */
  connect(): void {
    this.#monitor.probeAll();
  }

  /**
   * The fence of the index: take it before bytes are placed at the owners, and hand it in with their link. Bytes that were collected as garbage
   * in between are then refused instead of lost. See `placeAndPublish` of #images.
   */
  async fence(options: CallOptions): Promise<bigint> {
    if (this.#fence === undefined) {
      const { fence } = await this.#collection(options, (client, call) => client.getFence({}, call));
      this.#noteFence(fence);
    }
    return this.#fence ?? 0n;
  }

  /**
   * Makes a blob that the owners hold visible in a repository. `fence` was taken before it was placed there. Throws `aborted` (kind `collected`)
   * when it may have been deleted since: take the fence again, place the bytes again.
   */
  async linkBlob(repository: RepositoryName, blob: BlobStat, fence: bigint, options: CallOptions): Promise<void> {
    const link = { digest: digestToProto(blob.digest), sizeBytes: BigInt(blob.sizeBytes) };
    await this.#fenced(options, (client, call) => client.linkBlob({ repository, link, fence }, call));
  }

  /** Throws `not-found` (kind `blob`) when the repository does not show it. */
  async getBlobLink(repository: RepositoryName, digest: Digest, options: CallOptions): Promise<BlobStat> {
    const { link } = await this.#call(options, (client, call) => client.getBlobLink({ repository, digest: digestToProto(digest) }, call));
    return blobOf(link);
  }

  /** As {@link getBlobLink}, for a pusher who will not send what is there: the link is kept from being collected for a while. */
  async renewBlobLink(repository: RepositoryName, digest: Digest, options: CallOptions): Promise<BlobStat> {
    const { link } = await this.#call(options, (client, call) => client.renewBlobLink({ repository, digest: digestToProto(digest) }, call));
    return blobOf(link);
  }

  /** Makes a blob of `from` (or of any repository) visible in `repository`. Throws `not-found` (kind `blob`) when there is none. */
  async mountBlob(repository: RepositoryName, digest: Digest, from: RepositoryName | undefined, options: CallOptions): Promise<BlobStat> {
    const request = { repository, digest: digestToProto(digest), sourceRepository: from ?? '' };
    const { link } = await this.#call(options, (client, call) => client.mountBlob(request, call));
    return blobOf(link);
  }

  /** Throws `not-found` (kind `blob`). */
  async unlinkBlob(repository: RepositoryName, digest: Digest, options: CallOptions): Promise<void> {
    await this.#call(options, (client, call) => client.unlinkBlob({ repository, digest: digestToProto(digest) }, call));
  }

  /**
   * Stores a manifest whose bytes the owners hold, and its tags. Returns the tags with their versions. Throws `failed-precondition` (kind `missing`,
   * `digests`) when a reference is not in the repository, unless the manifest is `sparse`, and `aborted` as {@link linkBlob} does.
   */
  async putManifest(
    repository: RepositoryName,
    manifest: Omit<ManifestUpload, 'bytes'> & { readonly sizeBytes: number },
    fence: bigint,
    options: CallOptions,
  ): Promise<readonly TagEntry[]> {
    const { tags: names, sparse = false } = manifest;
    const request = { repository, manifest: manifestToProto({ ...manifest, pushedMs: 0 }), tags: [...names], fence, sparse };
    const { tags } = await this.#fenced(options, (client, call) => client.putManifest(request, call));
    return tags.map(tagOf);
  }

  /** Throws `not-found` (kind `manifest`). */
  async getManifest(repository: RepositoryName, reference: Reference, options: CallOptions): Promise<ManifestEntry> {
    const request = { repository, reference: referenceToProto(reference) };
    const { manifest } = await this.#call(options, (client, call) => client.getManifest(request, call));
    return manifestFromProto(required(manifest, 'manifest'));
  }

  /** As {@link getManifest}, for a pusher who will not send what is there: it is kept from being collected for a while. */
  async renewManifest(repository: RepositoryName, reference: Reference, options: CallOptions): Promise<ManifestEntry> {
    const request = { repository, reference: referenceToProto(reference) };
    const { manifest } = await this.#call(options, (client, call) => client.renewManifest(request, call));
    return manifestFromProto(required(manifest, 'manifest'));
  }

  /** A tag and the manifest it points to. Throws `not-found` (kind `manifest`). */
  async getTag(
    repository: RepositoryName,
    name: Tag,
    options: CallOptions,
  ): Promise<{ readonly tag: TagEntry; readonly manifest: ManifestEntry }> {
    const request = { repository, reference: referenceToProto({ tag: name }) };
    const { manifest, tag } = await this.#call(options, (client, call) => client.getManifest(request, call));
    return { tag: tagOf(required(tag, 'tag')), manifest: manifestFromProto(required(manifest, 'manifest')) };
  }

  /** By digest: the manifest and every tag on it; by tag: the tag alone. Throws `not-found` (kind `manifest`). */
  async deleteManifest(repository: RepositoryName, reference: Reference, options: CallOptions): Promise<void> {
    const request = { repository, reference: referenceToProto(reference) };
    await this.#call(options, (client, call) => client.deleteManifest(request, call));
  }

  /** Throws `not-found` (kind `repository`). */
  async listTags(repository: RepositoryName, page: PageRequest<string>, options: CallOptions): Promise<Page<Tag>> {
    return readPage(page, async (pageSize, pageToken) => {
      const { tags, nextPageToken } = await this.#call(options, (client, call) =>
        client.listTags({ repository, pageSize, pageToken }, call),
      );
      return { items: tags.map(({ tag }) => parseTag(tag)), nextPageToken };
    });
  }

  async listRepositories(page: PageRequest<string>, options: CallOptions): Promise<Page<RepositoryName>> {
    return readPage(page, async (pageSize, pageToken) => {
      const { repositories, nextPageToken } = await this.#call(options, (client, call) =>
        client.listRepositories({ pageSize, pageToken }, call),
      );
      return { items: repositories.map(parseRepositoryName), nextPageToken };
    });
  }

  /** In digest order; `after` is a digest. Empty for an unknown repository or subject. */
  async listReferrers(
    repository: RepositoryName,
    subject: Digest,
    filter: PageRequest<string> & { readonly artifactType?: string },
    options: CallOptions,
  ): Promise<Page<Referrer>> {
    const base = { repository, subject: digestToProto(subject), artifactType: filter.artifactType ?? '' };
    return readPage(filter, async (pageSize, pageToken) => {
      const { manifests, nextPageToken } = await this.#call(options, (client, call) =>
        client.listReferrers({ ...base, pageSize, pageToken }, call),
      );
      return { items: manifests.map(referrerOf), nextPageToken };
    });
  }

  /** Those of at most 1,000 blobs that no repository shows. For origins. */
  async findUnreferencedBlobs(digests: readonly Digest[], options: CallOptions): Promise<IndexVerdict> {
    const request = { digests: digests.map(digestToProto) };
    const answer = await this.#collection(options, (client, call) => client.findUnreferencedBlobs(request, call));
    return { digests: answer.unreferenced.map((digest) => digestFromProto(digest)), index: indexOf(answer.state) };
  }

  /**
   * The right to delete those of at most 1,000 blobs that no repository shows: nobody can link them until they are released, or for `lifetimeMs`. For
   * origins.
   */
  async claimBlobs(digests: readonly Digest[], options: CallOptions): Promise<IndexVerdict & { readonly lifetimeMs: number }> {
    const request = { digests: digests.map(digestToProto) };
    const answer = await this.#collection(options, (client, call) => client.claimBlobs(request, call));
    const claimed = answer.claimed.map((digest) => digestFromProto(digest));
    return { digests: claimed, index: indexOf(answer.state), lifetimeMs: durationFromProto(answer.lifetime, 'lifetime') };
  }

  /** Ends claims of this origin. */
  async releaseBlobs(digests: readonly Digest[], options: CallOptions): Promise<void> {
    const request = { digests: digests.map(digestToProto) };
    await this.#collection(options, (client, call) => client.releaseBlobs(request, call));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#monitor[Symbol.asyncDispose]();
  }

  /** A call that links what was placed: whether it is taken or refused, it tells the fence for the next one. */
  async #fenced<T extends { readonly fence: bigint }>(
    options: CallOptions,
    ask: (client: IndexClient, call: IndexCallOptions) => Promise<T>,
  ): Promise<T> {
    try {
      const answer = await this.#call(options, ask);
      this.#noteFence(answer.fence);
      return answer;
    } catch (error) {
      const fence = isAppError(error, 'aborted') ? error.data['fence'] : undefined;
      if (typeof fence === 'string' || typeof fence === 'number') this.#noteFence(BigInt(fence));
      throw error;
    }
  }

  async #collection<T>(
    options: CallOptions,
    ask: (client: Client<typeof CollectionServiceService>, call: IndexCallOptions) => Promise<T>,
  ): Promise<T> {
    return this.#call(options, (_index, call, target) => ask(this.#channels.client(CollectionServiceService, target), call));
  }

  #noteFence(fence: bigint): void {
    if (this.#fence === undefined || fence > this.#fence) this.#fence = fence;
  }

  /** Asks one instance after the other, those that are up first, until one answers. */
  async #call<T>({ signal }: CallOptions, ask: (client: IndexClient, options: IndexCallOptions, target: Target) => Promise<T>): Promise<T> {
    const up = this.#members.filter(({ id }) => this.#monitor.isHealthy(id));
    const candidates = up.length === this.#members.length ? up : [...up, ...this.#members.filter((member) => !up.includes(member))];
    let failure: AppError | undefined;
    for (const { id, endpoint } of candidates) {
      try {
        const target: Target = { endpoint, role: 'build-index', id };
        const client = this.#channels.client(BuildIndexServiceService, target);
        return await ask(client, { signal, timeoutMs: this.#timeoutMs }, target);
      } catch (error) {
        failure = toAppError(error);
        if (signal.aborted || !isAppError(failure, 'unavailable', 'deadline-exceeded')) throw failure;
        this.#monitor.reportFailure(id);
      }
    }
    if (failure === undefined) throw new AppError('unavailable', 'no build-index is configured');
    throw new AppError('unavailable', 'no build-index answers; try again', { cause: failure, retryAfterMs: 1000 });
  }
}

/** Collects one page of any size from pages of the service. */
async function readPage<T extends string | Referrer>(
  { limit, after }: PageRequest<string>,
  read: (pageSize: number, pageToken: string) => Promise<{ readonly items: readonly T[]; readonly nextPageToken: string }>,
): Promise<Page<T>> {
  if (limit <= 0) {
    // Somebody still wants to know whether the repository exists.
    await read(1, after ?? '');
    return { items: [], more: false };
  }
  const items: T[] = [];
  let pageToken = after ?? '';
  for (;;) {
    const page = await read(Math.min(pageSizeMax, limit - items.length), pageToken);
    items.push(...page.items);
    pageToken = page.nextPageToken;
    if (pageToken === '' || items.length >= limit) return { items, more: pageToken !== '' };
  }
}

function referenceToProto(
  reference: Reference,
): { readonly $case: 'tag'; readonly tag: string } | { readonly $case: 'digest'; readonly digest: ReturnType<typeof digestToProto> } {
  return 'tag' in reference ? { $case: 'tag', tag: reference.tag } : { $case: 'digest', digest: digestToProto(reference.digest) };
}

function indexOf(state: IndexStateMessage | undefined): IndexState {
  const { indexId, version } = required(state, 'state');
  return { id: indexId, version };
}

function blobOf(link: BlobLink | undefined): BlobStat {
  const { digest, sizeBytes } = required(link, 'link');
  return { digest: digestFromProto(digest, 'link.digest'), sizeBytes: safeNumber(sizeBytes, 'link.size_bytes') };
}

function tagOf({ tag, digest, version }: TagRecord): TagEntry {
  return { tag, digest: digestFromProto(digest, 'tag.digest'), version };
}

function referrerOf(record: ManifestRecord): Referrer {
  const { mediaType, digest, sizeBytes, artifactType, annotations } = manifestFromProto(record);
  return { mediaType, digest, sizeBytes, artifactType, annotations };
}
