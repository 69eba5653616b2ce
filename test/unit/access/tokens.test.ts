import assert from 'node:assert/strict';
import { test } from 'node:test';
import { exportJWK, generateKeyPair, SignJWT, UnsecuredJWT } from 'jose';
import { silentLogger } from '#core';
import { ManualClock } from '#test/support/manual-clock';
import { ExternalTokens } from '../../../services/lib/access/external-tokens.ts';
import { parseKeySet, RemoteKeys } from '../../../services/lib/access/key-sets.ts';
import { OwnTokens, parseKeyFile, type SigningKeys } from '../../../services/lib/access/own-tokens.ts';
import type { ScopeGrant } from '../../../services/lib/access/scopes.ts';

const secret = (letter: string): string => letter.repeat(32);
const access: readonly ScopeGrant[] = [{ type: 'repository', name: 'a/b', actions: ['pull'] }];
const alice = { kind: 'user', name: 'alice', groups: [] } as const;

function gateway(clock: ManualClock, keyFile: string, service = 'shoal'): OwnTokens {
  const keys: SigningKeys = parseKeyFile(keyFile);
  return new OwnTokens({ service, lifetimeMs: 300_000 }, { clock, keys: { current: async () => keys } });
}

test('a token of one gateway is good at every other with the same key file, and at no other', async () => {
  const clock = new ManualClock();
  const { token, expiresInSec } = await gateway(clock, secret('k')).issue({ subject: alice, access });
  assert.equal(expiresInSec, 300);
  assert.deepEqual(await gateway(clock, secret('k')).verify(token), { subject: alice, access });
  assert.equal(await gateway(clock, secret('x')).verify(token), undefined);
  assert.equal(await gateway(clock, secret('k'), 'other').verify(token), undefined);
});

test('keys are changed by putting the new one first and keeping the old one for a while', async () => {
  const clock = new ManualClock();
  const { token } = await gateway(clock, secret('o')).issue({ subject: alice, access });
  const both = gateway(clock, `# new\n${secret('n')}\n${secret('o')}\n`);
  assert.ok((await both.verify(token)) !== undefined);
  assert.ok((await gateway(clock, secret('n')).verify((await both.issue({ subject: alice, access })).token)) !== undefined);
});

test('a token ends with its lifetime, give or take the difference of two clocks', async () => {
  const clock = new ManualClock();
  const tokens = gateway(clock, secret('k'));
  const { token } = await tokens.issue({ subject: alice, access });
  clock.advance(320_000);
  assert.ok((await tokens.verify(token)) !== undefined);
  clock.advance(20_000);
  assert.equal(await tokens.verify(token), undefined);
});

test('a token that was changed, or signed with nothing, is none', async () => {
  const clock = new ManualClock();
  const tokens = gateway(clock, secret('k'));
  const { token } = await tokens.issue({ subject: alice, access });
  const [head = '', , signature = ''] = token.split('.');
  const claims = { iss: 'shoal', aud: 'shoal', sub: 'user:root', exp: 4_000_000_000, access };
  const forged = Buffer.from(JSON.stringify(claims)).toString('base64url');
  assert.equal(await tokens.verify(`${head}.${forged}.${signature}`), undefined);
  assert.equal(await tokens.verify(new UnsecuredJWT(claims).encode()), undefined);
  for (const junk of ['', '.', 'a.b.c', token.slice(0, -2)]) assert.equal(await tokens.verify(junk), undefined, junk);
});

test('a key file needs secrets that are long enough', () => {
  for (const bad of ['', '# nothing\n', 'short', `${secret('k')}\nshort`, `${secret('k')}\n`.repeat(11)]) {
    assert.throws(() => parseKeyFile(bad), /openssl rand -hex 32/);
  }
});

const issuer = 'https://id.example.com';
const clock = new ManualClock();
const nowSec = Math.floor(clock.wallMs() / 1000);

