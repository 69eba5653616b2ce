/** Reads images of the mesh: names from the build-index, bytes from this node's disk and its peers. */
import type { BuildIndexClient } from '#cluster';
import {
  AppError,
  type BlobReader,
  type BlobStat,
  type CallOptions,
  type Digest,
  type ImageReader,
  type Manifest,
  type ManifestStat,
  type Page,
  type PageRequest,
  type Reference,
  type Referrer,
  type RepositoryName,
  type Tag,
} from '#core';
import type { BlobFetcher } from '#peer';

/** Clients and servers of the field agree on manifests of at most 4 MiB. */
const manifestSizeBytesMax = 4 * 1024 * 1024;

export interface ImageReaderDeps {
  readonly index: Pick<
    BuildIndexClient,
    'getBlobLink' | 'renewBlobLink' | 'getManifest' | 'renewManifest' | 'listTags' | 'listRepositories' | 'listReferrers'
  >;
  readonly blobs: Pick<BlobFetcher, 'open' | 'bytes'>;
  /**
   * Whether the bytes of a blob still exist; throws `unavailable` when that cannot be told. A node that takes pushes asks, because a client pushes
   * only what `statBlob` and `statManifest` do not find; without it the entry in the index is enough. What they do find is also kept from being
   * collected until the push has had the time to refer to it.
   */
  readonly holds?: (digest: Digest, options: CallOptions) => Promise<boolean>;
}

export class MeshImageReader implements ImageReader {
  readonly #index: ImageReaderDeps['index'];
  readonly #blobs: ImageReaderDeps['blobs'];
  readonly #holds: ImageReaderDeps['holds'];

  constructor(deps: ImageReaderDeps) {
    this.#index = deps.index;
    this.#blobs = deps.blobs;
    this.#holds = deps.holds;
  }

  /** Throws `not-found` (kind `blob`) also for a blob that is linked but lost. */
  async statBlob(repository: RepositoryName, digest: Digest, options: CallOptions): Promise<BlobStat> {
    if (this.#holds === undefined) return this.#index.getBlobLink(repository, digest, options);
    const stat = await this.#index.renewBlobLink(repository, digest, options);
    await this.#requireHeld('blob', repository, digest, options);
    return stat;
  }

  async openBlob(repository: RepositoryName, digest: Digest, options: CallOptions): Promise<BlobReader> {
    const { sizeBytes } = await this.#index.getBlobLink(repository, digest, options);
    return this.#blobs.open(digest, { sizeBytes }, options);
  }

  /** Throws `not-found` (kind `manifest`) also for a manifest whose bytes are lost. */
  async statManifest(repository: RepositoryName, reference: Reference, options: CallOptions): Promise<ManifestStat> {
    if (this.#holds === undefined) return this.#indexed(repository, reference, options);
    const { digest, mediaType, sizeBytes } = await this.#index.renewManifest(repository, reference, options);
    await this.#requireHeld('manifest', repository, digest, options);
    return { digest, mediaType, sizeBytes };
  }

  async getManifest(repository: RepositoryName, reference: Reference, options: CallOptions): Promise<Manifest> {
    const stat = await this.#indexed(repository, reference, options);
    const limits = { sizeBytes: stat.sizeBytes, sizeBytesMax: manifestSizeBytesMax };
    return { ...stat, bytes: await this.#blobs.bytes(stat.digest, limits, options) };
  }

  async listTags(repository: RepositoryName, page: PageRequest<string>, options: CallOptions): Promise<Page<Tag>> {
    return this.#index.listTags(repository, page, options);
  }

  async listRepositories(page: PageRequest<string>, options: CallOptions): Promise<Page<RepositoryName>> {
    return this.#index.listRepositories(page, options);
  }

  async listReferrers(
    repository: RepositoryName,
    subject: Digest,
    filter: PageRequest<string> & { readonly artifactType?: string },
    options: CallOptions,
  ): Promise<Page<Referrer>> {
    return this.#index.listReferrers(repository, subject, filter, options);
  }

  async #indexed(repository: RepositoryName, reference: Reference, options: CallOptions): Promise<ManifestStat> {
    const { digest, mediaType, sizeBytes } = await this.#index.getManifest(repository, reference, options);
    return { digest, mediaType, sizeBytes };
  }

  async #requireHeld(kind: 'blob' | 'manifest', repository: RepositoryName, digest: Digest, options: CallOptions): Promise<void> {
    if (this.#holds === undefined || (await this.#holds(digest, options))) return;
    throw new AppError('not-found', `no node holds this ${kind} any more; push it again`, { data: { kind, repository, digest } });
  }
}
