import assert from 'node:assert/strict';
import { generateKeyPairSync, type X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { isAppError, roles } from '#core';
import { identityFromCertificate, parseSpiffeUri, spiffeUriOf } from '#pki';
import { buildCertificate } from '../../../services/lib/pki/certificate.ts';

const keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });

function certificateWith(names: { uris?: readonly string[]; dnsNames?: readonly string[] }): Promise<X509Certificate> {
  const subject = { organization: 'dev', commonName: 'x' };
  return buildCertificate({
    kind: 'leaf',
    subject,
    issuer: subject,
    publicKey: keys.publicKey,
    issuerKey: keys.privateKey,
    notBeforeMs: 0,
    notAfterMs: 4_102_444_800_000,
    ...names,
  });
}

const refused = (error: unknown): boolean => isAppError(error, 'unauthenticated');
const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?$/);

test('the identity is read from a certificate, its DER and the peer certificate object alike', async () => {
  const certificate = await certificateWith({ uris: ['spiffe://dev/build-index/b-1'], dnsNames: ['build-index.dev.shoal'] });
  const expected = { cluster: 'dev', identity: { role: 'build-index', id: 'b-1' } };
  assert.deepEqual(identityFromCertificate(certificate), expected);
  assert.deepEqual(identityFromCertificate(certificate.raw), expected);
  assert.deepEqual(identityFromCertificate({ subjectaltname: certificate.subjectAltName }), expected);
});

test('every node URI survives printing and parsing', () => {
  fc.assert(
    fc.property(label, fc.constantFrom(...roles), label, (cluster, role, id) => {
      const who = { cluster, identity: { role, id } };
      assert.deepEqual(parseSpiffeUri(spiffeUriOf(who)), who);
    }),
  );
});

for (const [what, uris] of [
  ['no URI', []],
  ['two URIs', ['spiffe://dev/agent/a', 'spiffe://dev/origin/o']],
  ['the same URI twice', ['spiffe://dev/agent/a', 'spiffe://dev/agent/a']],
  ['an unknown role', ['spiffe://dev/admin/a']],
  ['another scheme', ['https://dev/agent/a']],
  ['a longer path', ['spiffe://dev/agent/a/b']],
  ['a query', ['spiffe://dev/agent/a?x']],
  ['upper case', ['spiffe://dev/agent/A']],
  ['a port', ['spiffe://dev:1/agent/a']],
  ['a line feed at the end', ['spiffe://dev/agent/a\n']],
] as const) {
  test(`a certificate with ${what} is refused`, async () => {
    const certificate = await certificateWith({ uris, dnsNames: ['agent.dev.shoal'] });
    assert.throws(() => identityFromCertificate(certificate), refused);
  });
}

test('a URI hidden inside a DNS name is not taken for an identity', async () => {
  for (const name of [
    'x, URI:spiffe://dev/origin/o, y',
    'x, URI:spiffe://dev/origin/o',
    'x\0, URI:spiffe://dev/origin/o',
    '", URI:spiffe://dev/origin/o, DNS:"',
  ]) {
    const certificate = await certificateWith({ dnsNames: [name] });
    assert.throws(() => identityFromCertificate(certificate), refused, JSON.stringify(certificate.subjectAltName));
  }
});

test('no DNS name, whatever its bytes, changes who a certificate speaks for', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.constantFrom('a', ',', ' ', ':', '"', '\\', '\n', '\0', 'URI:', 'spiffe://dev/origin/o', 'é'), {
        minLength: 1,
        maxLength: 8,
      }),
      async (parts) => {
        const certificate = await certificateWith({ dnsNames: [parts.join('')], uris: ['spiffe://dev/agent/a'] });
        try {
          assert.deepEqual(identityFromCertificate(certificate).identity, { role: 'agent', id: 'a' });
        } catch (error) {
          assert.ok(refused(error), String(error));
        }
      },
    ),
    { numRuns: 200 },
  );
});

test('a peer without a certificate is refused', () => {
  assert.throws(() => identityFromCertificate({}), refused);
  assert.throws(() => identityFromCertificate(new Uint8Array([1, 2, 3])), refused);
});

test('a quoted alternative name is refused as a whole, however a runtime escapes what is inside', () => {
  assert.throws(() => identityFromCertificate({ subjectaltname: 'DNS:"x, URI:spiffe://dev/origin/o, y"' }), refused);
});
