/**
 * Writes images into the mesh. Uploads gather at an origin; a commit makes enough owners hold the blob on disk, and only then is it made visible in the
 * build-index, from here. So nothing half-written is ever visible, and this node keeps nothing between two requests.
 */
import type { BuildIndexClient, OriginCluster, OriginUploads } from '#cluster';
import {
  algorithmOf,
  assert,
  type BlobStat,
  type CallOptions,
  type Clock,
  type Digest,
  type DigestAlgorithm,
  type ImageWriter,
  isAppError,
  isTiny,
  type Logger,
  type ManifestUpload,
  MetainfoBuilder,
  type Reference,
  type RepositoryName,
  toAppError,
  type UploadChunk,
  type UploadStat,
} from '#core';
import { placeAndPublish } from './publish.ts';

export interface ImageWriterDeps {
  readonly index: Pick<BuildIndexClient, 'fence' | 'linkBlob' | 'mountBlob' | 'unlinkBlob' | 'putManifest' | 'deleteManifest'>;
  readonly origins: Pick<OriginCluster, 'ingest'>;
  readonly uploads: Pick<OriginUploads, 'start' | 'stat' | 'append' | 'commit' | 'cancel'>;
  /** Whether the bytes of a blob still exist: one that is lost is not mounted, so that the client pushes it. */
  readonly holds: (digest: Digest, options: CallOptions) => Promise<boolean>;
  readonly clock: Pick<Clock, 'sleep'>;
  readonly logger: Logger;
}

export class MeshImageWriter implements ImageWriter {
  readonly #deps: ImageWriterDeps;

  constructor(deps: ImageWriterDeps) {
    this.#deps = deps;
  }

  async startUpload(repository: RepositoryName, hint: { readonly algorithm?: DigestAlgorithm }, options: CallOptions): Promise<UploadStat> {
    return this.#deps.uploads.start(repository, hint, options);
  }

  async statUpload(repository: RepositoryName, id: string, options: CallOptions): Promise<UploadStat> {
    return this.#deps.uploads.stat(repository, id, options);
  }

  async appendUpload(repository: RepositoryName, id: string, chunk: UploadChunk, options: CallOptions): Promise<UploadStat> {
    return this.#deps.uploads.append(repository, id, chunk, options);
  }

  async cancelUpload(repository: RepositoryName, id: string, options: CallOptions): Promise<void> {
    await this.#deps.uploads.cancel(repository, id, options);
  }

  async commitUpload(repository: RepositoryName, id: string, digest: Digest, options: CallOptions): Promise<BlobStat> {
    const { uploads, index } = this.#deps;
    let stat: BlobStat | undefined;
    const place = async (): Promise<void> => {
      stat = await uploads.commit(repository, id, digest, options);
    };
    const publish = async (fence: bigint): Promise<BlobStat> => {
      assert(stat !== undefined, 'a blob is placed before it is linked');
      await index.linkBlob(repository, stat, fence, options);
      return stat;
    };
    const linked = await placeAndPublish({ place, publish }, this.#deps, options);
    await this.#forget(repository, id);
    return linked;
  }

  async mountBlob(repository: RepositoryName, digest: Digest, from: RepositoryName | undefined, options: CallOptions): Promise<boolean> {
    try {
      await this.#deps.index.mountBlob(repository, digest, from, options);
      // Asked second, for what no repository shows need not be looked for. The link of a lost blob does no harm: nobody finds the blob by it.
      return await this.#deps.holds(digest, options);
    } catch (error) {
      if (isAppError(error, 'not-found')) return false;
      throw error;
    }
  }

  async putManifest(repository: RepositoryName, manifest: ManifestUpload, options: CallOptions): Promise<void> {
    const entry = { ...manifest, sizeBytes: manifest.bytes.byteLength };
    const tiny = isTiny(manifest.bytes.byteLength);
    const place = async (): Promise<void> =>
      tiny ? this.#pushInline(manifest, options) : this.#pushAsUpload(repository, manifest, options);
    const publish = async (fence: bigint): Promise<void> => void (await this.#deps.index.putManifest(repository, entry, fence, options));
    await placeAndPublish({ place, publish }, this.#deps, options);
  }

  async deleteBlob(repository: RepositoryName, digest: Digest, options: CallOptions): Promise<void> {
    await this.#deps.index.unlinkBlob(repository, digest, options);
  }

  async deleteManifest(repository: RepositoryName, reference: Reference, options: CallOptions): Promise<void> {
    await this.#deps.index.deleteManifest(repository, reference, options);
  }

  /** Returns when enough owners hold the manifest on disk. */
  async #pushInline({ digest, bytes }: ManifestUpload, options: CallOptions): Promise<void> {
    const metainfo = new MetainfoBuilder().update(bytes).finish(digest);
    await this.#deps.origins.ingest(metainfo, [], bytes, options);
  }

  /** As {@link #pushInline}, for a manifest that does not fit into a message: the origins have no node to read it from but one of them. */
  async #pushAsUpload(repository: RepositoryName, { digest, bytes }: ManifestUpload, options: CallOptions): Promise<void> {
    const { uploads } = this.#deps;
    const { id } = await uploads.start(repository, { algorithm: algorithmOf(digest) }, options);
    try {
      await uploads.append(repository, id, { body: only(bytes), lengthBytes: bytes.byteLength }, options);
      await uploads.commit(repository, id, digest, options);
    } finally {
      await this.#forget(repository, id);
    }
  }

  /** Ends a session that nobody needs any more, whether the client is still there or not. It would expire by itself. */
  async #forget(repository: RepositoryName, id: string): Promise<void> {
    try {
      await this.#deps.uploads.cancel(repository, id, { signal: new AbortController().signal });
    } catch (error) {
      if (isAppError(error, 'not-found')) return;
      this.#deps.logger.warn('could not end an upload; it will expire', { id, error: toAppError(error).message });
    }
  }
}

async function* only(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
