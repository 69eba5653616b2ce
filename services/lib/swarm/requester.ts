/** What to ask a link for: a reader's next pieces in order, then the rarest, and at the end what others are late with. Changes nothing. */
import type { SwarmOptions } from './options.ts';
import { meanEtaMs, type OutboundLink } from './outbound-link.ts';
import type { PiecePicker } from './piece-picker.ts';
import type { RequestLedger } from './request-ledger.ts';
import type { LinkId, ReaderId } from './types.ts';

/** The pieces a reader waits for: from `firstPiece` up to, not including, `endPiece`. */
export interface ReaderWindow {
  readonly firstPiece: number;
  readonly endPiece: number;
  /** Since when it waits for `firstPiece`. */
  readonly sinceMs: number;
}

/** The window that follows `before`: it waits since then if it waits for the same piece. */
export function movedWindow(before: ReaderWindow | undefined, from: number, endPiece: number, nowMs: number): ReaderWindow {
  const firstPiece = Math.max(0, from);
  return { firstPiece, endPiece, sinceMs: before?.firstPiece === firstPiece ? before.sinceMs : nowMs };
}

/** What the choice looks at. */
export interface RequestView {
  readonly picker: PiecePicker;
  readonly ledger: RequestLedger;
  readonly links: readonly OutboundLink[];
  readonly readers: ReadonlyMap<ReaderId, ReaderWindow>;
  readonly options: SwarmOptions;
  /** Links that may owe pieces at once. */
  readonly owingLinkMax: number;
  sizeOf(piece: number): number;
}

/** A piece to ask for. `instead` is the link it is taken from; without it, a piece already asked elsewhere is asked twice. */
export interface Choice {
  readonly piece: number;
  readonly instead: OutboundLink | undefined;
}

/** A source counts as behind another when it needs twice as long, and this much more: below, timing is noise. */
const behindFactor = 2;
const behindMs = 20;
/** A download that is read may ask for so many pieces twice from the start, and for one more whenever so many are verified. */
const racesAtFirst = 2;
const piecesPerRace = 150;

/** The next piece for a link, or undefined when it has nothing that is worth asking for. */
export function choosePiece(view: RequestView, link: OutboundLink, nowMs: number): Choice | undefined {
  const urgent = chooseForReaders(view, link, nowMs);
  if (urgent !== undefined) return urgent;
  const owesNothing = link.requests.length === 0;
  if (owesNothing && view.ledger.owingLinkCount >= view.owingLinkMax) return undefined;
  const rarest = view.picker.pick(link.source);
  if (rarest >= 0) return isSpared(view, link, rarest) ? undefined : { piece: rarest, instead: undefined };
  return owesNothing ? chooseLate(view, link, nowMs) : undefined;
}

/** An origin gives what no agent among the sources has; the rest only when the agents leave the download short of work. */
function isSpared(view: RequestView, link: OutboundLink, piece: number): boolean {
  return link.candidate.origin && view.picker.rarityOf(piece) > 0 && view.ledger.owingLinkCount >= view.owingLinkMax / 2;
}

/** A reader always waits for some piece, and who brings it is often late by a guess: what comes twice stays below 1 %. */
function mayRace(view: RequestView, link: OutboundLink, piece: number, nowMs: number): boolean {
  const { picker, ledger } = view;
  return ledger.raceCount < racesAtFirst + picker.verifiedCount / piecesPerRace && isEveryHolderBehind(view, link, piece, nowMs);
}

/** The nearest piece that any reader lacks; of equally near ones that of the reader who has waited longest, so that no reader starves another. */
function chooseForReaders(view: RequestView, link: OutboundLink, nowMs: number): Choice | undefined {
  let best = -1;
  let bestDistance = 0;
  let bestSinceMs = 0;
  for (const reader of view.readers.values()) {
    const piece = chooseForReader(view, link, reader, nowMs);
    if (piece < 0) continue;
    const distance = piece - reader.firstPiece;
    if (best >= 0 && (distance > bestDistance || (distance === bestDistance && reader.sinceMs >= bestSinceMs))) continue;
    best = piece;
    bestDistance = distance;
    bestSinceMs = reader.sinceMs;
  }
  return best < 0 ? undefined : { piece: best, instead: undefined };
}

function chooseForReader(view: RequestView, link: OutboundLink, reader: ReaderWindow, nowMs: number): number {
  const deferred = mayPress(view, reader, nowMs) ? undefined : link.source.deferred;
  let missingCount = 0;
  for (let piece = reader.firstPiece; piece < reader.endPiece && missingCount < view.options.readerPieces; piece += 1) {
    const state = view.picker.stateOf(piece);
    if (state === 'verified') continue;
    missingCount += 1;
    if (!link.source.have.has(piece) || deferred?.has(piece) === true) continue;
    if (state === 'open' && !isSpared(view, link, piece)) return piece;
    if (missingCount === 1 && state === 'requested' && mayRace(view, link, piece, nowMs)) return piece;
  }
  return -1;
}

