/** Which peers are left alone and until when. Only faults count: corrupt bytes, no connection, far below pace. A refusal never does. */
import { assertNever, type PeerId } from '#core';
import type { SwarmOptions } from './options.ts';
import type { PenaltySnapshot } from './types.ts';

export type Fault = PenaltySnapshot['reason'];

interface Entry {
  reason: Fault;
  strikeCount: number;
  untilMs: number;
  /** Strikes are remembered until then: as long again as the penalty lasted. */
  forgetMs: number;
}

const unreachableFactorMax = 32;

export class PenaltyBook {
  readonly #entries = new Map<PeerId, Entry>();

  /**
   * Adds a strike and returns until when the peer is left alone: the base of the fault, doubled with each strike, up to the maximum. Every link to a
   * peer meets the same outage: what befalls one that is left alone already counts no more, save corrupt bytes.
   */
  strike(peer: PeerId, reason: Fault, nowMs: number, options: SwarmOptions): number {
    const known = this.#entries.get(peer);
    const isActive = known !== undefined && known.untilMs > nowMs;
    if (isActive && reason !== 'corrupt') return known.untilMs;
    const strikes = known !== undefined && known.forgetMs > nowMs ? known.strikeCount + 1 : 1;
    const lastsMs = Math.min(baseMs(reason, options) * 2 ** Math.min(strikes - 1, 30), maxMs(reason, options));
    const untilMs = Math.max(nowMs + lastsMs, isActive ? known.untilMs : 0);
    this.#entries.delete(peer);
    this.#entries.set(peer, { reason, strikeCount: strikes, untilMs, forgetMs: untilMs + lastsMs });
    this.#bound(nowMs, options.penalisedPeers);
    return untilMs;
  }

  /** Until when the peer is left alone; 0 when it is not. */
  untilMs(peer: PeerId, nowMs: number): number {
    const entry = this.#entries.get(peer);
    return entry !== undefined && entry.untilMs > nowMs ? entry.untilMs : 0;
  }

  /** The peer proved itself (a verified piece): strikes for being unreachable or slow are forgotten, those for corruption are not. */
  absolve(peer: PeerId): void {
    if (this.#entries.size === 0) return;
    const entry = this.#entries.get(peer);
    if (entry !== undefined && entry.reason !== 'corrupt') this.#entries.delete(peer);
  }

  snapshot(nowMs: number): PenaltySnapshot[] {
    const active: PenaltySnapshot[] = [];
    for (const [peer, { reason, strikeCount, untilMs }] of this.#entries) {
      if (untilMs > nowMs) active.push({ peer, reason, strikeCount, untilMs });
    }
    return active;
  }

  /** Entries are in order of their last strike, so the oldest go first when the book is full. */
  #bound(nowMs: number, countMax: number): void {
    if (this.#entries.size <= countMax) return;
    for (const [peer, entry] of this.#entries) if (entry.forgetMs <= nowMs) this.#entries.delete(peer);
    for (const peer of this.#entries.keys()) {
      if (this.#entries.size <= countMax) return;
      this.#entries.delete(peer);
    }
  }
}

/** A dial costs little, and who is back should not wait for as long again as it was gone. */
function maxMs(reason: Fault, { unreachablePenaltyMs, penaltyMsMax }: SwarmOptions): number {
  return reason === 'unreachable' ? Math.min(penaltyMsMax, unreachableFactorMax * unreachablePenaltyMs) : penaltyMsMax;
}

function baseMs(reason: Fault, options: SwarmOptions): number {
  switch (reason) {
    case 'corrupt':
      return options.corruptPenaltyMs;
    case 'unreachable':
      return options.unreachablePenaltyMs;
    case 'slow':
      return options.slowPenaltyMs;
    default:
      return assertNever(reason);
  }
}
