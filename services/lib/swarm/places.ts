/**
 * How many pieces are served, asked for and queued at once. Served and asked for are of one kind: were one of them much larger, some
 * hosts would gather flows while others have none. Blobs of few pieces have few under way, as each then comes sooner and is passed on sooner.
 */
import type { SwarmOptions } from './options.ts';
import { meanEtaMs, type OutboundLink } from './outbound-link.ts';

/** One more piece may be under way for each so many pieces of a blob: simulated, 80 pieces want three and 700 want ten. */
const piecesPerPlace = 28;
/** A process that has sent so many pieces of a blob serves one more at once: few copies at a time make a new piece spread fastest. */
const sentPerPlace = 10;
export const placesMin = 3;
/** One request waits for a service to end, so that an uplink has no pause; more would wait here while others have nothing to do. */
const queuedMax = 1;
/** A crowded source is left alone for the time that a piece takes. */
const restMsMin = 20;
/** Refused so often in a row, a request is queued however many there are: nobody starves. */
export const refusedInRowMax = 4;

/** Pieces of a blob that are served at once. */
export function serviceMax(pieceCount: number, sentCount: number, { serveConcurrency }: SwarmOptions): number {
  const grown = Math.max(placesMin, Math.floor(sentCount / sentPerPlace));
  return Math.min(serveConcurrency, grown, forPieces(pieceCount));
}

/** Requests of a blob that are taken while more downloads are linked than can be served; it shares with `blobCount` blobs, itself included. */
export function requestMax(slotCount: number, blobCount: number): number {
  return Math.max(Math.min(slotCount, placesMin), Math.ceil(slotCount / blobCount)) + queuedMax;
}

/** A blob so many times smaller than another goes before it, where both are served and where both are wanted. */
const smallFactor = 4;

export function isMuchSmaller(sizeBytes: number, thanBytes: number): boolean {
  return sizeBytes * smallFactor <= thanBytes;
}

/** Who has nothing to pass on owes on so few links: what comes first should go to many, and more would wait in queues elsewhere. */
const owingLinksAtFirst = 2;

/** Links of a download that owe pieces at once; it shares with `downloadCount` downloads, itself included. */
export function owingLinkMax(
  { pieceCount, verifiedCount }: { readonly pieceCount: number; readonly verifiedCount: number },
  downloadCount: number,
  { owingLinksPerBlob }: SwarmOptions,
): number {
  if (verifiedCount === 0) return Math.min(owingLinksPerBlob, owingLinksAtFirst);
  const share = Math.max(placesMin, Math.ceil(owingLinksPerBlob / Math.max(1, downloadCount)));
  return Math.min(owingLinksPerBlob, share, forPieces(pieceCount));
}

/** How long a download leaves a crowded source alone, in whole milliseconds. */
export function crowdedRestMs(links: readonly OutboundLink[], sizeBytes: number, { busyRetryMs }: SwarmOptions): number {
  const pieceMs = meanEtaMs(links, sizeBytes);
  return Number.isFinite(pieceMs) ? Math.min(busyRetryMs, Math.max(restMsMin, Math.ceil(pieceMs))) : restMsMin;
}

function forPieces(pieceCount: number): number {
  return Math.max(placesMin, Math.ceil(pieceCount / piecesPerPlace));
}
