/** A ring: the configured members and who of them owns a digest. */
import { assert, type Digest } from '#core';
import { hashDigest, hashMember, type KeyHash, mixedUnit, scoreOf, type Weighted, weightOf } from './rendezvous.ts';

interface Placed<M> {
  readonly member: M;
  readonly hash: KeyHash;
  readonly weight: number;
}

/** More members than any cluster has; ordering them costs about 0.2 us each. */
export const ringMembersMax = 1000;

export class Ring<M extends Weighted> {
  /** In id order. */
  readonly members: readonly M[];
  readonly #placed: readonly Placed<M>[];

  /** Ids are unique; the order of `members` does not matter. */
  constructor(members: readonly M[]) {
    assert(members.length <= ringMembersMax, `a ring has at most ${ringMembersMax} members`);
    assert(new Set(members.map((member) => member.id)).size === members.length, 'the ids of a ring are unique');
    this.members = [...members].sort(byId);
    this.#placed = this.members.map((member) => ({ member, hash: hashMember(member.id), weight: weightOf(member) }));
  }

  /** All members, best first; the same on every node. */
  order(digest: Digest): M[] {
    const key = hashDigest(digest);
    const scored = this.#placed.map(({ member, hash, weight }) => ({ member, score: scoreOf(mixedUnit(hash, key), weight) }));
    scored.sort((a, b) => b.score - a.score || byId(a.member, b.member));
    return scored.map(({ member }) => member);
  }

  /**
   * The owners of a digest, best first: the first `replicas` healthy members in its order, so that a member that is down is
   * replaced by the next. When none is healthy the top member alone, as health may be judged wrongly and somebody must be asked.
   */
  owners(digest: Digest, replicas: number, isHealthy: (member: M) => boolean): M[] {
    assert(Number.isSafeInteger(replicas) && replicas >= 1, 'a blob has at least one owner');
    const order = this.order(digest);
    const healthy = order.filter(isHealthy).slice(0, replicas);
    return healthy.length > 0 ? healthy : order.slice(0, 1);
  }
}

function byId(a: Weighted, b: Weighted): number {
  if (a.id === b.id) return 0;
  return a.id < b.id ? -1 : 1;
}
