/**
 * Which pieces an origin gives away before the others. Owners that all begin with what is asked for first send it once each; with a share
 * of its own for each of them, fresh pieces leave one of them.
 */
import type { PeerId } from '#core';
import { isOrigin, type PeerOffer } from './types.ts';

/** Pieces whose number leaves `index` when divided by `count`. */
export interface SeedShare {
  readonly index: number;
  readonly count: number;
}

/** The share of `self` among the owners of a blob, with or without itself; undefined for one that is no origin, or alone. */
export function seedShareOf(self: PeerId, owners: readonly PeerOffer[]): SeedShare | undefined {
  if (!isOrigin(self)) return undefined;
  const all = Array.from(new Set([self, ...owners.map(({ peer }) => peer)])).sort();
  return all.length < 2 ? undefined : { index: all.indexOf(self), count: all.length };
}

export function isInShare(share: SeedShare | undefined, piece: number): boolean {
  return share === undefined || piece % share.count === share.index;
}

export function shareCount(share: SeedShare | undefined, pieceCount: number): number {
  return share === undefined ? pieceCount : Math.ceil(Math.max(0, pieceCount - share.index) / share.count);
}
