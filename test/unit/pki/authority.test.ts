import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { isAppError } from '#core';
import { createAuthority, isRenewalDue, issueLeaf, leafLifetimeMsDefault, leafLifetimeMsMax, parseTlsMaterial, renewalDueMs } from '#pki';
import { ManualClock } from '../../support/manual-clock.ts';

const dayMs = 86_400_000;
const origin = { role: 'origin', id: 'o1' } as const;

test('a leaf is signed by its CA and carries names, usages and a backdated validity', async () => {
  const clock = new ManualClock();
  const authority = await createAuthority({ cluster: 'dev' }, { clock });
  const leaf = await issueLeaf(
    authority,
    { identity: origin, extraDnsNames: ['localhost'], ipAddresses: ['127.0.0.1', 'fe80::1'] },
    { clock },
  );
  const ca = new X509Certificate(authority.certPem);
  const certificate = new X509Certificate(leaf.certPem);
  assert.ok(ca.ca && ca.verify(ca.publicKey));
  assert.ok(certificate.verify(ca.publicKey) && certificate.checkIssued(ca) && !certificate.ca);
  assert.equal(
    certificate.subjectAltName,
    'URI:spiffe://dev/origin/o1, DNS:origin.dev.shoal, DNS:localhost, IP Address:127.0.0.1, IP Address:FE80:0:0:0:0:0:0:1',
  );
  assert.deepEqual([...certificate.keyUsage], ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);
  assert.equal(Date.parse(certificate.validFrom), clock.wallMs() - 300_000);
  assert.equal(leaf.notAfterMs, clock.wallMs() + leafLifetimeMsDefault);
  assert.match(certificate.serialNumber, /^[4-7][0-9A-F]{31}$/);
});

test('every address form is written as Node reads it back', async () => {
  const clock = new ManualClock();
  const authority = await createAuthority({ cluster: 'dev' }, { clock });
  await fc.assert(
    fc.asyncProperty(fc.oneof(fc.ipV4(), fc.ipV6()), async (address) => {
      const leaf = await issueLeaf(authority, { identity: origin, ipAddresses: [address] }, { clock });
      assert.equal(new X509Certificate(leaf.certPem).checkIP(address), address);
    }),
    { numRuns: 50 },
  );
  await assert.rejects(issueLeaf(authority, { identity: origin, ipAddresses: ['nowhere'] }, { clock }), (e) =>
    isAppError(e, 'invalid-argument'),
  );
});

test('a certificate can end after 2049', async () => {
  const clock = new ManualClock({ wallMs: Date.UTC(2048, 0, 1) });
  const authority = await createAuthority({ cluster: 'dev', lifetimeMs: 3650 * dayMs }, { clock });
  assert.equal(authority.notAfterMs, clock.wallMs() + 3650 * dayMs);
});

test('a leaf never outlives its CA, and an expired CA issues nothing', async () => {
  const clock = new ManualClock();
  const authority = await createAuthority({ cluster: 'dev', lifetimeMs: dayMs }, { clock });
  const leaf = await issueLeaf(authority, { identity: origin }, { clock });
  assert.equal(leaf.notAfterMs, authority.notAfterMs);
  clock.advance(dayMs);
  await assert.rejects(issueLeaf(authority, { identity: origin }, { clock }), (e) => isAppError(e, 'failed-precondition'));
});

test('lifetimes, cluster names, ids and extra names out of bounds are refused', async () => {
  const deps = { clock: new ManualClock() };
  const invalid = (error: unknown): boolean => isAppError(error, 'invalid-argument');
  const authority = await createAuthority({ cluster: 'dev' }, deps);
  await assert.rejects(createAuthority({ cluster: 'a.b' }, deps), invalid);
  await assert.rejects(createAuthority({ cluster: 'dev', lifetimeMs: 4000 * dayMs }, deps), invalid);
  await assert.rejects(issueLeaf(authority, { identity: origin, lifetimeMs: leafLifetimeMsMax + 1 }, deps), invalid);
  await assert.rejects(issueLeaf(authority, { identity: { role: 'origin', id: '../x' } }, deps), invalid);
  await assert.rejects(issueLeaf(authority, { identity: origin, extraDnsNames: ['agent.dev.shoal'] }, deps), invalid);
});

test('material is refused when key, CA or time do not fit, and says what to do', async () => {
  const clock = new ManualClock();
  const authority = await createAuthority({ cluster: 'dev' }, { clock });
  const impostor = await createAuthority({ cluster: 'dev' }, { clock });
  const leaf = await issueLeaf(authority, { identity: origin }, { clock });
  const other = await issueLeaf(authority, { identity: origin }, { clock });
  const input = { caPem: authority.certPem, certPem: leaf.certPem, keyPem: leaf.keyPem };
  const refusedFor = (why: RegExp) => (error: unknown) => isAppError(error, 'failed-precondition') && why.test(error.message);
  const wallMs = clock.wallMs();
  assert.deepEqual(parseTlsMaterial(input, wallMs).identity, origin);
  assert.equal(parseTlsMaterial({ caPem: input.caPem, certPem: leaf.keyPem + leaf.certPem }, wallMs).keyPem, leaf.keyPem);
  assert.equal(parseTlsMaterial({ ...input, caPem: impostor.certPem + authority.certPem }, wallMs).cluster, 'dev');
  assert.throws(() => parseTlsMaterial({ ...input, keyPem: other.keyPem }, wallMs), refusedFor(/not the key.*shoal certs issue/));
  assert.throws(() => parseTlsMaterial({ ...input, caPem: impostor.certPem }, wallMs), refusedFor(/no trusted CA/));
  assert.throws(() => parseTlsMaterial(input, leaf.notAfterMs), refusedFor(/expired/));
  assert.throws(() => parseTlsMaterial(input, wallMs - dayMs), refusedFor(/clock/));
  assert.throws(() => parseTlsMaterial({ ...input, caPem: leaf.certPem }, wallMs), refusedFor(/not a CA/));
  assert.throws(
    () => parseTlsMaterial({ ...input, certPem: authority.certPem, keyPem: authority.keyPem }, wallMs),
    refusedFor(/names no node/),
  );
  assert.throws(() => parseTlsMaterial({ ...input, certPem: '' }, wallMs), refusedFor(/no certificate/));
});

test('renewal is due from the moment a third of the lifetime remains', () => {
  fc.assert(
    fc.property(fc.nat(2 ** 40), fc.integer({ min: 3, max: 2 ** 40 }), (notBeforeMs, lifetimeMs) => {
      const validity = { notBeforeMs, notAfterMs: notBeforeMs + lifetimeMs };
      const dueMs = renewalDueMs(validity);
      assert.equal(validity.notAfterMs - dueMs, Math.floor(lifetimeMs / 3));
      assert.ok(isRenewalDue(validity, dueMs) && !isRenewalDue(validity, dueMs - 1));
    }),
  );
});
