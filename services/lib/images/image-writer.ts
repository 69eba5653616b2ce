/**
 * Writes images into the mesh. Uploads gather on this node's disk; a commit asks the owners to pull the blob from here (and from each other), waits
 * until enough of them hold it on disk, and only then makes it visible in the build-index. So nothing half-written is ever visible, and what was
 * acknowledged survives this node.
 */
import type { BuildIndexClient, OriginCluster } from '#cluster';
import {
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
  type Metainfo,
  type Reference,
  type RepositoryName,
  toAppError,
  type UploadChunk,
  type UploadStat,
} from '#core';
import type { BlobStore, UploadStore } from '#storage';
import type { PeerOffer } from '#swarm';
import { placeAndPublish } from './publish.ts';
import { readWhole } from './read-whole.ts';

const unpinPageSize = 1000;

export interface ImageWriterDeps {
  readonly index: Pick<BuildIndexClient, 'fence' | 'linkBlob' | 'mountBlob' | 'unlinkBlob' | 'putManifest' | 'deleteManifest'>;
  readonly origins: Pick<OriginCluster, 'ingest'>;
  readonly uploads: Pick<UploadStore, 'start' | 'stat' | 'append' | 'finish' | 'forget' | 'cancel'>;
  /** This node's blobs; its peer service serves them to the owners. */
  readonly store: BlobStore;
  /** This node as a source. */
  readonly self: PeerOffer;
  /** Whether the bytes of a blob still exist: one that is lost is not mounted, so that the client pushes it. */
  readonly holds: (digest: Digest, options: CallOptions) => Promise<boolean>;
  readonly clock: Pick<Clock, 'sleep'>;
  readonly logger: Logger;
}

export class MeshImageWriter implements ImageWriter {
  readonly #deps: ImageWriterDeps;
  /** Blobs that owners are still pulling; they must not leave the disk. */
  readonly #pushing = new Map<Digest, number>();

  private constructor(deps: ImageWriterDeps) {
    this.#deps = deps;
  }

  /** Lets go of blobs that an earlier process of this node was pushing when it ended: their pushes were not acknowledged. */
  static async open(deps: ImageWriterDeps): Promise<MeshImageWriter> {
    let page = deps.store.list({ limit: unpinPageSize });
    for (let last = page.at(-1); last !== undefined; last = page.at(-1)) {
      for (const { digest, pinned } of page) if (pinned) await deps.store.setPinned(digest, false);
      page = deps.store.list({ limit: unpinPageSize, after: last.digest });
    }
    return new MeshImageWriter(deps);
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
    const { uploads, store, index } = this.#deps;
    const { path, metainfo } = await uploads.finish(repository, id, digest, options);
    await store.adopt(path, metainfo, { fsync: false });
    const blob = { digest, sizeBytes: metainfo.sizeBytes };
    await this.#publish(metainfo, (fence) => index.linkBlob(repository, blob, fence, options), options);
    await uploads.forget(repository, id);
    return { digest, sizeBytes: metainfo.sizeBytes };
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
    const metainfo = await this.#deps.store.put(manifest.digest, manifest.bytes, { fsync: false });
    const entry = { ...manifest, sizeBytes: manifest.bytes.byteLength };
    await this.#publish(metainfo, async (fence) => void (await this.#deps.index.putManifest(repository, entry, fence, options)), options);
  }

  async deleteBlob(repository: RepositoryName, digest: Digest, options: CallOptions): Promise<void> {
    await this.#deps.index.unlinkBlob(repository, digest, options);
  }

  async deleteManifest(repository: RepositoryName, reference: Reference, options: CallOptions): Promise<void> {
    await this.#deps.index.deleteManifest(repository, reference, options);
  }

  async #publish(metainfo: Metainfo, link: (fence: bigint) => Promise<void>, options: CallOptions): Promise<void> {
    await placeAndPublish({ place: () => this.#push(metainfo, options), publish: link }, this.#deps, options);
  }

  /** Returns when enough owners hold the blob on disk; the others go on pulling from here. */
  async #push(metainfo: Metainfo, options: CallOptions): Promise<void> {
    const { digest } = metainfo;
    try {
      await this.#hold(digest);
      const { settled } = await this.#deps.origins.ingest(metainfo, [this.#deps.self], await this.#inline(metainfo), options);
      void settled.finally(() => this.#letGo(digest));
    } catch (error) {
      this.#letGo(digest);
      throw error;
    }
  }

  async #inline(metainfo: Metainfo): Promise<Uint8Array | undefined> {
    return isTiny(metainfo.sizeBytes) ? readWhole(this.#deps.store, metainfo.digest) : undefined;
  }

  async #hold(digest: Digest): Promise<void> {
    this.#pushing.set(digest, (this.#pushing.get(digest) ?? 0) + 1);
    await this.#deps.store.setPinned(digest, true);
  }

  #letGo(digest: Digest): void {
    const holders = (this.#pushing.get(digest) ?? 1) - 1;
    if (holders > 0) {
      this.#pushing.set(digest, holders);
      return;
    }
    this.#pushing.delete(digest);
    this.#deps.store.setPinned(digest, false).catch((error: unknown) => {
      this.#deps.logger.warn('could not unpin a pushed blob', { digest, error: toAppError(error).message });
    });
  }
}
