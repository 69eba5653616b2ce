import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  algorithmOf,
  type DigestAlgorithm,
  DigestHasher,
  digestBytes,
  digestFromBytes,
  digestOf,
  isAppError,
  isDigest,
  parseDigest,
} from '#core';

const algorithms = fc.constantFrom<DigestAlgorithm>('sha256', 'sha512');

test('a digest survives its text and its raw form', () => {
  fc.assert(
    fc.property(algorithms, fc.uint8Array({ maxLength: 300 }), (algorithm, bytes) => {
      const digest = digestOf(bytes, algorithm);
      assert.equal(digest, `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`);
      assert.equal(parseDigest(digest), digest);
      assert.equal(algorithmOf(digest), algorithm);
      assert.equal(digestFromBytes(algorithm, digestBytes(digest)), digest);
    }),
  );
});

test('hashing in chunks gives the digest of the whole', () => {
  fc.assert(
    fc.property(algorithms, fc.array(fc.uint8Array({ maxLength: 100 }), { maxLength: 10 }), (algorithm, chunks) => {
      const hasher = new DigestHasher(algorithm);
      for (const chunk of chunks) hasher.update(chunk);
      const whole = Buffer.concat(chunks);
      assert.equal(hasher.peek(), digestOf(whole, algorithm));
      assert.equal(hasher.finish(), digestOf(whole, algorithm));
      assert.equal(hasher.sizeBytes, whole.byteLength);
    }),
  );
});

for (const text of [
  '',
  'sha256:',
  'sha256:ABC',
  `sha256:${'A'.repeat(64)}`,
  `sha256:${'a'.repeat(63)}`,
  `md5:${'a'.repeat(32)}`,
  `sha512:${'a'.repeat(64)}`,
  `sha256:${'a'.repeat(64)}\n`,
]) {
  test(`${JSON.stringify(text.slice(0, 20))} of ${text.length} characters is not a digest`, () => {
    assert.equal(isDigest(text), false);
    assert.throws(
      () => parseDigest(text),
      (error) => isAppError(error, 'invalid-argument'),
    );
  });
}
