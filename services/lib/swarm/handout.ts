/**
 * Which peers a newcomer is told of. Each place goes to the least handed out of a few members drawn at random: the graph stays
 * random, degrees stay even (the spread of such draws grows with log log n), and the cost does not depend on the swarm's size.
 */
import type { Rng } from '#core';

/** What the choice needs to know of a member. */
export interface Handed {
  /** How often it was handed out; the choice raises it. */
  handedCount: number;
}

/** The members of one blob by what they can give. */
export interface HandoutPools<M extends Handed> {
  readonly complete: readonly M[];
  readonly wanting: readonly M[];
  readonly origins: readonly M[];
}

export interface HandoutRequest<M extends Handed> {
  readonly count: number;
  /** Never handed out: the one who asks. */
  readonly except: M | undefined;
  readonly withOrigin: boolean;
}

/** Draws for each place: with four, nearly every member is within one or two of the mean. */
const drawCount = 4;
/** Draws that hit somebody already chosen are repeated this often before the pool is scanned. */
const missCountMax = 8;

/**
 * Chooses up to `count` members: half from the complete ones, half from those in progress (either fills up for the other), so
 * that newcomers do not all lean on the few who are done. An origin comes on top, inside `count`, when asked for or when there
 * is nobody else. The order is random.
 */
export function chooseHandout<M extends Handed>(pools: HandoutPools<M>, request: HandoutRequest<M>, rng: Rng): M[] {
  const chosen = new Set<M>();
  if (request.except !== undefined) chosen.add(request.except);
  const others = pools.complete.length + pools.wanting.length;
  const nobodyElse = others === 0 || (others === 1 && request.except !== undefined && !pools.origins.includes(request.except));
  const limit = request.count + chosen.size;
  if (request.withOrigin || nobodyElse) draw(pools.origins, nobodyElse ? limit : Math.min(limit, chosen.size + 1), chosen, rng);
  draw(pools.complete, chosen.size + Math.ceil((limit - chosen.size) / 2), chosen, rng);
  draw(pools.wanting, limit, chosen, rng);
  draw(pools.complete, limit, chosen, rng);
  if (request.except !== undefined) chosen.delete(request.except);
  for (const member of chosen) member.handedCount += 1;
  return Array.from(chosen);
}

/** Draws from the pool until `chosen` has `limit` members or the pool is used up. */
function draw<M extends Handed>(pool: readonly M[], limit: number, chosen: Set<M>, rng: Rng): void {
  if (pool.length === 0) return;
  while (chosen.size < limit) {
    let best: M | undefined;
    let misses = 0;
    for (let drawn = 0; drawn < drawCount && misses < missCountMax; ) {
      const member = pool[rng.below(pool.length)];
      if (member === undefined || chosen.has(member)) {
        misses += 1;
        continue;
      }
      drawn += 1;
      if (best === undefined || member.handedCount < best.handedCount) best = member;
    }
    best ??= firstFree(pool, chosen, rng.below(pool.length));
    if (best === undefined) return;
    chosen.add(best);
  }
}

function firstFree<M extends Handed>(pool: readonly M[], chosen: ReadonlySet<M>, start: number): M | undefined {
  for (let step = 0; step < pool.length; step += 1) {
    const member = pool[(start + step) % pool.length];
    if (member !== undefined && !chosen.has(member)) return member;
  }
  return undefined;
}
