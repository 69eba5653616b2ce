/** The pieces of a blob in the order in which they came, so that each link served from it only remembers how far it has heard. */
import { assert } from '#core';

export class News {
  readonly #countMax: number;
  /** Made with the first piece: most blobs of a process are complete and have no news. */
  #pieces: Uint32Array | undefined;
  #timesMs: Float64Array | undefined;
  #count = 0;

  /** For at most `countMax` pieces. */
  constructor(countMax: number) {
    this.#countMax = countMax;
  }

  get count(): number {
    return this.#count;
  }

  add(piece: number, nowMs: number): void {
    assert(this.#count < this.#countMax, 'a piece comes once');
    this.#pieces ??= new Uint32Array(this.#countMax);
    this.#timesMs ??= new Float64Array(this.#countMax);
    this.#pieces[this.#count] = piece;
    this.#timesMs[this.#count] = nowMs;
    this.#count += 1;
  }

  /** The piece that came after `at` others. */
  pieceAt(at: number): number {
    assert(at < this.#count, 'it has come');
    return this.#pieces?.[at] ?? 0;
  }

  /** When the piece came. */
  timeAt(at: number): number {
    assert(at < this.#count, 'it has come');
    return this.#timesMs?.[at] ?? 0;
  }
}
