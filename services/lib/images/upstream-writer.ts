/** Refuses pushes to repositories of upstreams, and mounts out of them; everything else is the mesh's own writer. */
import type { MeshUpstreams } from '#cluster';
import {
  AppError,
  type BlobStat,
  type CallOptions,
  type Digest,
  type DigestAlgorithm,
  type ImageWriter,
  type ManifestUpload,
  type Reference,
  type RepositoryName,
  type UploadChunk,
  type UploadStat,
} from '#core';
import { matchUpstream } from '#upstream';

export interface UpstreamWriterDeps {
  readonly mesh: ImageWriter;
  readonly upstreams: Pick<MeshUpstreams, 'namespaces'>;
}

export class UpstreamImageWriter implements ImageWriter {
  readonly #mesh: ImageWriter;
  readonly #upstreams: UpstreamWriterDeps['upstreams'];

  constructor(deps: UpstreamWriterDeps) {
    this.#mesh = deps.mesh;
    this.#upstreams = deps.upstreams;
  }

  async startUpload(repository: RepositoryName, hint: { readonly algorithm?: DigestAlgorithm }, options: CallOptions): Promise<UploadStat> {
    await this.#requireOwn(repository, options);
    return this.#mesh.startUpload(repository, hint, options);
  }

  /** Sessions exist only where one could be started. */
  async statUpload(repository: RepositoryName, id: string, options: CallOptions): Promise<UploadStat> {
    return this.#mesh.statUpload(repository, id, options);
  }

  async appendUpload(repository: RepositoryName, id: string, chunk: UploadChunk, options: CallOptions): Promise<UploadStat> {
    return this.#mesh.appendUpload(repository, id, chunk, options);
  }

  async commitUpload(repository: RepositoryName, id: string, digest: Digest, options: CallOptions): Promise<BlobStat> {
    return this.#mesh.commitUpload(repository, id, digest, options);
  }

  async cancelUpload(repository: RepositoryName, id: string, options: CallOptions): Promise<void> {
    await this.#mesh.cancelUpload(repository, id, options);
  }

  /**
   * False, so that the client uploads the blob, for what only some callers may read at its upstream. Without a source any repository would do, such
   * ones among them: where there are any, none is tried.
   */
  async mountBlob(repository: RepositoryName, digest: Digest, from: RepositoryName | undefined, options: CallOptions): Promise<boolean> {
    await this.#requireOwn(repository, options);
    const rules = await this.#upstreams.namespaces(options);
    const isPrivate = from === undefined ? rules.some(({ checksCaller }) => checksCaller) : matchUpstream(rules, from)?.rule.checksCaller;
    if (isPrivate === true) return false;
    return this.#mesh.mountBlob(repository, digest, from, options);
  }

  async putManifest(repository: RepositoryName, manifest: ManifestUpload, options: CallOptions): Promise<void> {
    await this.#requireOwn(repository, options);
    await this.#mesh.putManifest(repository, manifest, options);
  }

  /** Drops what is cached; the next pull fetches it again. */
  async deleteBlob(repository: RepositoryName, digest: Digest, options: CallOptions): Promise<void> {
    await this.#mesh.deleteBlob(await this.#named(repository, options), digest, options);
  }

  /** As `deleteBlob`. */
  async deleteManifest(repository: RepositoryName, reference: Reference, options: CallOptions): Promise<void> {
    await this.#mesh.deleteManifest(await this.#named(repository, options), reference, options);
  }

  async #named(repository: RepositoryName, options: CallOptions): Promise<RepositoryName> {
    return matchUpstream(await this.#upstreams.namespaces(options), repository)?.repository ?? repository;
  }

  async #requireOwn(repository: RepositoryName, options: CallOptions): Promise<void> {
    const match = matchUpstream(await this.#upstreams.namespaces(options), repository);
    if (match === undefined) return;
    throw new AppError(
      'permission-denied',
      `${match.rule.namespace}/ holds what is pulled through from another registry; push there, or under another name`,
      { data: { kind: 'upstream' } },
    );
  }
}
