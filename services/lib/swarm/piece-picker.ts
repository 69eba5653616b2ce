/**
 * Which piece to ask a source for: the rarest among the connected sources, ties broken at random. Open pieces (neither asked
 * for nor here) stand in one typed array sorted by rarity, with the end of each rarity's bucket, so a change of rarity is one
 * swap and a pick looks at the rarest bucket first. Complete sources are not counted: they would raise every piece alike.
 */
import { assert, Bitfield, type Rng } from '#core';

const open = 0;
const requested = 1;
const writing = 2;
const verified = 3;
const stateNames = ['open', 'requested', 'writing', 'verified'] as const;

export type PieceState = (typeof stateNames)[number];

/** What one connected source has. Made and changed by the picker only. */
export interface PieceSource {
  readonly have: Bitfield;
  /** Its pieces count towards rarity; a source that came complete does not. */
  readonly counted: boolean;
  /** Open pieces it has, kept for counted sources; ask {@link PiecePicker.usefulCount}. */
  usefulCount: number;
  /** Pieces it would rather give later; they are picked when it has nothing else. */
  deferred: Bitfield | undefined;
}

export class PiecePicker {
  readonly #pieceCount: number;
  readonly #rng: Rng;
  readonly #state: Uint8Array;
  readonly #rarity: Uint8Array;
  readonly #order: Uint16Array | Uint32Array;
  readonly #position: Uint16Array | Uint32Array;
  /** `#bucketEnd[r]` is one past the last open piece of rarity r. */
  readonly #bucketEnd: Uint32Array;
  readonly #sources: PieceSource[] = [];
  #top = 0;
  #openCount = 0;
  #missingCount: number;

  /** `have` is copied; at most `sourceCountMax` (below 255) sources may be connected at once. */
  constructor(have: Bitfield, sourceCountMax: number, rng: Rng) {
    assert(sourceCountMax < 255, 'rarity is counted in a byte');
    const pieceCount = have.length;
    this.#pieceCount = pieceCount;
    this.#rng = rng;
    this.#state = new Uint8Array(pieceCount);
    this.#rarity = new Uint8Array(pieceCount);
    this.#order = pieceCount <= 0x10000 ? new Uint16Array(pieceCount) : new Uint32Array(pieceCount);
    this.#position = pieceCount <= 0x10000 ? new Uint16Array(pieceCount) : new Uint32Array(pieceCount);
    this.#bucketEnd = new Uint32Array(sourceCountMax + 2);
    this.#missingCount = pieceCount - have.count;
    for (let piece = 0; piece < pieceCount; piece += 1) {
      if (have.has(piece)) this.#state[piece] = verified;
      else this.#insert(piece);
    }
  }

  get pieceCount(): number {
    return this.#pieceCount;
  }

  /** Pieces that nobody was asked for. */
  get openCount(): number {
    return this.#openCount;
  }

  /** Pieces not verified yet. */
  get missingCount(): number {
    return this.#missingCount;
  }

  get verifiedCount(): number {
    return this.#pieceCount - this.#missingCount;
  }

  /** Whether a number from outside names a piece. */
  isPiece(piece: number): boolean {
    return Number.isInteger(piece) && piece >= 0 && piece < this.#pieceCount;
  }

