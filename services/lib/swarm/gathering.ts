/**
 * How many links a download has while its swarm gathers. Who comes first is told of the few that came before; with all places taken by
 * them, a crowd would hang together in the order of its arrival, and pieces would travel through it host by host. So most of the places
 * wait until the tracker, which knows the crowd by then, was asked a second time.
 */
import type { Announcer } from './announcer.ts';
import type { SwarmOptions } from './options.ts';
import { isOrigin, type PeerOffer } from './types.ts';

/** From the first answer to the second question: meanwhile a tracker lists about a thousand peers. */
const gatherMs = 60;
/** Enough to be busy on, and few enough that the first to come do not fill each other's places. */
const linksAtFirst = 5;

export class Gathering {
  readonly #announcer: Announcer;
  #state: 'alone' | 'gathering' | 'settled' = 'alone';
  #untilMs = Number.POSITIVE_INFINITY;

  constructor(announcer: Announcer) {
    this.#announcer = announcer;
  }

  /** When {@link linkMax} will change by itself; infinite when it will not. */
  get deadlineMs(): number {
    return this.#state === 'gathering' ? this.#untilMs : Number.POSITIVE_INFINITY;
  }

  /** Peers were named. A swarm in which somebody has everything is no crowd that has just come. */
  offered(peers: readonly PeerOffer[], nowMs: number): void {
    if (this.#state === 'settled') return;
    if (peers.some(({ peer, complete }) => complete && !isOrigin(peer))) this.#state = 'settled';
    else if (this.#state === 'alone') {
      this.#state = 'gathering';
      this.#untilMs = nowMs + gatherMs;
    }
  }

  /** Links that there may be now. Asks the tracker when it is time to; its answer comes before the places it is for are given away. */
  linkMax({ outboundLinksPerBlob }: SwarmOptions, nowMs: number): number {
    if (this.#state === 'settled') return outboundLinksPerBlob;
    if (this.#state === 'gathering' && nowMs >= this.#untilMs) {
      this.#state = 'settled';
      this.#announcer.askNow(nowMs);
    }
    return Math.min(outboundLinksPerBlob, linksAtFirst);
  }
}
