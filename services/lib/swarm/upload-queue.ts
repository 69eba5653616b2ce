/** The requests of one blob that wait to be served, and which blobs go before which. */
import { type Digest, type Metainfo, pieceSize } from '#core';
import type { InboundLink } from './inbound-link.ts';
import { isMuchSmaller } from './places.ts';
import { type SeedShare, shareCount } from './seed-share.ts';

/** Who was served a moment ago is about to ask for the next piece, and others still for their last: so long a much larger blob goes on by single pieces. */
export const pauseMs = 1000;

/** The inbound links of one blob and how often each of its pieces is queued and was sent (saturating at 255). */
export interface Queue {
  readonly digest: Digest;
  readonly links: InboundLink[];
  readonly sentCounts: Uint8Array;
  readonly promisedCounts: Uint8Array;
  /** Pieces sent to nobody yet. */
  unsentCount: number;
  readonly sizeOf: (piece: number) => number;
  readonly sizeBytes: number;
  readonly isSeed: boolean;
  readonly share: SeedShare | undefined;
  /** Pieces of its share sent to nobody yet. */
  unsentShareCount: number;
  queuedCount: number;
  inServiceCount: number;
  /** Pieces sent, the same one twice included. */
  sentCount: number;
  /** Bytes of much smaller blobs that are due before its next piece. */
  dueBytes: number;
  /** When the last service of it ended. */
  servedMs: number;
}

/** A blob that is served. */
export interface Served {
  readonly digest: Digest;
  readonly metainfo: Metainfo;
  /** It was complete before anybody asked. */
  readonly isSeed: boolean;
  /** What it gives away first. */
  readonly share: SeedShare | undefined;
}

/** Without links and requests. */
export function openQueue({ digest, metainfo, isSeed, share }: Served): Queue {
  const { pieceCount, sizeBytes } = metainfo;
  return {
    digest,
    links: [],
    sentCounts: new Uint8Array(pieceCount),
    promisedCounts: new Uint8Array(pieceCount),
    unsentCount: pieceCount,
    sizeOf: (piece) => pieceSize(metainfo, piece),
    sizeBytes,
    isSeed,
    share,
    unsentShareCount: shareCount(share, pieceCount),
    queuedCount: 0,
    inServiceCount: 0,
    sentCount: 0,
    dueBytes: 0,
    servedMs: Number.NEGATIVE_INFINITY,
  };
}

/** Somebody asked for pieces of it. */
export function isActive({ queuedCount, inServiceCount }: Queue): boolean {
  return queuedCount + inServiceCount > 0;
}

/** When a service of a blob much smaller than `sizeBytes` ended last; minus infinity for never. */
export function smallerServedMs(queues: readonly Queue[], sizeBytes: number): number {
  let servedMs = Number.NEGATIVE_INFINITY;
  for (const other of queues) if (isMuchSmaller(other.sizeBytes, sizeBytes)) servedMs = Math.max(servedMs, other.servedMs);
  return servedMs;
}

/**
 * How long a blob of `sizeBytes` leaves most of the uplink to much smaller ones, since who waits for little should not wait for long: while
 * one is asked for and a moment longer. Not after `nowMs` when there is none.
 */
export function pressedUntilMs(queues: readonly Queue[], sizeBytes: number, nowMs: number): number {
  const isAsked = queues.some((other) => isActive(other) && isMuchSmaller(other.sizeBytes, sizeBytes));
  return (isAsked ? nowMs : smallerServedMs(queues, sizeBytes)) + pauseMs;
}
