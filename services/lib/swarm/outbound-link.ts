/** A link on which this process downloads: dialing -> open -> closed, and what it was asked and told. */
import { assert, type PeerId } from '#core';
import type { Candidate } from './candidate-list.ts';
import { Pace } from './pace.ts';
import type { PieceSource } from './piece-picker.ts';
import type { Request } from './request-ledger.ts';
import type { LinkId } from './types.ts';

/** Cancelled pieces may still arrive; those remembered beyond this are long gone. */
const cancelledCountMax = 64;

export class OutboundLink {
  readonly id: LinkId;
  readonly candidate: Candidate;
  readonly dialledMs: number;
  readonly pace: Pace;
  /** What it owes: its row of the ledger. */
  readonly requests: readonly Request[];
  #state: 'dialing' | 'open' | 'closed' = 'dialing';
  #source: PieceSource | undefined;
  openedMs = 0;
  /** Last time it delivered or had something useful. */
  usefulMs = 0;
  /** It is not asked before then. */
  restUntilMs = 0;
  /** How often in a row it lost its requests for being late. */
  lateCount = 0;
  /** Bytes asked for and still to come. */
  inFlightBytes = 0;
  /** Pieces asked for since it last owed nothing. */
  turnCount = 0;
  /** Requests of this event that have not left yet. */
  readonly unsent: number[] = [];
  readonly #cancelled: number[] = [];

  constructor(id: LinkId, candidate: Candidate, requests: readonly Request[], pieceLengthBytes: number, nowMs: number) {
    this.id = id;
    this.candidate = candidate;
    this.requests = requests;
    this.dialledMs = nowMs;
    this.pace = new Pace(pieceLengthBytes);
  }

  get peer(): PeerId {
    return this.candidate.peer;
  }

  get state(): 'dialing' | 'open' | 'closed' {
    return this.#state;
  }

  /** The pieces of an open link. */
  get source(): PieceSource {
    assert(this.#source !== undefined, 'only an open link has pieces');
    return this.#source;
  }

  /** dialing -> open. */
  open(source: PieceSource, nowMs: number): void {
    assert(this.#state === 'dialing', 'a link opens once');
    this.#state = 'open';
    this.#source = source;
    this.openedMs = nowMs;
    this.usefulMs = nowMs;
  }

  /** dialing | open -> closed. Returns the source to be removed, if it had opened. */
  close(): PieceSource | undefined {
    assert(this.#state !== 'closed', 'a link closes once');
    this.#state = 'closed';
    this.unsent.length = 0;
    return this.#source;
  }

  isAskable(nowMs: number): boolean {
    return this.#state === 'open' && this.restUntilMs <= nowMs;
  }

  /** Withdraws a request. True when the peer has heard of it and must be told. */
  cancel(piece: number): boolean {
    const at = this.unsent.indexOf(piece);
    if (at >= 0) {
      this.unsent.splice(at, 1);
      return false;
    }
    if (this.#cancelled.length >= cancelledCountMax) this.#cancelled.shift();
    this.#cancelled.push(piece);
    return true;
  }

  /** A piece came that is not on the ledger. True when it had been asked for and withdrawn, so that its arrival is no offence. */
  wasCancelled(piece: number): boolean {
    if (this.#cancelled.length === 0) return false;
    const at = this.#cancelled.indexOf(piece);
    if (at >= 0) this.#cancelled.splice(at, 1);
    return at >= 0;
  }
}

/** How long `sizeBytes` would take on a link, by the mean of those that have delivered; infinite while none has. */
export function meanEtaMs(links: readonly OutboundLink[], sizeBytes: number): number {
  let sumMs = 0;
  let count = 0;
  for (const { pace } of links) {
    if (pace.sampleCount === 0) continue;
    sumMs += pace.etaMs(sizeBytes);
    count += 1;
  }
  return count === 0 ? Number.POSITIVE_INFINITY : sumMs / count;
}
