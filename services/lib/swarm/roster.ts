/**
 * Who wants and who has each blob, as the announce streams tell it. Soft state: a stream that ends takes its peer out of every
 * blob at once, and a restarted tracker learns everything anew.
 */
import { AppError, type Digest, type PeerId, type Rng } from '#core';
import { chooseHandout, type Handed } from './handout.ts';
import { isOrigin, type PeerOffer } from './types.ts';

/** Limits of a roster. */
export interface RosterOptions {
  /** Peers with a stream; default 20,000: one tracker takes all agents of a large cluster. */
  readonly peersMax: number;
  /** Blobs of one peer; default 20,000: what a full disk holds. */
  readonly blobsPerPeerMax: number;
  /** Memberships in total; default 2,000,000, about 150 bytes each. */
  readonly membershipsMax: number;
  /** Peers in one handout when nothing is said, 30: three times the outbound links, as some are full or useless. */
  readonly handoutCount: number;
  /** The most one handout may have; default 200. */
  readonly handoutCountMax: number;
  /** The first handouts of a blob that name an origin, per origin; default 40: twice an origin's slots, so that it starts full. */
  readonly originFirstCount: number;
  /** Afterwards one handout in this many names an origin; default 8. */
  readonly originEvery: number;
}

export const rosterDefaults: RosterOptions = {
  peersMax: 20_000,
  blobsPerPeerMax: 20_000,
  membershipsMax: 2_000_000,
  handoutCount: 30,
  handoutCountMax: 200,
  originFirstCount: 40,
  originEvery: 8,
};

/** Everybody asks twice while a swarm gathers; who asks more often lacks sources. */
const askedCountUsual = 2;

/** `session` names one announce stream; events of an older stream of the same peer are ignored. */
export type RosterEvent =
  | { readonly type: 'peer-joined'; readonly peer: PeerId; readonly session: number; readonly endpoint: string }
  | {
      readonly type: 'blob-announced';
      readonly peer: PeerId;
      readonly session: number;
      readonly digest: Digest;
      readonly complete: boolean;
      readonly haveCount: number;
    }
  | { readonly type: 'blob-withdrawn'; readonly peer: PeerId; readonly session: number; readonly digest: Digest }
  | { readonly type: 'peer-left'; readonly peer: PeerId; readonly session: number };

/** One peer in one blob's swarm, for operators. */
export interface MemberSnapshot {
  readonly peer: PeerId;
  readonly endpoint: string;
  readonly complete: boolean;
  readonly haveCount: number;
  readonly handedCount: number;
}

/** One blob's swarm, for operators. */
export interface SwarmSnapshot {
  readonly digest: Digest;
  readonly completeCount: number;
  readonly wantingCount: number;
  readonly originCount: number;
  readonly handoutCount: number;
}

interface Session {
  readonly peer: PeerId;
  readonly session: number;
  readonly endpoint: string;
  readonly origin: boolean;
  readonly members: Map<Digest, Member>;
}

interface Member extends Handed {
  readonly session: Session;
  complete: boolean;
  haveCount: number;
  pool: Member[];
  at: number;
  askedCount: number;
}

interface Blob {
  readonly digest: Digest;
  readonly complete: Member[];
  readonly wanting: Member[];
  readonly origins: Member[];
  handoutCount: number;
  originHandoutCount: number;
  handedSum: number;
}

export class Roster {
  readonly #options: RosterOptions;
  readonly #rng: Rng;
  readonly #sessions = new Map<PeerId, Session>();
  readonly #blobs = new Map<Digest, Blob>();
  #membershipCount = 0;

  constructor(options: Partial<RosterOptions>, deps: { readonly rng: Rng }) {
    this.#options = { ...rosterDefaults, ...options };
    this.#rng = deps.rng;
  }

  get peerCount(): number {
    return this.#sessions.size;
  }

  get blobCount(): number {
    return this.#blobs.size;
  }

  get membershipCount(): number {
    return this.#membershipCount;
  }

  /** Applies one event. Throws `resource-exhausted` when a bound is reached, leaving everything as it was. */
  apply(event: RosterEvent): void {
    if (event.type === 'peer-joined') {
      this.#join(event);
      return;
    }
    const session = this.#sessions.get(event.peer);
    if (session?.session !== event.session) return;
    if (event.type === 'blob-announced') this.#announce(session, event.digest, event.complete, event.haveCount);
    else if (event.type === 'blob-withdrawn') this.#withdraw(session, event.digest);
    else this.#leave(session);
  }

