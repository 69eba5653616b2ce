/** What a simulated network is told, and what its hosts and trackers are assumed to cost. */
import type { Digest } from '#core';
import type { PeerOffer, RosterOptions, SwarmOptions } from '#swarm';

export interface NetworkOptions {
  readonly seed: number;
  /** One way, between any two hosts. */
  readonly latencyMs: number;
  readonly swarm?: Partial<SwarmOptions>;
  readonly roster?: Partial<RosterOptions>;
  /** 1 when nothing is said. */
  readonly trackerCount?: number;
  /** Whether hosts read what they want in order. */
  readonly reading?: boolean;
  /** The owners of a blob, offered to those who stall or are told of few. */
  readonly owners?: (digest: Digest) => readonly PeerOffer[];
}

/** A reader's window: as much as the peer library reads ahead. */
export const readAheadBytes = 8 * 1024 * 1024;
/** Verifying and writing: a fixed part, and SHA-256 at 1 GB/s. */
export const verifyMs = 0.3;
export const verifyBytesPerMs = 1_000_000;
/** A tracker's message: 34 us measured for a stream message, and the handout. */
export const trackerMessageMs = 0.05;
/** Until hosts have noticed the loss of a tracker and told the next one everything. */
export const trackerFailoverMs = 1000;