/** A source that would rather give something else is pressed only after the others had their chance: for as long as a piece takes, on slow links seconds. */
function mayPress(view: RequestView, { firstPiece, sinceMs }: ReaderWindow, nowMs: number): boolean {
  const waitedMs = nowMs - sinceMs;
  if (waitedMs < view.options.checkIntervalMs) return false;
  const pieceMs = meanEtaMs(view.links, view.sizeOf(firstPiece));
  return waitedMs >= pieceMs || !Number.isFinite(pieceMs);
}

/** All holders are behind `link`, and one more may be asked. */
function isEveryHolderBehind(view: RequestView, link: OutboundLink, piece: number, nowMs: number): boolean {
  if (view.ledger.requesterCount(piece) >= view.options.requestersPerPiece) return false;
  const holders: LinkId[] = view.ledger.requestersOf(piece, []);
  return view.links.every(
    (other) => !holders.includes(other.id) || (other !== link && lagMs(view, other, link, piece, nowMs, behindFactor) > 0),
  );
}

interface LateChoice extends Choice {
  readonly lagMs: number;
}

/** The piece that another link will bring last: taken from it when it stands in its queue, asked twice when it is under way. */
function chooseLate(view: RequestView, link: OutboundLink, nowMs: number): Choice | undefined {
  const queuedMin = view.picker.openCount > 0 ? 2 : 1;
  if (view.ledger.requestCount < view.ledger.owingLinkCount + queuedMin - 1) return undefined;
  let latest: LateChoice | undefined;
  for (const holder of view.links) {
    // A single request may be raced, never taken, and that only at the end.
    if (holder === link || holder.requests.length < queuedMin) continue;
    const late = latestOf(view, holder, link, nowMs);
    if (late !== undefined && (latest === undefined || late.lagMs > latest.lagMs)) latest = late;
  }
  return latest;
}

function latestOf(view: RequestView, holder: OutboundLink, link: OutboundLink, nowMs: number): LateChoice | undefined {
  let latest: LateChoice | undefined;
  const { requests } = holder;
  for (let at = 0; at < requests.length; at += 1) {
    const piece = requests[at]?.piece ?? -1;
    if (!link.source.have.has(piece)) continue;
    const takes = at > 0 && view.ledger.requesterCount(piece) === 1;
    const lag = takes ? lagMs(view, holder, link, piece, nowMs, 1) : raceLagMs(view, holder, link, piece, nowMs);
    if (lag > (latest?.lagMs ?? 0)) latest = { piece, instead: takes ? holder : undefined, lagMs: lag };
  }
  return latest;
}

/** As {@link lagMs}, for asking a second source while the first goes on: only at the end, when no link has anything better to do. */
function raceLagMs(view: RequestView, holder: OutboundLink, link: OutboundLink, piece: number, nowMs: number): number {
  if (view.picker.openCount > 0 || !isEveryHolderBehind(view, link, piece, nowMs)) return 0;
  return lagMs(view, holder, link, piece, nowMs, behindFactor);
}

/** How much later than worthwhile `holder` brings the piece compared with `link`; not above zero when it is not worth asking. */
function lagMs(view: RequestView, holder: OutboundLink, link: OutboundLink, piece: number, nowMs: number, factor: number): number {
  const sizeBytes = view.sizeOf(piece);
  let aheadBytes = 0;
  for (const request of holder.requests) {
    aheadBytes += request.sizeBytes;
    if (request.piece === piece) break;
  }
  const ownMs = etaMs(view, link, sizeBytes);
  const holderMs = etaMs(view, holder, aheadBytes);
  const waitedMs = nowMs - holder.pace.clockMs;
  if (!Number.isFinite(ownMs) || !Number.isFinite(holderMs)) return 0;
  // One that should have delivered by now is at least as late as it has been silent.
  return Math.max(holderMs - waitedMs, waitedMs - holderMs) - factor * ownMs - (factor > 1 ? behindMs : 0);
}

/** By the link's own rate, or the mean of the others while it has none; infinite while nobody has. */
function etaMs(view: RequestView, link: OutboundLink, sizeBytes: number): number {
  if (link.pace.sampleCount > 0) return link.pace.etaMs(sizeBytes);
  return meanEtaMs(view.links, sizeBytes);
}
