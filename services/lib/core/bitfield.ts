/** A set of piece indexes in one typed array; bit 0 of byte 0 is piece 0 (most significant bit first, as on the wire). */
import { assert } from './assert.ts';
import { AppError } from './errors.ts';

export class Bitfield {
  readonly length: number;
  readonly #bytes: Uint8Array;
  #count = 0;

  /** An empty set over `length` pieces. */
  constructor(length: number) {
    assert(Number.isSafeInteger(length) && length >= 0, 'a bitfield has a whole number of bits');
    this.length = length;
    this.#bytes = new Uint8Array(Math.ceil(length / 8));
  }

  /** The set of all pieces. */
  static full(length: number): Bitfield {
    const bitfield = new Bitfield(length);
    bitfield.#bytes.fill(0xff);
    const spare = bitfield.#bytes.byteLength * 8 - length;
    if (spare > 0) bitfield.#bytes[bitfield.#bytes.byteLength - 1] = (0xff << spare) & 0xff;
    bitfield.#count = length;
    return bitfield;
  }

  /** Parses the wire form (copied). Throws `invalid-argument` for a wrong length or a set bit past the end. */
  static fromBytes(bytes: Uint8Array, length: number): Bitfield {
    const bitfield = new Bitfield(length);
    if (bytes.byteLength !== bitfield.#bytes.byteLength) {
      throw new AppError('invalid-argument', `bitfield: expected ${bitfield.#bytes.byteLength} bytes for ${length} pieces`);
    }
    bitfield.#bytes.set(bytes);
    const spare = bytes.byteLength * 8 - length;
    if (spare > 0 && ((bytes[bytes.byteLength - 1] ?? 0) & ((1 << spare) - 1)) !== 0) {
      throw new AppError('invalid-argument', 'bitfield: a bit past the last piece is set');
    }
    for (const byte of bytes) bitfield.#count += popCount(byte);
    return bitfield;
  }

  /** Number of pieces in the set. */
  get count(): number {
    return this.#count;
  }

  get isFull(): boolean {
    return this.#count === this.length;
  }

  has(index: number): boolean {
    return index >= 0 && index < this.length && ((this.#bytes[index >> 3] ?? 0) & (0x80 >> (index & 7))) !== 0;
  }

  /** Adds a piece; returns false when it was there. */
  add(index: number): boolean {
    assert(index >= 0 && index < this.length, 'the piece lies inside the bitfield');
    if (this.has(index)) return false;
    this.#bytes[index >> 3] = (this.#bytes[index >> 3] ?? 0) | (0x80 >> (index & 7));
    this.#count += 1;
    return true;
  }

  /** Removes a piece; returns false when it was not there. */
  delete(index: number): boolean {
    if (!this.has(index)) return false;
    this.#bytes[index >> 3] = (this.#bytes[index >> 3] ?? 0) & ~(0x80 >> (index & 7));
    this.#count -= 1;
    return true;
  }

  /** First piece at or after `from` that is not in the set, or `length`. */
  nextMissing(from = 0): number {
    let index = from;
    while (index < this.length) {
      if ((index & 7) === 0 && this.#bytes[index >> 3] === 0xff) index += 8;
      else if (this.has(index)) index += 1;
      else return index;
    }
    return this.length;
  }

  /** The wire form, copied. */
  toBytes(): Uint8Array {
    return this.#bytes.slice();
  }

  clone(): Bitfield {
    return Bitfield.fromBytes(this.#bytes, this.length);
  }
}

function popCount(byte: number): number {
  let count = 0;
  for (let rest = byte; rest !== 0; rest &= rest - 1) count += 1;
  return count;
}
