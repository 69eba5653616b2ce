/** One engine under test: short names for peers and blobs, events in, effects as lines of text out. */
import { type Bitfield, type Metainfo, Bitfield as Pieces, parsePeerId, SeededRng } from '#core';
import { type Effect, type PeerOffer, Swarm, type SwarmEvent, type SwarmOptions, swarmOptions } from '#swarm';
import { blobOf } from '#test/support/swarm-blob';

export type EffectOf<T extends Effect['type']> = Extract<Effect, { type: T }>;

export class Engine {
  readonly swarm: Swarm;
  readonly blob: Metainfo;
  nowMs = 0;

  constructor(options: Partial<SwarmOptions> = {}, pieceCount = 8, seed = 1, self = 'agent/self') {
    this.swarm = new Swarm(swarmOptions(options), { self: parsePeerId(self), rng: new SeededRng(seed) });
    this.blob = blobOf('blob', pieceCount);
  }

  /** Applies an event and returns copies of the effects. */
  apply(event: SwarmEvent): Effect[] {
    return this.swarm.apply(event, this.nowMs).map((effect) => ({ ...effect }));
  }

  want(have: Bitfield = new Pieces(this.blob.pieceCount), blob = this.blob): Effect[] {
    return this.apply({ type: 'blob-wanted', metainfo: blob, have });
  }

  seed(blob = this.blob): Effect[] {
    return this.apply({ type: 'blob-seeded', metainfo: blob });
  }

  offer(names: readonly string[], complete = true, blob = this.blob): Effect[] {
    return this.apply({ type: 'peers-offered', digest: blob.digest, peers: names.map((name) => offerOf(name, complete)) });
  }

  /** Offers one peer and accepts the dial; returns the link and the effects of the acceptance. */
  connect(name: string, have: Bitfield = Pieces.full(this.blob.pieceCount), blob = this.blob): { link: number; effects: Effect[] } {
    const [dial] = of(this.offer([name], have.isFull, blob), 'dial');
    if (dial === undefined) throw new Error(`no dial to ${name}`);
    return { link: dial.link, effects: this.apply({ type: 'link-accepted', link: dial.link, have }) };
  }

  /** A peer dials in; returns its link and the effects. */
  inbound(name: string, blob = this.blob): { link: number; effects: Effect[] } {
    const link = this.swarm.newLink();
    return { link, effects: this.apply({ type: 'link-requested', link, digest: blob.digest, peer: parsePeerId(name) }) };
  }

  receive(link: number, piece: number, sizeBytes = this.blob.pieceLengthBytes): Effect[] {
    return this.apply({ type: 'piece-received', link, piece, sizeBytes });
  }

  verify(piece: number, blob = this.blob): Effect[] {
    return this.apply({ type: 'piece-verified', digest: blob.digest, piece });
  }

  /** Receives and verifies. */
  deliver(link: number, piece: number): Effect[] {
    return this.receive(link, piece).concat(this.verify(piece));
  }

  /** Lets time pass, ticking at each deadline on the way. */
  pass(durationMs: number): Effect[] {
    const effects: Effect[] = [];
    const endMs = this.nowMs + durationMs;
    for (;;) {
      const deadlineMs = this.swarm.nextDeadlineMs();
      if (deadlineMs === undefined || deadlineMs > endMs) break;
      this.nowMs = Math.max(this.nowMs + 1, deadlineMs);
      effects.push(...this.apply({ type: 'tick' }));
    }
    this.nowMs = Math.max(this.nowMs, endMs);
    return effects;
  }
}

export function offerOf(name: string, complete = true): PeerOffer {
  return { peer: parsePeerId(name), endpoint: `${name.replace('/', '-')}:1`, complete };
}

/** The effects of one type. */
export function of<T extends Effect['type']>(effects: readonly Effect[], type: T): EffectOf<T>[] {
  return effects.filter((effect): effect is EffectOf<T> => effect.type === type);
}

/** The pieces requested on a link. */
export function asked(effects: readonly Effect[], link?: number): number[] {
  return of(effects, 'request').flatMap((effect) => (link === undefined || effect.link === link ? [...effect.pieces] : []));
}

/** A set of the pieces named. */
export function pieces(count: number, ...members: readonly number[]): Bitfield {
  const set = new Pieces(count);
  for (const piece of members) set.add(piece);
  return set;
}

/** One effect as a line: the type and its fields, digests left out. */
export function lineOf(effect: Effect): string {
  const words: string[] = [effect.type];
  for (const [name, value] of Object.entries(effect)) {
    if (name === 'type' || name === 'digest' || name === 'endpoint') continue;
    words.push(
      `${name}=${value instanceof Pieces ? `${value.count}/${value.length}` : Array.isArray(value) ? value.join(',') : String(value)}`,
    );
  }
  return words.join(' ');
}
