/**
 * When the downloaders of a blob hear of a new piece. Told all at once, all of them ask at once, and then wait here for a piece that
 * the first to be served could have passed on. So as many hear at once as can be served soon, and the rest when there is room
 * or after a while; half of the messages are saved on the way, because haves gather.
 */
import type { Rng } from '#core';
import type { InboundLink } from './inbound-link.ts';
import type { SwarmOptions } from './options.ts';
import type { Transfer } from './transfer.ts';

/** Requests queued or in service up to which a new piece is told at once: two rounds of the default four services. */
const loadMax = 8;
/** A link that was told so recently may be about to ask. */
const answerMs = 10;
/** Nobody waits longer for news than this many services take: by then, others have the piece. */
const waitServices = 30;

export interface HeraldDeps {
  readonly rng: Rng;
  /** Requests queued or in service in the process, and how long a service usually takes (undefined before the first). */
  load(): { readonly requestCount: number; readonly usualMs: number | undefined };
  tell(link: InboundLink, pieces: readonly number[]): void;
}

export class Herald {
  readonly #deps: HeraldDeps;
  readonly #transfers = new Set<Transfer>();
  #deadlineMs: number | undefined;

  constructor(deps: HeraldDeps) {
    this.#deps = deps;
  }

  /** When somebody has waited long enough; undefined when nobody waits. */
  get deadlineMs(): number | undefined {
    return this.#deadlineMs;
  }

  /** Links of the transfer may have something to hear. */
  add(transfer: Transfer): void {
    this.#transfers.add(transfer);
  }

  /** Tells whom it may tell now. */
  tell(options: SwarmOptions, nowMs: number): void {
    this.#deadlineMs = undefined;
    if (this.#transfers.size === 0) return;
    const { requestCount, usualMs } = this.#deps.load();
    const waitMs = Math.ceil(Math.min(options.tellWaitMs, waitServices * (usualMs ?? options.tellWaitMs)));
    let room = loadMax - requestCount;
    for (const transfer of this.#transfers) {
      for (const link of transfer.inbound) if (isAboutToAsk(link, nowMs)) room -= 1;
      room = this.#tellLinks(transfer, room, waitMs, nowMs);
    }
  }

  #tellLinks(transfer: Transfer, roomBefore: number, waitMs: number, nowMs: number): number {
    const links = transfer.inbound;
    const start = links.length > 0 ? this.#deps.rng.below(links.length) : 0;
    let room = roomBefore;
    let waiting = false;
    for (let turn = 0; turn < links.length; turn += 1) {
      const link = links[(start + turn) % links.length];
      if (link === undefined || link.untold.length === 0 || link.state !== 'open') continue;
      if (room <= 0 && nowMs - link.untoldMs < waitMs) {
        waiting = true;
        this.#deadlineMs = Math.min(this.#deadlineMs ?? Number.POSITIVE_INFINITY, link.untoldMs + waitMs);
        continue;
      }
      room -= 1;
      this.#deps.tell(link, link.hear(nowMs));
    }
    if (!waiting) this.#transfers.delete(transfer);
    return room;
  }
}

function isAboutToAsk(link: InboundLink, nowMs: number): boolean {
  return link.heardMs !== undefined && nowMs - link.heardMs <= answerMs && link.queuedCount + link.inServiceCount === 0;
}
