/** Every limit of the peer library: default, bounds and the reason for them. */
import { AppError } from '#core';
import { type SwarmOptions, swarmOptions } from '#swarm';
import type { NetworkEventFileOptions } from './network-event-file.ts';

const mebi = 1024 * 1024;

/** Times are milliseconds, sizes bytes, counts whole. */
export interface PeerLimits {
  readonly abandonGraceMs: number;
  readonly noSourceTimeoutMs: number;
  readonly noProgressTimeoutMs: number;
  readonly lookupIntervalMs: number;
  readonly readAheadBytes: number;
  readonly heldBytesMax: number;
  readonly sendBytesMax: number;
  readonly sendTimeoutMs: number;
  readonly seedIdleMs: number;
  readonly historyCountMax: number;
  readonly tinyHedgeMs: number;
  readonly tinyTimeoutMs: number;
  readonly announceBatchCount: number;
  readonly announcePauseMs: number;
  readonly drainTimeoutMs: number;
}

/** What a service may set; everything has a default. */
export interface PeerOptions extends Partial<PeerLimits> {
  /** Limits of the engine, egress and ingress rates among them. */
  readonly swarm?: Partial<SwarmOptions>;
  /** Sync every finished blob to disk, as an origin must. Default false: an agent can fetch again. */
  readonly fsync?: boolean;
  /** Write every network event to this file; none when absent. */
  readonly networkEvents?: NetworkEventFileOptions | undefined;
}

/** {@link PeerOptions} with every default filled in. */
export interface ResolvedPeerOptions extends PeerLimits {
  readonly swarm: SwarmOptions;
  readonly fsync: boolean;
}

interface Limit {
  readonly default: number;
  readonly min: number;
  readonly max: number;
  readonly reason: string;
}

/** The table behind {@link peerOptions}. */
export const peerLimits: Readonly<Record<keyof PeerLimits, Limit>> = {
  abandonGraceMs: limit(5000, 0, 600_000, 'a client that reconnects within seconds finds its download running'),
  noSourceTimeoutMs: limit(30_000, 100, 3_600_000, 'a restarted origin is back in this time; docker gives up after minutes'),
  noProgressTimeoutMs: limit(300_000, 1000, 3_600_000, 'a 4 MiB piece over 100 kbit/s takes this long'),
  lookupIntervalMs: limit(3000, 50, 600_000, 'how often a download without a source asks for peers again'),
  readAheadBytes: limit(8 * mebi, 256 * 1024, 256 * mebi, 'what a reader wants soon: 80 ms at 100 MB/s'),
  heldBytesMax: limit(64 * mebi, 4 * mebi, 4096 * mebi, 'pieces received and not yet written; above it the senders wait'),
  sendBytesMax: limit(64 * mebi, 4 * mebi, 4096 * mebi, 'pieces read and not yet taken by the transport'),
  sendTimeoutMs: limit(60_000, 100, 3_600_000, 'a receiver that cannot take a piece in this time blocks others'),
  seedIdleMs: limit(30_000, 0, 3_600_000, 'an idle seed is taken out of the engine and its file is closed'),
  historyCountMax: limit(1000, 0, 100_000, 'finished transfers an operator can look at; about 1 KiB each'),
  tinyHedgeMs: limit(200, 1, 10_000, 'a healthy owner answers within 10 ms; a second is asked after this'),
  tinyTimeoutMs: limit(10_000, 10, 600_000, 'then the swarm is tried'),
  announceBatchCount: limit(256, 1, 10_000, 'blobs announced at a time after a start'),
  announcePauseMs: limit(20, 0, 10_000, 'between two batches, so that a start does not block'),
  drainTimeoutMs: limit(10_000, 0, 600_000, 'how long pieces being sent may take to leave'),
};

/** The defaults with `overrides`. Throws `invalid-argument` for a value outside its bounds, naming option and bounds. */
export function peerOptions(overrides: PeerOptions = {}): ResolvedPeerOptions {
  const value = (name: keyof PeerLimits): number => {
    const { default: fallback, min, max } = peerLimits[name];
    const chosen = overrides[name] ?? fallback;
    if (!Number.isSafeInteger(chosen) || chosen < min || chosen > max) {
      throw new AppError('invalid-argument', `peer option ${name} must be a whole number from ${min} to ${max}`, {
        data: { name, value: chosen },
      });
    }
    return chosen;
  };
  return {
    abandonGraceMs: value('abandonGraceMs'),
    noSourceTimeoutMs: value('noSourceTimeoutMs'),
    noProgressTimeoutMs: value('noProgressTimeoutMs'),
    lookupIntervalMs: value('lookupIntervalMs'),
    readAheadBytes: value('readAheadBytes'),
    heldBytesMax: value('heldBytesMax'),
    sendBytesMax: value('sendBytesMax'),
    sendTimeoutMs: value('sendTimeoutMs'),
    seedIdleMs: value('seedIdleMs'),
    historyCountMax: value('historyCountMax'),
    tinyHedgeMs: value('tinyHedgeMs'),
    tinyTimeoutMs: value('tinyTimeoutMs'),
    announceBatchCount: value('announceBatchCount'),
    announcePauseMs: value('announcePauseMs'),
    drainTimeoutMs: value('drainTimeoutMs'),
    swarm: swarmOptions(overrides.swarm),
    fsync: overrides.fsync ?? false,
  };
}

function limit(fallback: number, min: number, max: number, reason: string): Limit {
  return { default: fallback, min, max, reason };
}
