/** One blob this process wants: its sources, what was asked of them, and what became of it. */
import { assert, type Bitfield, type Digest, type Metainfo, type PeerId, pieceSize } from '#core';
import { Announcer } from './announcer.ts';
import { chooseCandidate } from './candidate-choice.ts';
import { CandidateList } from './candidate-list.ts';
import type { SwarmContext } from './context.ts';
import { Gathering } from './gathering.ts';
import type { Taker } from './intake.ts';
import { type SwarmOptions, swarmLimits } from './options.ts';
import { OutboundLink } from './outbound-link.ts';
import { PiecePicker } from './piece-picker.ts';
import { crowdedRestMs, owingLinkMax } from './places.ts';
import { Pressure } from './pressure.ts';
import { RequestLedger } from './request-ledger.ts';
import { choosePiece, movedWindow, type ReaderWindow, type RequestView } from './requester.ts';
import { SourceCounts } from './source-counts.ts';
import type { CloseReason, PeerOffer, ReaderId, RefusalReason } from './types.ts';
import { Yielding } from './yielding.ts';

interface Writing {
  readonly peer: PeerId;
  readonly sizeBytes: number;
  /** Of the intake; 0 for a piece that came after its request was withdrawn. */
  readonly reservedBytes: number;
}

/** A peer that no longer serves the blob is not asked again for this long. */
const goneMs = 30_000;
/** While every place to owe pieces is taken, a link gives up its own after so many: to return to the same few would leave a host that
 * happened to find crowded sources behind for good. */
const turnPieces = 4;

export class Download implements Taker, RequestView {
  readonly metainfo: Metainfo;
  readonly picker: PiecePicker;
  readonly ledger: RequestLedger;
  readonly candidates: CandidateList;
  readonly announcer: Announcer;
  readonly #gathering: Gathering;
  readonly pressure: Pressure;
  readonly yielding: Yielding;
  readonly links: OutboundLink[] = [];
  readonly readers = new Map<ReaderId, ReaderWindow>();
  readonly sources = new SourceCounts();
  /** Changes whenever a link opens or goes. */
  linksVersion = 0;
  progressMs: number;
  stallCount = 0;
  checkMs: number;
  /** No requests before then: the disk refused a piece. */
  pausedUntilMs = 0;
  #writeFailureCount = 0;
  readonly #context: SwarmContext;
  readonly #writing = new Map<number, Writing>();

  constructor(metainfo: Metainfo, have: Bitfield, context: SwarmContext, nowMs: number) {
    this.metainfo = metainfo;
    this.#context = context;
    this.picker = new PiecePicker(have, swarmLimits.outboundLinksPerBlob.max, context.rng);
    this.ledger = new RequestLedger(metainfo.pieceCount, {
      requestsPerLinkMax: swarmLimits.requestQueuePerLink.max,
      requestersPerPieceMax: swarmLimits.requestersPerPiece.max,
    });
    this.candidates = new CandidateList(context.self, context.rng);
    this.pressure = new Pressure(metainfo, this.picker, context);
    this.yielding = new Yielding(context, metainfo.sizeBytes);
    this.progressMs = nowMs;
    this.checkMs = nowMs + context.options.checkIntervalMs;
    this.announcer = new Announcer(metainfo.digest, context);
    this.#gathering = new Gathering(this.announcer);
    this.announcer.ask(nowMs);
  }

  get digest(): Digest {
    return this.metainfo.digest;
  }

  get options(): SwarmOptions {
    return this.#context.options;
  }

