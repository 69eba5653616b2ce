/** What the peer library offers to the services: blobs of the mesh on this node's disk, and readers that do not wait for the whole. */
import type { BlobReader, Digest, Metainfo } from '#core';
import type { PeerOffer, TransferSnapshot } from '#swarm';

export interface PeerCallOptions {
  readonly signal: AbortSignal;
}

/** Gets blobs into the local store: one transfer for a blob however many ask. */
export interface BlobFetcher {
  /**
   * Opens a blob: from disk, or as a running download whose bytes are handed out as they are verified. `sizeBytes` lets a tiny blob skip the swarm.
   * The download goes on while somebody is interested, and is abandoned (its pieces kept) when the last reader of an incomplete blob leaves.
   * Throws `not-found` (kind `blob`), `unavailable`, `resource-exhausted`.
   */
  open(digest: Digest, hint: { readonly sizeBytes?: number }, options: PeerCallOptions): Promise<BlobReader>;
  /** Downloads a blob to the end; resolves when it is complete and verified here. */
  fetch(digest: Digest, hint: { readonly sizeBytes?: number }, options: PeerCallOptions): Promise<void>;
  /** As `fetch`, from named sources, with known metainfo, synced to disk: what an origin does to ingest. */
  ingest(metainfo: Metainfo, sources: readonly PeerOffer[], options: PeerCallOptions): Promise<void>;
  /** All bytes of a blob of at most `sizeBytesMax`, for manifests. Throws `resource-exhausted` when it is larger. */
  bytes(digest: Digest, hint: { readonly sizeBytes: number; readonly sizeBytesMax: number }, options: PeerCallOptions): Promise<Uint8Array>;
  /** Serves a blob that is complete in the store, and tells the tracker. */
  seed(metainfo: Metainfo): void;
  /** Running and remembered transfers. */
  transfers(): readonly TransferSnapshot[];
}