  /**
   * Peers for `to` to download the blob from, in random order; none when `to` has all of it. An origin is among them for the
   * first who ask, now and then afterwards, when the peer asks time and again and still has nothing, and when there is nobody else.
   */
  handout(digest: Digest, to: PeerId, count: number = this.#options.handoutCount): PeerOffer[] {
    const blob = this.#blobs.get(digest);
    const asker = this.#sessions.get(to)?.members.get(digest);
    if (blob === undefined || asker?.complete === true) return [];
    blob.handoutCount += 1;
    if (asker !== undefined) asker.askedCount += 1;
    const hungry = asker !== undefined && asker.askedCount > askedCountUsual && asker.haveCount === 0;
    const originBudget = this.#options.originFirstCount * blob.origins.length + blob.handoutCount / this.#options.originEvery;
    const withOrigin = hungry || blob.originHandoutCount < originBudget;
    const request = { count: Math.min(count, this.#options.handoutCountMax), except: asker, withOrigin };
    const chosen = chooseHandout(blob, request, this.#rng);
    let named = false;
    const offers = chosen.map((member): PeerOffer => {
      if (member.session.origin) named = true;
      else blob.handedSum += 1;
      return { peer: member.session.peer, endpoint: member.session.endpoint, complete: member.complete };
    });
    if (named) blob.originHandoutCount += 1;
    return offers;
  }

  /** Swarms in the order of their first announcement, after `offset`. */
  swarms(offset: number, limit: number): SwarmSnapshot[] {
    const page: SwarmSnapshot[] = [];
    let at = 0;
    for (const blob of this.#blobs.values()) {
      if (page.length >= limit) break;
      at += 1;
      if (at <= offset) continue;
      page.push({
        digest: blob.digest,
        completeCount: blob.complete.length,
        wantingCount: blob.wanting.length,
        originCount: blob.origins.length,
        handoutCount: blob.handoutCount,
      });
    }
    return page;
  }

  /** The members of one swarm: origins, complete, wanting. */
  members(digest: Digest, offset: number, limit: number): MemberSnapshot[] {
    const blob = this.#blobs.get(digest);
    if (blob === undefined) return [];
    return [...blob.origins, ...blob.complete, ...blob.wanting]
      .slice(offset, offset + limit)
      .map(({ session, complete, haveCount, handedCount }) => ({
        peer: session.peer,
        endpoint: session.endpoint,
        complete,
        haveCount,
        handedCount,
      }));
  }

  #join(event: Extract<RosterEvent, { type: 'peer-joined' }>): void {
    const before = this.#sessions.get(event.peer);
    if (before === undefined && this.#sessions.size >= this.#options.peersMax) {
      throw new AppError('resource-exhausted', 'the tracker has as many peers as it may; add a tracker', { retryAfterMs: 5000 });
    }
    if (before !== undefined) this.#leave(before);
    const { peer, session, endpoint } = event;
    this.#sessions.set(peer, { peer, session, endpoint, origin: isOrigin(peer), members: new Map() });
  }

  #announce(session: Session, digest: Digest, complete: boolean, haveCount: number): void {
    const known = session.members.get(digest);
    if (known !== undefined) {
      known.haveCount = haveCount;
      if (known.complete !== complete) this.#move(this.#blobOf(digest), known, complete);
      return;
    }
    if (session.members.size >= this.#options.blobsPerPeerMax || this.#membershipCount >= this.#options.membershipsMax) {
      throw new AppError('resource-exhausted', 'the tracker knows as many blobs as it may; withdraw blobs that are no longer seeded');
    }
    const blob = this.#blobOf(digest);
    // A newcomer starts at the mean: from zero, it would be in every handout until it had caught up.
    const peers = blob.complete.length + blob.wanting.length;
    const handedCount = session.origin || peers === 0 ? 0 : Math.floor(blob.handedSum / peers);
    const member: Member = { session, complete, haveCount, pool: [], at: 0, askedCount: 0, handedCount };
    if (!session.origin) blob.handedSum += handedCount;
    session.members.set(digest, member);
    this.#membershipCount += 1;
    enter(member, poolOf(blob, session, complete));
  }

  #withdraw(session: Session, digest: Digest): void {
    const member = session.members.get(digest);
    const blob = this.#blobs.get(digest);
    if (member === undefined || blob === undefined) return;
    session.members.delete(digest);
    this.#membershipCount -= 1;
    if (!session.origin) blob.handedSum -= member.handedCount;
    leave(member);
    if (blob.complete.length + blob.wanting.length + blob.origins.length === 0) this.#blobs.delete(digest);
  }

  #leave(session: Session): void {
    for (const digest of Array.from(session.members.keys())) this.#withdraw(session, digest);
    this.#sessions.delete(session.peer);
  }

  #move(blob: Blob, member: Member, complete: boolean): void {
    leave(member);
    member.complete = complete;
    enter(member, poolOf(blob, member.session, complete));
  }

  #blobOf(digest: Digest): Blob {
    let blob = this.#blobs.get(digest);
    if (blob === undefined) {
      blob = { digest, complete: [], wanting: [], origins: [], handoutCount: 0, originHandoutCount: 0, handedSum: 0 };
      this.#blobs.set(digest, blob);
    }
    return blob;
  }
}

function poolOf(blob: Blob, session: Session, complete: boolean): Member[] {
  if (session.origin) return blob.origins;
  return complete ? blob.complete : blob.wanting;
}

function enter(member: Member, pool: Member[]): void {
  member.pool = pool;
  member.at = pool.length;
  pool.push(member);
}

/** The last of the pool takes the place of the one that leaves. */
function leave(member: Member): void {
  const { pool, at } = member;
  const last = pool.pop();
  if (last === undefined || last === member) return;
  pool[at] = last;
  last.at = at;
}