  get owingLinkMax(): number {
    return owingLinkMax(this.picker, this.#context.downloadCount, this.options);
  }

  sizeOf(piece: number): number {
    return pieceSize(this.metainfo, piece);
  }

  /** The open link to a peer, to learn what it has. */
  linkTo(peer: PeerId): OutboundLink | undefined {
    const candidate = this.candidates.get(peer);
    return candidate?.linked === true ? this.links.find((link) => link.peer === peer && link.state === 'open') : undefined;
  }

  // Sources

  offer(peers: readonly PeerOffer[], nowMs: number): void {
    if (this.candidates.offer(peers, this.options.candidatesPerBlob) > 0) this.announcer.heard();
    this.#gathering.offered(peers, nowMs);
    this.recruit(nowMs);
  }

  /** Dials candidates while there is room for links. */
  recruit(nowMs: number): void {
    if (this.#context.draining) return;
    const linkMax = this.#gathering.linkMax(this.options, nowMs);
    while (this.links.length < linkMax) {
      const candidate = chooseCandidate(this, this.#context.penalties, nowMs);
      if (candidate === undefined) break;
      const id = this.#context.newLink();
      const link = new OutboundLink(id, candidate, this.ledger.of(id), this.metainfo.pieceLengthBytes, nowMs);
      this.#context.opened(link, this.digest);
      candidate.linked = true;
      this.links.push(link);
      this.#context.emit({ type: 'dial', link: link.id, digest: this.digest, peer: link.peer, endpoint: candidate.endpoint });
    }
    const readyMs = this.links.length < linkMax ? this.candidates.nextReadyMs(nowMs) : undefined;
    this.checkMs = Math.min(this.checkMs, this.#gathering.deadlineMs, readyMs ?? Number.POSITIVE_INFINITY);
  }

  accepted(link: OutboundLink, have: Bitfield, nowMs: number): void {
    if (link.state !== 'dialing' || have.length !== this.metainfo.pieceCount) {
      this.#offence(link, nowMs);
      return;
    }
    link.open(this.picker.addSource(have.clone()), nowMs);
    this.linksVersion += 1;
    link.candidate.refusalCount = 0;
    if (have.isFull) link.candidate.complete = true;
    this.fill(link, nowMs);
  }

  refused(link: OutboundLink, reason: RefusalReason, retryAfterMs: number, nowMs: number): void {
    const { candidate } = link;
    this.#detach(link, nowMs);
    // An owner brings back a blob that it lacks when it is asked for it.
    if (reason === 'busy' || (reason === 'unknown-blob' && candidate.origin))
      this.candidates.refused(candidate, retryAfterMs || this.options.busyRetryMs, nowMs);
    else this.candidates.pause(candidate, nowMs + Math.max(retryAfterMs, reason === 'draining' ? goneMs : this.options.uselessAfterMs));
    this.recruit(nowMs);
    this.maybeAnnounce(nowMs);
  }

  peerHas(link: OutboundLink, pieces: readonly number[], nowMs: number): void {
    if (link.state !== 'open' || !pieces.every((piece) => this.picker.isPiece(piece))) {
      this.#offence(link, nowMs);
      return;
    }
    for (const piece of pieces) this.picker.sourceGains(link.source, piece);
    this.fill(link, nowMs);
  }

  /** The link ended from outside. */
  linkClosed(link: OutboundLink, failed: boolean, nowMs: number): void {
    const { candidate } = link;
    this.#detach(link, nowMs);
    if (failed) this.#context.penalties.strike(candidate.peer, 'unreachable', nowMs, this.options);
    this.candidates.pause(candidate, failed ? this.#context.penalties.untilMs(candidate.peer, nowMs) : nowMs + this.options.busyRetryMs);
    this.recruit(nowMs);
    this.maybeAnnounce(nowMs);
    this.fillAll(nowMs);
  }

  /** Ends a link; what it owed is free again. The caller decides when its peer may be dialled next. */
  close(link: OutboundLink, reason: CloseReason, nowMs: number): void {
    this.#context.emit({ type: 'close', link: link.id, reason });
    this.#detach(link, nowMs);
  }

  maybeAnnounce(nowMs: number): void {
    if (this.links.length < this.options.outboundLinksPerBlob && !this.candidates.has('any', nowMs)) this.announcer.ask(nowMs);
  }

  // Requests

  fillAll(nowMs: number): void {
    for (let at = 0; at < this.links.length; at += 1) {
      const link = this.links[at];
      if (link !== undefined) this.fill(link, nowMs);
    }
  }

  /** Asks a link for as much as its window takes. */
  fill(link: OutboundLink, nowMs: number): void {
    while (this.#askOne(link, nowMs));
  }

  takeOne(nowMs: number): boolean {
    return this.#askAny(nowMs) !== undefined;
  }

  /** Asks one link for one piece: the first that has something to ask for, from a random place on. */
  #askAny(nowMs: number): OutboundLink | undefined {
    const start = this.links.length > 0 ? this.#context.rng.below(this.links.length) : 0;
    for (let turn = 0; turn < this.links.length; turn += 1) {
      const link = this.links[(start + turn) % this.links.length];
      if (link !== undefined && this.#askOne(link, nowMs)) return link;
    }
    return undefined;
  }

  #askOne(link: OutboundLink, nowMs: number): boolean {
    if (!link.isAskable(nowMs) || this.#context.draining || this.pausedUntilMs > nowMs) return false;
    if (!this.yielding.mayAsk(this.ledger.requestCount, nowMs)) return false;
    const askedCount = link.requests.length;
    if (askedCount >= this.options.requestQueuePerLink / 2) return false;
    if (askedCount > 0 && link.turnCount >= turnPieces && this.ledger.owingLinkCount >= this.owingLinkMax) return false;
    if (askedCount > 0 && link.inFlightBytes + this.metainfo.pieceLengthBytes > link.pace.windowBytes(this.options)) return false;
    const choice = choosePiece(this, link, nowMs);
    if (choice === undefined) return false;
    const sizeBytes = this.sizeOf(choice.piece);
    if (!this.#context.intake.tryTake(this, sizeBytes, nowMs)) return false;
    if (choice.instead !== undefined) this.withdraw(choice.instead, choice.piece);
    if (this.picker.isOpen(choice.piece)) this.picker.request(choice.piece);
    this.ledger.add(link.id, choice.piece, sizeBytes, nowMs);
    link.pace.asked(askedCount === 0, nowMs);
    link.inFlightBytes += sizeBytes;
    link.turnCount = askedCount === 0 ? 1 : link.turnCount + 1;
    link.unsent.push(choice.piece);
    this.#context.markAsked(link);
    return true;
  }

  /** Takes a request back; the piece stays `requested` for whoever asks next. */
  withdraw(link: OutboundLink, piece: number): void {
    const request = this.ledger.settle(link.id, piece);
    assert(request !== undefined, 'only a request is withdrawn');
    link.inFlightBytes -= request.sizeBytes;
    this.#context.intake.release(request.sizeBytes, false);
    if (link.cancel(piece)) this.#context.emit({ type: 'cancel', link: link.id, pieces: [piece] });
  }

  /** Frees a piece that nobody is asked for any more. */
  reopen(piece: number): void {
    if (this.picker.isRequested(piece) && this.ledger.requesterCount(piece) === 0) this.picker.reopen(piece);
  }

  /** A reader waits for the pieces from `firstPiece` up to `endPiece`; both are clamped to the blob. */
  readerMoved(reader: ReaderId, firstPiece: number, endPiece: number, nowMs: number): void {
    this.readers.set(reader, movedWindow(this.readers.get(reader), firstPiece, Math.min(endPiece, this.metainfo.pieceCount), nowMs));
    this.fillAll(nowMs);
  }

  // Pieces

  received(link: OutboundLink, piece: number, sizeBytes: number, nowMs: number): void {
    const request = this.ledger.settle(link.id, piece);
    const known = request !== undefined || link.wasCancelled(piece);
    if (request !== undefined) {
      link.inFlightBytes -= request.sizeBytes;
      link.pace.arrived(sizeBytes, request.askedMs, nowMs);
      this.yielding.arrived(request.askedMs, nowMs);
    }
    const missing = this.picker.isPiece(piece) && (this.picker.isOpen(piece) || this.picker.isRequested(piece));
    if (!known || !this.picker.isPiece(piece) || sizeBytes !== this.sizeOf(piece)) {
      if (request !== undefined) this.#context.intake.release(request.sizeBytes, true);
      this.#context.emit({ type: 'drop-piece', link: link.id, digest: this.digest, piece });
      if (request !== undefined) this.reopen(piece);
      this.#offence(link, nowMs);
      return;
    }
    this.progressMs = nowMs;
    this.stallCount = 0;
    link.usefulMs = nowMs;
    link.lateCount = 0;
    if (!missing) {
      if (request !== undefined) this.#context.intake.release(request.sizeBytes, true);
      this.sources.duplicate(link.peer, this.options.sourcesPerBlob);
      this.#context.emit({ type: 'drop-piece', link: link.id, digest: this.digest, piece });
    } else {
      this.picker.received(piece);
      this.#writing.set(piece, { peer: link.peer, sizeBytes, reservedBytes: request?.sizeBytes ?? 0 });
      this.#context.emit({ type: 'write-piece', link: link.id, digest: this.digest, piece });
      this.#cancelLosers(piece, nowMs);
    }
    this.#refill(link, nowMs);
  }

  /** A link delivered: it is kept busy while it owes more; once it owes nothing, its place among those that owe goes to any link. */
  #refill(link: OutboundLink, nowMs: number): void {
    if (link.requests.length === 0) {
      const next = this.#askAny(nowMs);
      if (next !== undefined && next !== link) this.fill(next, nowMs);
    }
    this.fill(link, nowMs);
  }

  #cancelLosers(piece: number, nowMs: number): void {
    if (this.ledger.requesterCount(piece) === 0) return;
    for (const id of this.ledger.requestersOf(piece, [])) {
      const loser = this.links.find((link) => link.id === id);
      assert(loser !== undefined, 'a requester is a link');
      this.withdraw(loser, piece);
      this.fill(loser, nowMs);
    }
  }

  pieceRefused(link: OutboundLink, piece: number, reason: RefusalReason, nowMs: number): void {
    const request = this.ledger.settle(link.id, piece);
    if (request === undefined) return;
    link.inFlightBytes -= request.sizeBytes;
    this.#context.intake.release(request.sizeBytes, false);
    this.reopen(piece);
    if (reason === 'crowded') {
      // Another is asked at once.
      link.restUntilMs = nowMs + crowdedRestMs(this.links, request.sizeBytes, this.options);
      this.#askAny(nowMs);
      if (this.ledger.requestCount === 0) this.checkMs = Math.min(this.checkMs, link.restUntilMs);
      return;
    }
    if (reason === 'busy') {
      // Once, it steers towards pieces nobody has; twice, it means what it says.
      if (!this.picker.defer(link.source, piece)) link.restUntilMs = nowMs + this.options.busyRetryMs;
    } else if (reason === 'not-have' && link.source.counted) this.picker.sourceLoses(link.source, piece);
    else {
      this.candidates.pause(link.candidate, nowMs + goneMs);
      link.candidate.complete = false;
      this.close(link, 'useless', nowMs);
      this.recruit(nowMs);
      this.maybeAnnounce(nowMs);
    }
    this.fillAll(nowMs);
  }

  /** The piece is on disk. */
  verified(piece: number): void {
    const writing = this.#written(piece);
    this.#writeFailureCount = 0;
    this.picker.verified(piece);
    this.sources.piece(writing.peer, writing.sizeBytes, this.options.sourcesPerBlob);
    this.#context.penalties.absolve(writing.peer);
  }

  /** The piece is not what the metainfo says: its source is closed and penalised, the piece is asked elsewhere. */
  corrupt(piece: number, peer: PeerId, nowMs: number): void {
    this.#written(piece);
    this.picker.reopen(piece);
    this.sources.corrupt(peer, this.options.sourcesPerBlob);
    const untilMs = this.#context.penalties.strike(peer, 'corrupt', nowMs, this.options);
    const candidate = this.candidates.get(peer);
    if (candidate !== undefined) this.candidates.pause(candidate, untilMs);
    for (const link of this.links.filter((other) => other.peer === peer)) this.close(link, 'corrupt', nowMs);
    this.recruit(nowMs);
    this.maybeAnnounce(nowMs);
    this.fillAll(nowMs);
  }

  /** The disk would not take the piece: nobody's fault out there, so everything waits, longer each time. */
  unwritable(piece: number, nowMs: number): void {
    this.#written(piece);
    this.picker.reopen(piece);
    this.pausedUntilMs = nowMs + 1000 * 2 ** Math.min(this.#writeFailureCount, 6);
    this.#writeFailureCount += 1;
  }

  /** Ends the download: all links close and everything reserved is free. */
  end(reason: CloseReason, nowMs: number): void {
    for (const link of this.links.slice()) this.close(link, reason, nowMs);
    for (const { reservedBytes } of this.#writing.values()) this.#context.intake.release(reservedBytes, true);
    this.#writing.clear();
    this.#context.intake.forget(this);
  }

  /** True while the host has a piece of this download to write. */
  isWriting(piece: number): boolean {
    return this.#writing.has(piece);
  }

  #written(piece: number): Writing {
    const writing = this.#writing.get(piece);
    assert(writing !== undefined, 'only a piece handed over is verified');
    this.#writing.delete(piece);
    this.#context.intake.release(writing.reservedBytes, true);
    return writing;
  }

  /** The peer broke the protocol; that is as bad as wrong bytes. */
  #offence(link: OutboundLink, nowMs: number): void {
    this.candidates.pause(link.candidate, this.#context.penalties.strike(link.peer, 'corrupt', nowMs, this.options));
    this.close(link, 'corrupt', nowMs);
    this.recruit(nowMs);
    this.fillAll(nowMs);
  }

  #detach(link: OutboundLink, nowMs: number): void {
    const source = link.close();
    link.candidate.linked = false;
    this.links.splice(this.links.indexOf(link), 1);
    this.linksVersion += 1;
    for (const request of this.ledger.settleAll(link.id)) {
      this.#context.intake.release(request.sizeBytes, false);
      this.reopen(request.piece);
    }
    if (source !== undefined) this.picker.removeSource(source);
    this.#context.forgetLink(link.id);
    this.checkMs = Math.min(this.checkMs, nowMs + this.options.checkIntervalMs);
  }
}
