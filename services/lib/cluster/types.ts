/** What a node asks the rest of the cluster for. Implemented over the wire in this folder and in memory for tests. */
import type { Digest, Metainfo } from '#core';
import type { PeerOffer } from '#swarm';
import type { ChannelPool } from '#wire';

/** A configured node of the cluster. */
export interface Member {
  /** As in its certificate; placement follows it. */
  readonly id: string;
  /** `host:port` of its gRPC server. */
  readonly endpoint: string;
}

/** A member and whether it answers. */
export interface MemberStatus extends Member {
  readonly healthy: boolean;
}

export interface ClusterCallOptions {
  readonly signal: AbortSignal;
}

/** The part of the wire this library uses. */
export type Channels = Pick<ChannelPool, 'client' | 'health'>;

/** What a lookup found. */
export interface LookupResult {
  readonly metainfo: Metainfo;
  readonly peers: readonly PeerOffer[];
}

/** Finds peers and metainfo, and tells others what this node has. */
export interface PeerDirectory extends AsyncDisposable {
  /**
   * The metainfo of a blob and the first peers for it, from its tracker or, when no tracker answers in time, from its owners.
   * Throws `not-found` (kind `blob`) when the owners say that there is none; `unavailable` when nobody could say.
   */
  lookup(digest: Digest, options: ClusterCallOptions): Promise<LookupResult>;
  /**
   * Asks the owners themselves, who look for a blob that they have lost: at each other and in durable storage. A tracker remembers metainfo for
   * longer than an origin must keep the bytes. Throws as {@link lookup} does.
   */
  askOwners(digest: Digest, options: ClusterCallOptions): Promise<LookupResult>;
  /** Tells the blob's tracker what this node is to the blob; kept and told again after a reconnect or a change of tracker. Never blocks, never fails. */
  update(digest: Digest, update: { readonly state: 'wanted' | 'complete' | 'gone'; readonly peersWanted: number }): void;
  /** Peers that trackers offer. Returns the unsubscribe function. */
  onOffer(listener: (digest: Digest, peers: readonly PeerOffer[]) => void): () => void;
  /** The healthy owners of a blob by the ring, best first: the safety net. */
  owners(digest: Digest): readonly PeerOffer[];
}
