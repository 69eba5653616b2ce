/** The trackers of a simulation: the shipped roster and handout, sharded by the shipped ring. Messages wait their turn at a tracker. */
import { assert, type Digest, type PeerId, SeededRng } from '#core';
import { Ring } from '#placement';
import { type PeerOffer, Roster, type RosterOptions } from '#swarm';

export interface TrackersOptions {
  /** 1 to 1000. */
  readonly count: number;
  readonly seed: number;
  readonly roster: Partial<RosterOptions>;
  /** What a message costs a tracker; later messages wait. */
  readonly messageMs: number;
}

interface SimTracker {
  readonly id: string;
  readonly roster: Roster;
  alive: boolean;
  freeMs: number;
}

/** A handout smaller than this is completed with the owners, as the tracker service does. */
const handoutWithoutOwnersMin = 10;

export class Trackers {
  messageCount = 0;
  readonly #options: TrackersOptions;
  readonly #members: readonly SimTracker[];
  readonly #ring: Ring<SimTracker>;
  readonly #orders = new Map<Digest, readonly SimTracker[]>();
  readonly #owners: (digest: Digest) => readonly PeerOffer[];

  constructor(options: TrackersOptions, owners: (digest: Digest) => readonly PeerOffer[]) {
    this.#options = options;
    this.#owners = owners;
    this.#members = Array.from({ length: options.count }, (_, at) => ({
      id: `tracker-${at}`,
      roster: new Roster(options.roster, { rng: new SeededRng(options.seed * 7919 + at + 1) }),
      alive: true,
      freeMs: 0,
    }));
    this.#ring = new Ring(this.#members);
  }

  /** The roster in charge of a blob. */
  roster(digest: Digest): Roster {
    return this.#inCharge(digest).roster;
  }

  join(peer: PeerId, endpoint: string): void {
    for (const { roster } of this.#members) roster.apply({ type: 'peer-joined', peer, session: 1, endpoint });
  }

  leave(peer: PeerId): void {
    for (const { roster } of this.#members) roster.apply({ type: 'peer-left', peer, session: 1 });
  }

  /** The first in the blob's order dies. The blobs it was in charge of fall to the next once hosts tell them anew. */
  kill(digest: Digest): void {
    const tracker = this.#inCharge(digest);
    assert(this.#members.filter(({ alive }) => alive).length > 1, 'one tracker must be left');
    tracker.alive = false;
  }

  /** When the tracker in charge has dealt with a message that arrives now. */
  acceptMs(digest: Digest, nowMs: number): number {
    const tracker = this.#inCharge(digest);
    tracker.freeMs = Math.max(tracker.freeMs, nowMs) + this.#options.messageMs;
    this.messageCount += 1;
    return tracker.freeMs;
  }

  /** Takes an announcement and answers with peers, if any are wanted. */
  announced(peer: PeerId, digest: Digest, complete: boolean, peersWanted: number): PeerOffer[] {
    const { roster } = this.#inCharge(digest);
    roster.apply({ type: 'blob-announced', peer, session: 1, digest, complete, haveCount: complete ? 1 : 0 });
    if (peersWanted === 0) return [];
    const handout = roster.handout(digest, peer, peersWanted);
    if (handout.length >= Math.min(peersWanted, handoutWithoutOwnersMin)) return handout;
    return [...this.#owners(digest).filter((owner) => owner.peer !== peer), ...handout];
  }

  #inCharge(digest: Digest): SimTracker {
    let order = this.#orders.get(digest);
    if (order === undefined) {
      order = this.#ring.order(digest);
      this.#orders.set(digest, order);
    }
    const tracker = order.find(({ alive }) => alive);
    assert(tracker !== undefined, 'a tracker is alive');
    return tracker;
  }
}
