/** Every limit of the engine: default, bounds and the reason for them. Nothing else in the engine holds a tunable number. */
import { AppError } from '#core';

const mebi = 1024 * 1024;

/** Limits of one engine. Counts are whole, times are milliseconds, sizes are bytes, rates are bytes per second. */
export interface SwarmOptions {
  readonly outboundLinksPerBlob: number;
  readonly owingLinksPerBlob: number;
  readonly inboundLinksPerBlob: number;
  readonly inboundLinks: number;
  readonly inFlightBytesPerLink: number;
  readonly inFlightBytes: number;
  readonly windowStartPieces: number;
  readonly ingressBytesPerSec: number;
  readonly egressBytesPerSec: number;
  readonly serveConcurrency: number;
  readonly seedConcurrency: number;
  readonly serveConcurrencyPerLink: number;
  readonly serveStuckMs: number;
  readonly tellWaitMs: number;
  readonly requestQueuePerLink: number;
  readonly candidatesPerBlob: number;
  readonly peersWanted: number;
  readonly announceIntervalMs: number;
  readonly dialTimeoutMs: number;
  readonly busyRetryMs: number;
  readonly inboundIdleMs: number;
  readonly uselessAfterMs: number;
  readonly stallAfterMs: number;
  readonly slowAfterMs: number;
  readonly slowFactor: number;
  readonly checkIntervalMs: number;
  readonly requestersPerPiece: number;
  readonly readerPieces: number;
  readonly corruptPenaltyMs: number;
  readonly unreachablePenaltyMs: number;
  readonly slowPenaltyMs: number;
  readonly penaltyMsMax: number;
  readonly penalisedPeers: number;
  readonly sourcesPerBlob: number;
}

/** One limit: what it is when nobody says otherwise, what it may be, and why. */
export interface Limit {
  readonly default: number;
  readonly min: number;
  readonly max: number;
  readonly reason: string;
}

/** The table behind {@link swarmOptions}. */
export const swarmLimits: Readonly<Record<keyof SwarmOptions, Limit>> = {
  outboundLinksPerBlob: limit(20, 1, 64, 'simulated, 24 hosts and 800 pieces end at 1.07 of the bound with 20 sources and at 1.35 with 10'),
  owingLinksPerBlob: limit(
    10,
    1,
    64,
    'sources that owe a piece at once: as many as a peer takes requests; fewer for small blobs and while several blobs are wanted',
  ),
  inboundLinksPerBlob: limit(
    20,
    1,
    1000,
    'as many as outbound links: with room for more, early peers gather downloads and the last wait for them',
  ),
  inboundLinks: limit(800, 1, 10_000, 'twenty busy blobs; a link is one HTTP/2 stream on a shared connection'),
  inFlightBytesPerLink: limit(16 * mebi, mebi, 256 * mebi, '16 MiB fills 1 Gbit/s over 130 ms'),
  inFlightBytes: limit(96 * mebi, 4 * mebi, 4096 * mebi, 'received pieces sit in memory until written; an agent stays under 250 MB'),
  windowStartPieces: limit(
    1,
    1,
    16,
    'with twenty sources, a second piece on each commits to sources nobody has measured; the window grows by itself',
  ),
  ingressBytesPerSec: limit(0, 0, 2 ** 40, '0 is unlimited'),
  egressBytesPerSec: limit(0, 0, 2 ** 40, '0 is unlimited'),
  serveConcurrency: limit(
    10,
    1,
    256,
    'about as many as sources that owe: fewer leave the uplink idle while receivers are busy, more finish every piece later',
  ),
  seedConcurrency: limit(
    3,
    1,
    256,
    'of a seed that has pieces it gave to nobody: fewer delay them, more only make it send more copies (1.45 of a blob, with ten 2.4)',
  ),
  serveConcurrencyPerLink: limit(
    2,
    1,
    16,
    'a lone receiver: the next piece is read from disk while one is sent; with others, one piece each',
  ),
  serveStuckMs: limit(2000, 10, 60_000, 'a send that takes this long waits for a slow receiver and no longer holds a slot'),
  tellWaitMs: limit(1000, 0, 60_000, 'a downloader hears of every piece within a second, however busy this process is'),
  requestQueuePerLink: limit(128, 2, 4096, '16 MiB in pieces of 256 KiB is 64 requests; twice that is abuse'),
  candidatesPerBlob: limit(200, 10, 10_000, 'four handouts; older offers are stale anyway'),
  peersWanted: limit(30, 1, 200, 'three times the outbound links, as some are full or gone'),
  announceIntervalMs: limit(
    250,
    10,
    600_000,
    'the first of a crowd are told of few; doubled with each answer that names nobody new, up to 128 times',
  ),
  dialTimeoutMs: limit(5000, 100, 60_000, 'three lost SYNs'),
  busyRetryMs: limit(500, 10, 60_000, 'a slot frees within seconds; doubled with each refusal by the same peer'),
  inboundIdleMs: limit(5000, 100, 600_000, 'a link that asked for nothing this long yields its slot to a newcomer'),
  uselessAfterMs: limit(5000, 100, 600_000, 'a source with nothing new for this long is exchanged for another'),
  stallAfterMs: limit(10_000, 100, 600_000, 'nothing arrived for this long: look for other peers'),
  slowAfterMs: limit(2000, 10, 600_000, 'below this a late piece is jitter'),
  slowFactor: limit(4, 2, 100, 'a source four times slower than the mean holds pieces others could bring'),
  checkIntervalMs: limit(250, 10, 10_000, 'how often a running download looks at its links'),
  requestersPerPiece: limit(2, 1, 8, 'an urgent piece is asked from two; a third hardly ever wins'),
  readerPieces: limit(4, 1, 1024, 'in-order pieces a reader may demand at once; more would make everybody fetch the same pieces'),
  corruptPenaltyMs: limit(30_000, 1000, 86_400_000, 'doubled with each corrupt piece'),
  unreachablePenaltyMs: limit(1000, 10, 3_600_000, 'a restart takes a second or two; doubled with each failed dial, up to 32 times'),
  slowPenaltyMs: limit(5000, 10, 3_600_000, 'load changes in seconds; doubled each time'),
  penaltyMsMax: limit(3_600_000, 1000, 86_400_000, 'an hour; a repaired host is trusted again'),
  penalisedPeers: limit(4096, 16, 1_000_000, 'about 100 bytes each'),
  sourcesPerBlob: limit(256, 1, 100_000, 'counts kept for operators'),
};

/** The defaults with `overrides`. Throws `invalid-argument` for a value outside its bounds, naming option and bounds. */
export function swarmOptions(overrides: Partial<SwarmOptions> = {}): SwarmOptions {
  const options: Record<string, number> = {};
  for (const [name, { default: fallback, min, max }] of Object.entries(swarmLimits)) {
    const value = overrides[name as keyof SwarmOptions] ?? fallback;
    if (!Number.isSafeInteger(value) || value < min || value > max) {
      throw new AppError('invalid-argument', `swarm option ${name} must be a whole number from ${min} to ${max}`, {
        data: { name, value },
      });
    }
    options[name] = value;
  }
  return options as unknown as SwarmOptions;
}

function limit(fallback: number, min: number, max: number, reason: string): Limit {
  return { default: fallback, min, max, reason };
}
