/** Content digests in their canonical text form, which is also the key of every map. */
import { createHash, type Hash } from 'node:crypto';
import { assert } from './assert.ts';
import { AppError } from './errors.ts';

/** `sha256:<64 hex>` or `sha512:<128 hex>`, lower case. Made only by the functions of this file. */
export type Digest = string & { readonly __brand: 'Digest' };

/** The registered algorithms that every OCI registry must know. */
export type DigestAlgorithm = 'sha256' | 'sha512';

const patterns: Readonly<Record<DigestAlgorithm, RegExp>> = {
  sha256: /^[0-9a-f]{64}$/,
  sha512: /^[0-9a-f]{128}$/,
};

/** Parses the canonical text form. Throws `invalid-argument` for an unknown algorithm, upper case or a wrong length. */
export function parseDigest(text: string): Digest {
  if (isDigest(text)) return text;
  throw new AppError('invalid-argument', `not a digest: expected sha256:<64 hex> or sha512:<128 hex>`, {
    data: { digest: text.slice(0, 160) },
  });
}

/** True when `text` is a canonical digest. */
export function isDigest(text: string): text is Digest {
  const colon = text.indexOf(':');
  const algorithm = text.slice(0, colon);
  return (algorithm === 'sha256' || algorithm === 'sha512') && patterns[algorithm].test(text.slice(colon + 1));
}

/** The algorithm of a digest. */
export function algorithmOf(digest: Digest): DigestAlgorithm {
  return digest.startsWith('sha256:') ? 'sha256' : 'sha512';
}

/** The hexadecimal part. */
export function hexOf(digest: Digest): string {
  return digest.slice(7);
}

/** The raw hash: 32 or 64 bytes. */
export function digestBytes(digest: Digest): Buffer {
  return Buffer.from(hexOf(digest), 'hex');
}

/** Rebuilds a digest from its raw hash. Throws `invalid-argument` when the length does not fit the algorithm. */
export function digestFromBytes(algorithm: DigestAlgorithm, bytes: Uint8Array): Digest {
  return parseDigest(`${algorithm}:${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')}`);
}

/** Hashes one buffer. */
export function digestOf(bytes: Uint8Array, algorithm: DigestAlgorithm = 'sha256'): Digest {
  return digestFromHex(algorithm, createHash(algorithm).update(bytes).digest('hex'));
}

/** A running digest over a stream. */
export class DigestHasher {
  readonly algorithm: DigestAlgorithm;
  readonly #hash: Hash;
  #sizeBytes = 0;

  constructor(algorithm: DigestAlgorithm = 'sha256') {
    this.algorithm = algorithm;
    this.#hash = createHash(algorithm);
  }

  /** Bytes hashed so far. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  update(bytes: Uint8Array): this {
    this.#hash.update(bytes);
    this.#sizeBytes += bytes.byteLength;
    return this;
  }

  /** The digest of everything so far; the hasher can go on. */
  peek(): Digest {
    return digestFromHex(this.algorithm, this.#hash.copy().digest('hex'));
  }

  /** Ends the hasher. */
  finish(): Digest {
    return digestFromHex(this.algorithm, this.#hash.digest('hex'));
  }
}

function digestFromHex(algorithm: DigestAlgorithm, hex: string): Digest {
  assert(patterns[algorithm].test(hex), 'a hash has the length of its algorithm');
  return `${algorithm}:${hex}` as Digest;
}
