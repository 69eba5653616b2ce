/**
 * When the downloaders of a blob hear of a new piece. Told all at once, all of them ask at once, and then wait here for a piece that
 * the first to be served could have passed on. So as many hear at once as can be served soon, and the rest when there is room
 * or after a while; half of the messages are saved on the way, because haves gather.
 */
import type { Rng } from '#core';
import type { InboundLink } from './inbound-link.ts';
import type { SwarmOptions } from './options.ts';
import type { Transfer } from './transfer.ts';
import type { UploadScheduler } from './upload-scheduler.ts';

/** Requests queued or in service up to which a piece is told at once: a few more than are taken, so that haves gather in busy processes. */
const loadMax = 16;
/** The same while the blob is new here. The busiest hosts have the newest pieces: if they waited, the swarm would stand still around them. */
const newLoadMax = 30;
/** A link that was told so recently may be about to ask. */
const answerMs = 10;
/** Nobody waits longer for news than this many services take: by then, others have the piece. */
const waitServices = 30;

export interface HeraldDeps {
  readonly rng: Rng;
  readonly uploads: UploadScheduler;
  tell(link: InboundLink, pieces: readonly number[]): void;
}

export class Herald {
  readonly #deps: HeraldDeps;
  readonly #transfers = new Set<Transfer>();
  #deadlineMs: number | undefined;
  /** Nobody who waits has waited since before this. */
  #oldestMs = Number.POSITIVE_INFINITY;

  constructor(deps: HeraldDeps) {
    this.#deps = deps;
  }

  /** When somebody has waited long enough; undefined when nobody waits. */
  get deadlineMs(): number | undefined {
    return this.#deadlineMs;
  }

  /** Links of the transfer may have something to hear, as of now. */
  add(transfer: Transfer, nowMs: number): void {
    this.#transfers.add(transfer);
    this.#oldestMs = Math.min(this.#oldestMs, nowMs);
  }

  /** Tells whom it may tell now. */
  tell(options: SwarmOptions, nowMs: number): void {
    this.#deadlineMs = undefined;
    if (this.#transfers.size === 0) return;
    const { requestCount, usualMs } = this.#deps.uploads;
    const waitMs = Math.ceil(Math.min(options.tellWaitMs, waitServices * (usualMs ?? options.tellWaitMs)));
    let room = this.#loadMax() - requestCount;
    if (room <= 0 && nowMs < this.#oldestMs + waitMs) {
      this.#deadlineMs = this.#oldestMs + waitMs;
      return;
    }
    this.#oldestMs = Number.POSITIVE_INFINITY;
    for (const transfer of this.#transfers) {
      for (const link of transfer.inbound) if (isAboutToAsk(link, nowMs)) room -= 1;
      room = this.#tellLinks(transfer, room, waitMs, nowMs);
    }
  }

  #loadMax(): number {
    for (const { digest } of this.#transfers) if (this.#deps.uploads.isNew(digest)) return newLoadMax;
    return loadMax;
  }

  #tellLinks(transfer: Transfer, roomBefore: number, waitMs: number, nowMs: number): number {
    const links = transfer.inbound;
    const start = links.length > 0 ? this.#deps.rng.below(links.length) : 0;
    let room = roomBefore;
    let waiting = false;
    for (let turn = 0; turn < links.length; turn += 1) {
      const link = links[(start + turn) % links.length];
      const untoldMs = link?.untoldMs;
      if (link === undefined || untoldMs === undefined || link.state !== 'open') continue;
      if (room <= 0 && nowMs - untoldMs < waitMs) {
        waiting = true;
        this.#oldestMs = Math.min(this.#oldestMs, untoldMs);
        this.#deadlineMs = this.#oldestMs + waitMs;
        continue;
      }
      const pieces = link.hear(transfer.knownOf(link), nowMs);
      if (pieces.length === 0) continue;
      room -= 1;
      this.#deps.tell(link, pieces);
    }
    if (!waiting) this.#transfers.delete(transfer);
    return room;
  }
}

function isAboutToAsk(link: InboundLink, nowMs: number): boolean {
  return link.heardMs !== undefined && nowMs - link.heardMs <= answerMs && link.queuedCount + link.inServiceCount === 0;
}
