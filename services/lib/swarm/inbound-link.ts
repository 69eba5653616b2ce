/** A link on which this process serves: open -> draining -> closed, with its bounded queue of requests. */
import { assert, type Bitfield, type PeerId } from '#core';
import type { News } from './news.ts';
import type { OutboundLink } from './outbound-link.ts';
import type { LinkId } from './types.ts';

interface Service {
  readonly piece: number;
  readonly sinceMs: number;
}

export class InboundLink {
  readonly id: LinkId;
  readonly peer: PeerId;
  readonly openedMs: number;
  #state: 'open' | 'draining' | 'closed' = 'open';
  readonly #queue: number[] = [];
  /** Pieces refused once in favour of fresh ones; the second time they are served. */
  readonly #steered = new Set<number>();
  readonly #inService: Service[] = [];
  activeMs: number;
  servedBytes = 0;
  readonly #news: News;
  /** How far in the news it has heard. */
  #heardCount: number;
  heardMs: number | undefined;
  /** The link on which its peer is downloaded from, as of `twinVersion` of the download's links. */
  twin: OutboundLink | undefined;
  twinVersion = -1;
  /** How often in a row a request was refused because of the others. */
  crowdedCount = 0;
  /** How often others were served while this one waited. */
  passedOverCount = 0;

  /** `news` of the blob; it hears of what comes from now on. */
  constructor(id: LinkId, peer: PeerId, news: News, nowMs: number) {
    this.id = id;
    this.peer = peer;
    this.#news = news;
    this.#heardCount = news.count;
    this.openedMs = nowMs;
    this.activeMs = nowMs;
  }

  get state(): 'open' | 'draining' | 'closed' {
    return this.#state;
  }

  /** Requests not yet in service, oldest first. */
  get queue(): readonly number[] {
    return this.#queue;
  }

  get queuedCount(): number {
    return this.#queue.length;
  }

  get inServiceCount(): number {
    return this.#inService.length;
  }

  /** Since when there is something to hear of; undefined while there is nothing. */
  get untoldMs(): number | undefined {
    return this.#heardCount < this.#news.count ? this.#news.timeAt(this.#heardCount) : undefined;
  }

  /** Takes everything there is to hear of, but for what its peer is known to have. */
  hear(known: Bitfield | undefined, nowMs: number): number[] {
    const pieces: number[] = [];
    for (; this.#heardCount < this.#news.count; this.#heardCount += 1) {
      const piece = this.#news.pieceAt(this.#heardCount);
      if (known?.has(piece) !== true) pieces.push(piece);
    }
    if (pieces.length > 0) this.heardMs = nowMs;
    return pieces;
  }

  /** True the first time: the peer is asked to choose another piece. */
  steer(piece: number): boolean {
    if (this.#steered.has(piece)) return false;
    this.#steered.add(piece);
    return true;
  }

  isIdle(nowMs: number, afterMs: number): boolean {
    return this.#queue.length === 0 && this.#inService.length === 0 && nowMs - this.activeMs >= afterMs;
  }

  /** Queues a request; false when the queue is full or the piece is already queued or being sent. */
  enqueue(piece: number, countMax: number, nowMs: number): 'queued' | 'duplicate' | 'full' {
    assert(this.#state === 'open', 'only an open link takes requests');
    this.activeMs = nowMs;
    if (this.#queue.includes(piece) || this.#inService.some((service) => service.piece === piece)) return 'duplicate';
    if (this.#queue.length >= countMax) return 'full';
    this.#queue.push(piece);
    return 'queued';
  }

  /** Withdraws a queued request; false for a piece that is being sent, which goes on. */
  cancel(piece: number): boolean {
    const at = this.#queue.indexOf(piece);
    if (at >= 0) this.#queue.splice(at, 1);
    return at >= 0;
  }

  /** Takes a queued piece into service. */
  start(piece: number, nowMs: number): void {
    assert(this.cancel(piece), 'only a queued piece is served');
    this.#inService.push({ piece, sinceMs: nowMs });
    this.passedOverCount = 0;
  }

  /** The piece left (or cannot be read). Returns how long it was in service; undefined when it was not. */
  finish(piece: number, nowMs: number): number | undefined {
    const at = this.#inService.findIndex((service) => service.piece === piece);
    if (at < 0) return undefined;
    const [service] = this.#inService.splice(at, 1);
    this.activeMs = nowMs;
    return nowMs - (service?.sinceMs ?? nowMs);
  }

  /** open -> draining: nothing more is taken; returns the requests that will not be served. */
  drain(): readonly number[] {
    assert(this.#state === 'open', 'only an open link drains');
    this.#state = 'draining';
    return this.#queue.splice(0);
  }

  /** open | draining -> closed. */
  close(): void {
    assert(this.#state !== 'closed', 'a link closes once');
    this.#state = 'closed';
    this.#queue.length = 0;
    this.#inService.length = 0;
  }
}
