/** Whether a member of a ring should bring a blob to itself, so that every blob has as many copies again as it should have. */
import type { Digest } from '#core';
import type { Weighted } from './rendezvous.ts';
import type { Ring } from './ring.ts';

export interface RepairView<M extends Weighted> {
  readonly ring: Ring<M>;
  /** Owners of each blob. */
  readonly replicas: number;
  /** The id of the member that asks. */
  readonly self: string;
  /** Whether a member counts: false once it has been away for so long that others stand in for it. */
  readonly isPresent: (id: string) => boolean;
}

/**
 * True when `self` lacks a blob that it should have. One of the first `replicas` members in the order of the digest always should, since readers look
 * there first; the next in order, who stands in for one that is gone, only while fewer than `replicas` hold the blob. When every member that may
 * take a blob does so, it has min(`replicas`, present members) copies, if it had any; nobody who is not an owner at that moment takes one.
 * `holders` are ids of members that have said they hold it.
 */
export function shouldTake<M extends Weighted>(view: RepairView<M>, digest: Digest, holders: readonly string[]): boolean {
  const { ring, replicas, self, isPresent } = view;
  if (holders.length === 0 || holders.includes(self)) return false;
  const order = ring.order(digest);
  const isSelf = ({ id }: M): boolean => id === self;
  if (order.slice(0, replicas).some(isSelf)) return true;
  const present = order.filter(({ id }) => id === self || isPresent(id));
  return holders.length < replicas && present.slice(0, replicas).some(isSelf);
}
