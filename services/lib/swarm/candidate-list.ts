/** Peers that may be dialled for one blob: bounded, chosen at random, each with the time before which it is left alone. */
import { assertNever, type PeerId, type Rng } from '#core';
import { isOrigin, type PeerOffer } from './types.ts';

export interface Candidate {
  readonly peer: PeerId;
  endpoint: string;
  complete: boolean;
  readonly origin: boolean;
  /** A link to it exists or is being dialled. */
  linked: boolean;
  notBeforeMs: number;
  /** Refusals in a row; they only stretch the pause before the next try. */
  refusalCount: number;
}

/** Which candidates a dial may go to: complete peers that are no origins, origins, everybody but origins, everybody. */
export type CandidateKind = 'complete' | 'origin' | 'ordinary' | 'any';

/** A pause after refusals never exceeds this: slots free quickly at the end of a download. */
const refusalPauseMsMax = 15_000;

export class CandidateList {
  readonly #self: PeerId;
  readonly #rng: Rng;
  readonly #candidates = new Map<PeerId, Candidate>();

  constructor(self: PeerId, rng: Rng) {
    this.#self = self;
    this.#rng = rng;
  }

  get size(): number {
    return this.#candidates.size;
  }

  get(peer: PeerId): Candidate | undefined {
    return this.#candidates.get(peer);
  }

  /** Adds or refreshes offers and returns how many were new. When full, the oldest candidate without a link makes room. */
  offer(offers: readonly PeerOffer[], countMax: number): number {
    let added = 0;
    for (const { peer, endpoint, complete } of offers) {
      if (peer === this.#self) continue;
      const known = this.#candidates.get(peer);
      if (known !== undefined) {
        if (endpoint !== known.endpoint) known.notBeforeMs = 0;
        known.endpoint = endpoint;
        known.complete ||= complete;
        continue;
      }
      if (this.#candidates.size >= countMax && !this.#dropOldest()) break;
      const origin = isOrigin(peer);
      this.#candidates.set(peer, { peer, endpoint, complete, origin, linked: false, notBeforeMs: 0, refusalCount: 0 });
      added += 1;
    }
    return added;
  }

  remove(peer: PeerId): void {
    this.#candidates.delete(peer);
  }

  /** A random candidate of the kind that may be dialled now (reservoir sampling). */
  pick(kind: CandidateKind, nowMs: number): Candidate | undefined {
    let picked: Candidate | undefined;
    let seen = 0;
    for (const candidate of this.#candidates.values()) {
      if (!isEligible(candidate, kind, nowMs)) continue;
      seen += 1;
      if (this.#rng.below(seen) === 0) picked = candidate;
    }
    return picked;
  }

  has(kind: CandidateKind, nowMs: number): boolean {
    for (const candidate of this.#candidates.values()) if (isEligible(candidate, kind, nowMs)) return true;
    return false;
  }

  /** When the next paused candidate may be dialled; undefined when none is paused. */
  nextReadyMs(nowMs: number): number | undefined {
    let earliestMs: number | undefined;
    for (const { linked, notBeforeMs } of this.#candidates.values()) {
      if (!linked && notBeforeMs > nowMs && (earliestMs === undefined || notBeforeMs < earliestMs)) earliestMs = notBeforeMs;
    }
    return earliestMs;
  }

  /** The peer is busy: it is asked again after its hint, later each time, spread at random so that the refused do not return together. */
  refused(candidate: Candidate, retryAfterMs: number, nowMs: number): void {
    const pauseMs = Math.min(Math.max(1, retryAfterMs) * 2 ** Math.min(candidate.refusalCount, 5), refusalPauseMsMax);
    candidate.refusalCount += 1;
    this.pause(candidate, nowMs + Math.ceil(pauseMs / 2) + this.#rng.below(Math.ceil(pauseMs)));
  }

  /** Leaves the peer alone until `untilMs`. */
  pause(candidate: Candidate, untilMs: number): void {
    candidate.notBeforeMs = Math.max(candidate.notBeforeMs, untilMs);
  }

  #dropOldest(): boolean {
    for (const candidate of this.#candidates.values()) {
      if (candidate.linked) continue;
      this.#candidates.delete(candidate.peer);
      return true;
    }
    return false;
  }
}

function isEligible(candidate: Candidate, kind: CandidateKind, nowMs: number): boolean {
  if (candidate.linked || candidate.notBeforeMs > nowMs) return false;
  switch (kind) {
    case 'complete':
      return candidate.complete && !candidate.origin;
    case 'origin':
      return candidate.origin;
    case 'ordinary':
      return !candidate.origin;
    case 'any':
      return true;
    default:
      return assertNever(kind);
  }
}
