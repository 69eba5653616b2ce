import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { digestFromBytes, digestOf, hashSizeBytes, metainfoOf, parsePeerId, pieceCountOf, pieceLengthFor, roles } from '#core';
import { Metainfo as ProtoMetainfo } from '#gen/shoal/common/v1/blob';
import {
  digestFromProto,
  digestToProto,
  durationFromProto,
  durationToProto,
  metainfoFromProto,
  metainfoToProto,
  nodeIdentityFromProto,
  nodeIdentityToProto,
  peerFromProto,
  peerToProto,
  roleFromProto,
  safeNumber,
  timestampFromProto,
  timestampToProto,
} from '#wire';

const invalid = { code: 'invalid-argument' };

test('digests of both algorithms survive and share no memory with the message', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 64, maxLength: 64 }), fc.constantFrom('sha256', 'sha512'), (bytes, algorithm) => {
      const digest = digestFromBytes(algorithm, algorithm === 'sha256' ? bytes.subarray(32) : bytes);
      assert.equal(digestFromProto(digestToProto(digest)), digest);
    }),
  );
  assert.throws(() => digestFromProto(undefined), invalid);
  assert.throws(() => digestFromProto({ algorithm: 0, value: new Uint8Array(32) }), invalid);
  assert.throws(() => digestFromProto({ algorithm: 1, value: new Uint8Array(31) }), invalid);
});

test('metainfo survives, is validated, and does not keep its message', () => {
  fc.assert(
    fc.property(fc.nat({ max: 2 ** 31 }), (sizeBytes) => {
      const pieceLengthBytes = pieceLengthFor(sizeBytes);
      const pieceHashes = new Uint8Array(pieceCountOf(sizeBytes, pieceLengthBytes) * hashSizeBytes).fill(sizeBytes);
      const metainfo = metainfoOf({ digest: digestOf(pieceHashes), sizeBytes, pieceLengthBytes, pieceHashes });
      const message = ProtoMetainfo.decode(Buffer.from(ProtoMetainfo.encode(metainfoToProto(metainfo)).finish()));
      const received = metainfoFromProto(message);
      assert.deepEqual(received, metainfo);
      assert.notEqual(received.pieceHashes.buffer, message.pieceHashes.buffer);
    }),
    { numRuns: 30 },
  );
  const good = {
    digest: digestToProto(digestOf(Buffer.from('x'))),
    sizeBytes: 1n,
    pieceLengthBytes: 262_144n,
    pieceHashes: new Uint8Array(32),
  };
  assert.equal(metainfoFromProto(good).pieceCount, 1);
  for (const bad of [
    { ...good, sizeBytes: -1n },
    { ...good, sizeBytes: 2n ** 62n },
    { ...good, pieceLengthBytes: 1000n },
    { ...good, pieceHashes: new Uint8Array(31) },
    { ...good, digest: undefined },
  ]) {
    assert.throws(() => metainfoFromProto(bad), invalid);
  }
});

test('every role and identity survives; unknown roles and malformed ids are refused', () => {
  for (const role of roles) assert.deepEqual(nodeIdentityFromProto(nodeIdentityToProto({ role, id: 'a-1' })), { role, id: 'a-1' });
  assert.throws(() => roleFromProto(0), invalid);
  assert.throws(() => roleFromProto(99 as never), invalid);
  assert.throws(() => nodeIdentityFromProto({ role: 1, id: 'Not A Label' }), invalid);
});

test('peers survive; endpoints that are no host:port are refused', () => {
  for (const endpoint of ['10.0.0.1:7000', '[::1]:1', 'origin-1.example:65535']) {
    const peer = { peer: parsePeerId('origin/o1'), endpoint, complete: true };
    assert.deepEqual(peerFromProto(peerToProto(peer)), peer);
  }
  for (const endpoint of ['', 'host', 'host:0', 'host:65536', ':7000', '::1:7000', 'a b:1', 'unix:/x:1', `${'a'.repeat(300)}:1`]) {
    assert.throws(() => peerFromProto({ identity: { role: 1, id: 'a' }, endpoint, complete: false }), invalid, endpoint);
  }
});

test('times and durations survive to the millisecond', () => {
  fc.assert(
    fc.property(fc.integer({ min: -8.64e15, max: 8.64e15 }), fc.nat(), (wallMs, durationMs) => {
      assert.equal(timestampFromProto(timestampToProto(wallMs)), wallMs);
      assert.equal(durationFromProto(durationToProto(durationMs)), durationMs);
    }),
  );
  assert.throws(() => timestampFromProto(undefined), invalid);
});

test('a 64-bit number that no double holds is refused', () => {
  assert.equal(safeNumber(2n ** 53n - 1n, 'x'), 2 ** 53 - 1);
  assert.throws(() => safeNumber(2n ** 53n, 'x'), invalid);
  assert.throws(() => safeNumber(-(2n ** 53n), 'x'), invalid);
});