async function issuerKeys(alg: string, kid: string) {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  const jwk = { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' };
  const sign = (claims: Readonly<Record<string, unknown>>, header: object = {}): Promise<string> =>
    new SignJWT({ iss: issuer, aud: 'registry', sub: 'ci', exp: nowSec + 300, access, ...claims })
      .setProtectedHeader({ alg, kid, ...header })
      .sign(privateKey);
  return { jwk, sign };
}

async function external(grants: 'claim' | 'rules' = 'claim') {
  const keys = await issuerKeys('ES256', 'one');
  const set = parseKeySet(JSON.stringify({ keys: [keys.jwk] }));
  const options = { issuer, audience: 'registry', algorithms: ['ES256', 'RS256'] as const, grants, groupsClaim: 'groups' };
  const tokens = new ExternalTokens(options, { clock, keys: { current: async () => set, renewed: async () => undefined } });
  return { ...keys, tokens };
}

test("an external token is judged by its claim, or by the rules with its subject and groups, as the issuer's entry says", async () => {
  const byClaim = await external();
  assert.deepEqual(await byClaim.tokens.verify(await byClaim.sign({ groups: ['dev'] })), {
    subject: { kind: 'token', name: 'ci', groups: ['dev'] },
    access,
  });
  const byRules = await external('rules');
  assert.equal((await byRules.tokens.verify(await byRules.sign({})))?.access, undefined);
  assert.deepEqual((await byClaim.tokens.verify(await byClaim.sign({ access: undefined })))?.access, []);
});

test('issuer, audience, times, subject and signature of an external token all count', async () => {
  const { tokens, sign } = await external();
  assert.ok((await tokens.verify(await sign({ aud: ['other', 'registry'], nbf: nowSec }))) !== undefined);
  for (const bad of [
    { iss: 'https://evil.example.com' },
    { aud: 'other' },
    { exp: nowSec - 31 },
    { exp: undefined },
    { nbf: nowSec + 60 },
    { sub: undefined },
    { sub: 'two\nlines' },
  ]) {
    assert.equal(await tokens.verify(await sign(bad)), undefined, JSON.stringify(bad));
  }
  const stranger = await issuerKeys('ES256', 'one');
  assert.equal(await tokens.verify(await stranger.sign({})), undefined);
  const other = await issuerKeys('ES384', 'one');
  assert.equal(await tokens.verify(await other.sign({})), undefined, 'an algorithm that is not listed');
});

test('a public key does not pass for a shared secret', async () => {
  const { tokens, jwk } = await external();
  const claims = { iss: issuer, aud: 'registry', sub: 'ci', exp: nowSec + 300, access };
  const token = await new SignJWT(claims)
    .setProtectedHeader({ alg: 'HS256', kid: 'one' })
    .sign(new TextEncoder().encode(JSON.stringify(jwk)));
  assert.equal(await tokens.verify(token), undefined);
  assert.equal(await tokens.verify(new UnsecuredJWT(claims).encode()), undefined);
});

/** An issuer's key endpoint without a socket. */
function endpoint(first: object) {
  let answer: () => Response = () => Response.json(first);
  let asked = 0;
  const fetching: typeof fetch = async () => {
    asked += 1;
    return answer();
  };
  const time = new ManualClock();
  const keys = new RemoteKeys('https://id.example.com/keys', { clock: time, logger: silentLogger, fetch: fetching });
  return {
    time,
    keys,
    asked: () => asked,
    answers: (next: () => Response) => {
      answer = next;
    },
  };
}

test('keys from a URL are fetched once, again after ten minutes, and stay in use while the issuer is down', async () => {
  const { jwk } = await issuerKeys('ES256', 'one');
  const remote = endpoint({ keys: [jwk] });
  await Promise.all([remote.keys.current(), remote.keys.current()]);
  assert.equal(remote.asked(), 1);
  remote.answers(() => new Response('down', { status: 500 }));
  remote.time.advance(600_001);
  await remote.keys.current();
  assert.equal(remote.asked(), 2);
  await remote.keys.current();
  assert.equal(remote.asked(), 2);
});

test('a token with an unknown key id makes one request in 30 s, and a key that was added is found', async () => {
  const [one, two] = [await issuerKeys('ES256', 'one'), await issuerKeys('ES256', 'two')];
  const remote = endpoint({ keys: [one.jwk] });
  const options = { issuer, audience: 'registry', algorithms: ['ES256'] as const, grants: 'claim' as const, groupsClaim: undefined };
  const tokens = new ExternalTokens(options, { clock, keys: remote.keys });
  assert.ok((await tokens.verify(await one.sign({}))) !== undefined);
  remote.time.advance(30_000);
  for (let index = 0; index < 20; index += 1) assert.equal(await tokens.verify(await two.sign({}, { kid: `no-${index}` })), undefined);
  assert.equal(remote.asked(), 2);
  remote.answers(() => Response.json({ keys: [one.jwk, two.jwk] }));
  remote.time.advance(30_000);
  assert.ok((await tokens.verify(await two.sign({}))) !== undefined);
  assert.equal(remote.asked(), 3);
});

test('keys that never came are "unavailable", not a refusal', async () => {
  for (const answer of [() => new Response('', { status: 404 }), () => new Response('{}'), () => new Response('x'.repeat(600_000))]) {
    const remote = endpoint({});
    remote.answers(answer);
    await assert.rejects(remote.keys.current(), { code: 'unavailable' });
    await assert.rejects(remote.keys.current(), { code: 'unavailable' });
    assert.equal(remote.asked(), 1);
  }
});
