/** Reads images of the mesh: names from the build-index, bytes from this node's disk and its peers. */
import type { BuildIndexClient } from '#cluster';
import type {
  BlobReader,
  BlobStat,
  CallOptions,
  Digest,
  ImageReader,
  Manifest,
  ManifestStat,
  Page,
  PageRequest,
  Reference,
  Referrer,
  RepositoryName,
  Tag,
} from '#core';
import type { BlobFetcher } from '#peer';

/** Clients and servers of the field agree on manifests of at most 4 MiB. */
const manifestSizeBytesMax = 4 * 1024 * 1024;

export class MeshImageReader implements ImageReader {
  readonly #index: BuildIndexClient;
  readonly #blobs: BlobFetcher;

  constructor(deps: { readonly index: BuildIndexClient; readonly blobs: BlobFetcher }) {
    this.#index = deps.index;
    this.#blobs = deps.blobs;
  }

  async statBlob(repository: RepositoryName, digest: Digest, options: CallOptions): Promise<BlobStat> {
    return this.#index.getBlobLink(repository, digest, options);
  }

  async openBlob(repository: RepositoryName, digest: Digest, options: CallOptions): Promise<BlobReader> {
    const { sizeBytes } = await this.#index.getBlobLink(repository, digest, options);
    return this.#blobs.open(digest, { sizeBytes }, options);
  }

  async statManifest(repository: RepositoryName, reference: Reference, options: CallOptions): Promise<ManifestStat> {
    const { digest, mediaType, sizeBytes } = await this.#index.getManifest(repository, reference, options);
    return { digest, mediaType, sizeBytes };
  }

  async getManifest(repository: RepositoryName, reference: Reference, options: CallOptions): Promise<Manifest> {
    const stat = await this.statManifest(repository, reference, options);
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
}
