/**
 * Weighted rendezvous hashing: every node orders the members of a ring for a digest on its own and comes to the same order.
 * Only integer arithmetic and the four basic float operations are used, which give the same bits on every machine and runtime
 * (`Math.log` may not).
 */
import { assert, type Digest, digestBytes } from '#core';

/** A member of a ring as far as placement is concerned. */
export interface Weighted {
  /** Unique in the ring and stable over restarts: placement follows the id, never the address. */
  readonly id: string;
  /** Share of the digests relative to other members: more than 0, at most 1000. Default 1. */
  readonly weight?: number;
}

/** A hash of a key in two 32-bit lanes; hashed once, then combined with each member. */
export interface KeyHash {
  readonly high: number;
  readonly low: number;
}

const weightMax = 1000;

/** Hashes a member id (UTF-16 code units, so that any string is allowed). */
export function hashMember(id: string): KeyHash {
  let lanes: KeyHash = { high: 0x9e3779b9, low: 0x243f6a88 };
  for (let i = 0; i < id.length; i += 1) lanes = absorb(lanes, id.charCodeAt(i));
  return absorb(lanes, id.length);
}

/** Hashes all bytes of a digest; its length tells the algorithms apart. */
export function hashDigest(digest: Digest): KeyHash {
  const bytes = digestBytes(digest);
  let lanes: KeyHash = { high: 0xb7e15162, low: 0x8aed2a6b };
  for (let at = 0; at < bytes.byteLength; at += 4) lanes = absorb(lanes, bytes.readUInt32LE(at));
  return absorb(lanes, bytes.byteLength);
}

/** A number in (0, 1) with 52 random bits for a pair of hashes. */
export function mixedUnit(member: KeyHash, key: KeyHash): number {
  let lanes = absorb(absorb(member, key.high), key.low);
  lanes = { high: avalanche(lanes.high ^ rotate(lanes.low, 11)), low: avalanche(lanes.low ^ rotate(lanes.high, 19)) };
  // 52 bits and a half: never 0, never 1, exactly representable.
  return ((lanes.high >>> 0) * 2 ** 20 + (lanes.low >>> 12) + 0.5) / 2 ** 52;
}

/**
 * The score of a member for a key; the highest wins. `weight / -ln(u)` gives each member its weight's share of the keys, and
 * a change of one weight moves only the keys that this member wins or loses.
 */
export function scoreOf(unit: number, weight: number): number {
  return weight / -naturalLog(unit);
}

/** Throws an assertion for a weight outside its bounds. */
export function weightOf(member: Weighted): number {
  const weight = member.weight ?? 1;
  assert(weight > 0 && weight <= weightMax, `a weight is more than 0 and at most ${weightMax}`);
  return weight;
}

/**
 * ln of a number in (0, 1) to about 1e-15: the mantissa by the series of artanh, the exponent by repeated doubling. The same
 * operations in the same order everywhere.
 */
function naturalLog(value: number): number {
  let mantissa = value;
  let exponent = 0;
  while (mantissa < Math.SQRT1_2) {
    mantissa *= 2;
    exponent -= 1;
  }
  const ratio = (mantissa - 1) / (mantissa + 1);
  const square = ratio * ratio;
  let term = ratio;
  let sum = 0;
  for (let odd = 1; odd <= 21; odd += 2) {
    sum += term / odd;
    term *= square;
  }
  return 2 * sum + exponent * Math.LN2;
}

function absorb(lanes: KeyHash, word: number): KeyHash {
  const high = Math.imul(rotate(lanes.high ^ Math.imul(word, 0xcc9e2d51), 15), 0x85ebca6b) ^ lanes.low;
  const low = Math.imul(rotate(lanes.low ^ Math.imul(word, 0x1b873593), 13), 0xc2b2ae35) ^ avalanche(high);
  return { high, low };
}

/** Every input bit changes every output bit with probability one half. */
function avalanche(word: number): number {
  let mixed = word ^ (word >>> 16);
  mixed = Math.imul(mixed, 0x85ebca6b);
  mixed ^= mixed >>> 13;
  mixed = Math.imul(mixed, 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}

function rotate(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}
