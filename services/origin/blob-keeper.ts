/** What an origin does to hold a blob: take it in, find it at the other owners, or bring it back from durable storage. */
import { type FoundMetainfo, longestIngestMs, type OriginCluster } from '#cluster';
import { AppError, algorithmOf, type Digest, digestOf, isAppError, isTiny, type Logger, type Metainfo, peerIdOf, toAppError } from '#core';
import type { BlobFetcher } from '#peer';
import type { BlobStore } from '#storage';
import type { PeerOffer } from '#swarm';
import type { BlobsInUse } from './blobs-in-use.ts';
import type { GarbageMarks } from './garbage-marks.ts';
import type { Refill } from './refill.ts';
import type { WriteBack } from './write-back.ts';

export interface BlobKeeperDeps {
  readonly store: BlobStore;
  readonly peer: BlobFetcher;
  readonly origins: OriginCluster;
  readonly writeBack: WriteBack;
  readonly refill: Refill;
  readonly inUse: BlobsInUse;
  readonly marks: Pick<GarbageMarks, 'clear'>;
  readonly logger: Logger;
}

export interface IngestOrder {
  readonly metainfo: Metainfo;
  readonly sources: readonly PeerOffer[];
  /** All bytes of a tiny blob. */
  readonly inline: Uint8Array | undefined;
}

export class BlobKeeper {
  readonly #deps: BlobKeeperDeps;
  /** Blobs this owner is fetching for itself, so that one question starts one fetch. */
  readonly #healing = new Set<Digest>();

  constructor(deps: BlobKeeperDeps) {
    this.#deps = deps;
  }

  /** Returns when the blob is verified and synced on this disk and its write-back is queued. */
  async ingest(order: IngestOrder, options: { readonly signal: AbortSignal }): Promise<{ readonly writtenBack: boolean }> {
    const { inUse, marks } = this.#deps;
    const { digest } = order.metainfo;
    return inUse.hold(digest, async () => {
      const outcome = await this.#takeIn(order, options);
      // Somebody wants it: its grace begins anew.
      await marks.clear(digest);
      return outcome;
    });
  }

  /** As {@link ingest}, for an owner that lacks a blob which other origins hold. Nobody has pushed it: a mark of garbage stays. */
  async takeFromOthers({ metainfo, holders }: FoundMetainfo, options: { readonly signal: AbortSignal }): Promise<void> {
    await this.#deps.inUse.hold(metainfo.digest, async () => this.#takeIn({ metainfo, sources: holders, inline: undefined }, options));
  }

  async #takeIn(order: IngestOrder, options: { readonly signal: AbortSignal }): Promise<{ readonly writtenBack: boolean }> {
    const { store, peer, writeBack } = this.#deps;
    const { digest } = order.metainfo;
    if (store.stat(digest) !== undefined && (await writeBack.isDone(digest, options))) return { writtenBack: true };
    if (store.stat(digest) === undefined) {
      if (order.inline !== undefined) await this.#putInline(digest, order.inline);
      else await peer.ingest(order.metainfo, this.#withOtherOwners(digest, order.sources), options);
    }
    // It may be here from an upload that has not waited for the disk, and may have come so while it was being fetched.
    await store.sync(digest);
    // Also for a blob that was here: an earlier ingest may have ended between the disk and the queue.
    await writeBack.enqueue(digest);
    return { writtenBack: false };
  }

  /**
   * The blob's metainfo: from this disk, from another owner, or from durable storage. Throws `not-found` (kind `blob`) when all of them
   * answered that there is none, `unavailable` when one did not answer.
   */
  async metainfo(digest: Digest, scope: { readonly localOnly: boolean }, options: { readonly signal: AbortSignal }): Promise<Metainfo> {
    const local = this.#deps.store.metainfo(digest);
    if (local !== undefined) return local;
    if (scope.localOnly) throw blobNotFound(digest);
    const elsewhere = await this.#fromOtherOwners(digest, options).catch((error: unknown) => toAppError(error));
    if (elsewhere !== undefined && !(elsewhere instanceof AppError)) return elsewhere;
    const refilled = await this.#deps.refill.get(digest, options);
    if (refilled !== undefined) return refilled;
    // Storage has none, but an owner that did not answer may.
    throw elsewhere ?? blobNotFound(digest);
  }

  async #putInline(digest: Digest, bytes: Uint8Array): Promise<void> {
    if (!isTiny(bytes.byteLength)) throw new AppError('invalid-argument', 'inline_data holds at most 256 KiB; name sources instead');
    if (digestOf(bytes, algorithmOf(digest)) !== digest)
      throw new AppError('digest-mismatch', 'inline_data does not have the digest of the metainfo');
    await this.#deps.store.put(digest, bytes, { fsync: true });
  }

  /** Owners take the blob in at the same time and serve each other what they already have. */
  #withOtherOwners(digest: Digest, sources: readonly PeerOffer[]): readonly PeerOffer[] {
    const named = new Set(sources.map(({ peer }) => peer));
    const others = this.#deps.origins
      .otherOwners(digest)
      .map(({ id, endpoint }) => ({ peer: peerIdOf({ role: 'origin', id }), endpoint, complete: false }))
      .filter(({ peer }) => !named.has(peer));
    return [...sources, ...others];
  }

  async #fromOtherOwners(digest: Digest, options: { readonly signal: AbortSignal }): Promise<Metainfo | undefined> {
    const found = await this.#deps.origins.findMetainfo(digest, options);
    if (found === undefined) return undefined;
    if (this.#deps.origins.isOwner(digest)) this.#heal(found.metainfo, found.holders);
    return found.metainfo;
  }

  /** An owner that lacks a blob fetches it for itself in the background. */
  #heal(metainfo: Metainfo, holders: readonly PeerOffer[]): void {
    const { digest } = metainfo;
    if (this.#healing.has(digest)) return;
    this.#healing.add(digest);
    const { logger } = this.#deps;
    this.takeFromOthers({ metainfo, holders }, { signal: AbortSignal.timeout(longestIngestMs(metainfo.sizeBytes)) })
      .catch((error: unknown) => {
        const { code, message } = toAppError(error);
        if (!isAppError(error, 'cancelled'))
          logger.warn('could not fetch an owned blob from the other owners', { digest, code, error: message });
      })
      .finally(() => this.#healing.delete(digest));
  }
}

function blobNotFound(digest: Digest): AppError {
  return new AppError('not-found', 'no owner and no storage has this blob', { data: { kind: 'blob', digest } });
}
