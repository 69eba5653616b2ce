/**
 * Uploads of registry clients on this origin: chunks are read from the proxies that receive them; a commit makes the bytes a blob of this origin and of
 * enough owners. So a push needs no proxy to stay alive between two of its requests, and none of its bytes passes through a proxy twice.
 */
import type { OriginCluster } from '#cluster';
import { AppError, type Clock, type Digest, isTiny, type RepositoryName, type UploadStat } from '#core';
import { readWhole } from '#images';
import type { BlobFetcher } from '#peer';
import type { BlobStore, FinishedUpload, UploadStore } from '#storage';
import type { PeerOffer } from '#swarm';
import type { ChannelPool } from '#wire';
import type { BlobKeeper } from './blob-keeper.ts';
import type { BlobsInUse } from './blobs-in-use.ts';
import { type ChunkAddress, readChunk } from './chunk-reader.ts';

export interface UploadKeeperDeps {
  readonly uploads: UploadStore;
  readonly store: BlobStore;
  readonly peer: Pick<BlobFetcher, 'seed'>;
  readonly origins: Pick<OriginCluster, 'ingest'>;
  readonly keeper: Pick<BlobKeeper, 'ingest'>;
  readonly inUse: BlobsInUse;
  readonly channels: Pick<ChannelPool, 'client'>;
  /** This origin as a source. */
  readonly self: PeerOffer;
  readonly clock: Clock;
}

export interface AppendOrder {
  readonly repository: RepositoryName;
  readonly id: string;
  readonly startByte: number | undefined;
  readonly lengthBytes: number | undefined;
  readonly source: ChunkAddress;
}

export interface CommitOptions {
  readonly signal: AbortSignal;
  readonly localOnly: boolean;
}

export class UploadKeeper {
  readonly #deps: UploadKeeperDeps;

  constructor(deps: UploadKeeperDeps) {
    this.#deps = deps;
  }

  /** See `ImageWriter.appendUpload`; throws besides what reading the chunk throws. */
  async append({ repository, id, startByte, lengthBytes, source }: AppendOrder, signal: AbortSignal): Promise<UploadStat> {
    const done = new AbortController();
    const body = readChunk(source, { signal: done.signal }, this.#deps);
    const chunk = {
      body,
      ...(startByte === undefined ? {} : { startByte }),
      ...(lengthBytes === undefined ? {} : { lengthBytes }),
    };
    try {
      return await this.#deps.uploads.append(repository, id, chunk, { signal });
    } finally {
      // A stream that was left early is still waiting for its next message.
      done.abort();
    }
  }

  /**
   * Returns the size when the write quorum holds the blob on disk, or when the store has it where that is all that is asked; asked again after a success or
   * a failure it does the same.
   */
  async commit(repository: RepositoryName, id: string, digest: Digest, options: CommitOptions): Promise<number> {
    const { uploads, inUse, store } = this.#deps;
    const upload = await uploads.finish(repository, id, digest, options);
    // From before its first moment here until enough owners have it, so that no collection of garbage comes in between.
    await inUse.hold(digest, async () => {
      if (options.localOnly) await store.adopt(upload.path, upload.metainfo, { fsync: false });
      else await this.#place(upload, options);
    });
    return upload.metainfo.sizeBytes;
  }

  async #place({ path, metainfo }: FinishedUpload, options: { readonly signal: AbortSignal }): Promise<void> {
    const { store, peer, origins, keeper, self } = this.#deps;
    const { digest } = metainfo;
    await store.adopt(path, metainfo, { fsync: false });
    // An open blob is not evicted: the owners read it here, also when this origin is none of them.
    const blob = await store.open(digest);
    if (blob === undefined)
      throw new AppError('resource-exhausted', 'the disk has no room for the blob; try again', { retryAfterMs: 30_000 });
    try {
      const inline = isTiny(metainfo.sizeBytes) ? await readWhole(store, digest) : undefined;
      if (inline === undefined) peer.seed(metainfo);
      // As an owner it syncs while the others read; taking the blob in again does that.
      const holdHere = async (): Promise<void> => {
        await store.adopt(path, metainfo, { fsync: true });
        await keeper.ingest({ metainfo, sources: [], inline }, options);
      };
      const { settled } = await origins.ingest(metainfo, [self], inline, { ...options, holdHere });
      // The push is over by then: what closing meets is nobody's affair, and must not end the process.
      void settled.then(() => blob[Symbol.asyncDispose]()).catch(() => undefined);
    } catch (error) {
      await blob[Symbol.asyncDispose]();
      throw error;
    }
  }
}