  stateOf(piece: number): PieceState {
    return stateNames[this.#state[piece] ?? verified] ?? 'verified';
  }

  isOpen(piece: number): boolean {
    return this.#state[piece] === open;
  }

  isRequested(piece: number): boolean {
    return this.#state[piece] === requested;
  }

  /** Counted sources that have the piece. */
  rarityOf(piece: number): number {
    return this.#rarity[piece] ?? 0;
  }

  /** A source joins. `have` is taken over: it changes as the source gains pieces. */
  addSource(have: Bitfield): PieceSource {
    assert(have.length === this.#pieceCount, 'a source speaks of the same blob');
    const source: PieceSource = { have, counted: !have.isFull, usefulCount: 0, deferred: undefined };
    this.#sources.push(source);
    if (!source.counted) return source;
    this.#top += 1;
    assert(this.#top < this.#bucketEnd.length, 'no more sources than announced');
    this.#bucketEnd[this.#top] = this.#openCount;
    if (have.count === 0) return source;
    for (let piece = 0; piece < this.#pieceCount; piece += 1) if (have.has(piece)) this.#gain(source, piece);
    return source;
  }

  removeSource(source: PieceSource): void {
    const at = this.#sources.indexOf(source);
    assert(at >= 0, 'a source leaves once');
    this.#sources.splice(at, 1);
    if (!source.counted) return;
    if (source.have.count > 0) {
      for (let piece = 0; piece < this.#pieceCount; piece += 1) if (source.have.has(piece)) this.#lower(piece);
    }
    this.#top -= 1;
  }

  /** The source told of a piece; false when that was known. */
  sourceGains(source: PieceSource, piece: number): boolean {
    if (!source.have.add(piece)) return false;
    if (source.counted) this.#gain(source, piece);
    return true;
  }

  /** The source said it does not have the piece after all. */
  sourceLoses(source: PieceSource, piece: number): void {
    if (!source.counted || !source.have.delete(piece)) return;
    if (this.#state[piece] === open) source.usefulCount -= 1;
    this.#lower(piece);
  }

  /** Open pieces the source has. */
  usefulCount(source: PieceSource): number {
    return source.counted ? source.usefulCount : this.#openCount;
  }

  /** An open piece that the source has, rarest first, random among equals; -1 when there is none. Changes nothing. */
  pick(source: PieceSource): number {
    if (this.usefulCount(source) === 0) return -1;
    const first = this.#scan(source, source.deferred);
    return first >= 0 || source.deferred === undefined ? first : this.#scan(source, undefined);
  }

  /** The source asks to be spared a piece for now; false when it had asked before. */
  defer(source: PieceSource, piece: number): boolean {
    source.deferred ??= new Bitfield(this.#pieceCount);
    return source.deferred.add(piece);
  }

  #scan(source: PieceSource, except: Bitfield | undefined): number {
    let start = source.counted ? (this.#bucketEnd[0] ?? 0) : 0;
    for (let rarity = source.counted ? 1 : 0; rarity <= this.#top; rarity += 1) {
      const end = this.#bucketEnd[rarity] ?? 0;
      const piece = end > start ? this.#scanBucket(source.have, except, start, end) : -1;
      if (piece >= 0) return piece;
      start = end;
    }
    return -1;
  }

  /** Goes once around the bucket from a random place. */
  #scanBucket(have: Bitfield, except: Bitfield | undefined, start: number, end: number): number {
    const size = end - start;
    const offset = this.#rng.below(size);
    for (let step = 0; step < size; step += 1) {
      const at = start + offset + step;
      const piece = this.#order[at < end ? at : at - size] ?? 0;
      if (have.has(piece) && except?.has(piece) !== true) return piece;
    }
    return -1;
  }

  /** Open -> requested. */
  request(piece: number): void {
    assert(this.#state[piece] === open, 'only an open piece is requested first');
    this.#remove(piece);
    this.#state[piece] = requested;
    this.#count(piece, -1);
  }

  /** Requested or writing -> open: the request failed, or what came was corrupt. */
  reopen(piece: number): void {
    assert(this.#state[piece] === requested || this.#state[piece] === writing, 'only a piece under way is reopened');
    this.#state[piece] = open;
    this.#insert(piece);
    this.#count(piece, 1);
  }

  /** Open or requested -> writing: the bytes are here. */
  received(piece: number): void {
    if (this.#state[piece] === open) this.request(piece);
    assert(this.#state[piece] === requested, 'only a missing piece is received');
    this.#state[piece] = writing;
  }

  /** Writing -> verified. */
  verified(piece: number): void {
    assert(this.#state[piece] === writing, 'only a received piece is verified');
    this.#state[piece] = verified;
    this.#missingCount -= 1;
  }

  #gain(source: PieceSource, piece: number): void {
    if (this.#state[piece] === open) source.usefulCount += 1;
    const rarity = this.#rarity[piece] ?? 0;
    this.#rarity[piece] = rarity + 1;
    if (this.#state[piece] !== open) return;
    const last = (this.#bucketEnd[rarity] ?? 0) - 1;
    this.#swap(this.#position[piece] ?? 0, last);
    this.#bucketEnd[rarity] = last;
  }

  #lower(piece: number): void {
    const rarity = (this.#rarity[piece] ?? 0) - 1;
    assert(rarity >= 0, 'a counted piece has a source');
    this.#rarity[piece] = rarity;
    if (this.#state[piece] !== open) return;
    const first = this.#bucketEnd[rarity] ?? 0;
    this.#swap(this.#position[piece] ?? 0, first);
    this.#bucketEnd[rarity] = first + 1;
  }

  #count(piece: number, change: number): void {
    for (let at = 0; at < this.#sources.length; at += 1) {
      const source = this.#sources[at];
      if (source?.counted === true && source.have.has(piece)) source.usefulCount += change;
    }
  }

  #insert(piece: number): void {
    const rarity = this.#rarity[piece] ?? 0;
    let hole = this.#openCount;
    for (let bucket = this.#top; bucket > rarity; bucket -= 1) {
      const first = this.#bucketEnd[bucket - 1] ?? 0;
      if (first !== hole) this.#put(this.#order[first] ?? 0, hole);
      this.#bucketEnd[bucket] = (this.#bucketEnd[bucket] ?? 0) + 1;
      hole = first;
    }
    this.#bucketEnd[rarity] = (this.#bucketEnd[rarity] ?? 0) + 1;
    this.#put(piece, hole);
    this.#openCount += 1;
  }

  #remove(piece: number): void {
    let hole = this.#position[piece] ?? 0;
    for (let bucket = this.#rarity[piece] ?? 0; bucket <= this.#top; bucket += 1) {
      const last = (this.#bucketEnd[bucket] ?? 0) - 1;
      if (last > hole) this.#put(this.#order[last] ?? 0, hole);
      this.#bucketEnd[bucket] = last;
      hole = last;
    }
    this.#openCount -= 1;
  }

  #put(piece: number, at: number): void {
    this.#order[at] = piece;
    this.#position[piece] = at;
  }

  #swap(left: number, right: number): void {
    const moved = this.#order[left] ?? 0;
    this.#put(this.#order[right] ?? 0, left);
    this.#put(moved, right);
  }
}
