/** Who may do what, on the wire: each row of the tables of challenges, scopes and tokens, against real rules over real HTTP. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import bcrypt from 'bcryptjs';
import { decodeJwt } from 'jose';
import { z } from 'zod';
import { accessPart, type OpenedAccess, openAccessControl } from '#access';
import { digestOf, type ImageReader, parseRepositoryName, silentLogger } from '#core';
import { type AccessControl, openAccess } from '#registry';
import { parseConfig } from '#runtime';
import { ManualClock } from '#test/support/manual-clock';
import { tempDir } from '#test/support/temp';
import { ClaimedCaller } from '../../../services/lib/access/callers.ts';
import { codeOf, type Harness, imageType, pushImage, type Reply, startHarness } from './harness.ts';

const root = tempDir('access');
const files = { htpasswd: join(root, 'htpasswd'), key: join(root, 'key') };

/** alice pushes to her team, admin does everything, bob only pulls; everybody pulls what is public. */
const config = `
access:
  rules:
    - { who: [anonymous], repositories: ["public/**"], allow: [pull] }
    - { who: ["group:devs"], repositories: ["team/**"], allow: [pull, push] }
    - { who: ["user:bob"], repositories: ["team/app"], allow: [pull] }
    - { who: ["user:admin", "certificate:ops"], repositories: ["**"], allow: [pull, push, delete] }
  groups: { devs: [alice] }
  htpasswd: { file: ${files.htpasswd} }
  token: { keyFile: ${files.key} }
`;

let harness: Harness;
let access: OpenedAccess;

before(() => {
  const line = (user: string): string => `${user}:${bcrypt.hashSync(`${user}-pw`, 4)}`;
  writeFileSync(files.htpasswd, ['alice', 'bob', 'admin'].map(line).join('\n'));
  writeFileSync(files.key, 'k'.repeat(32));
});

beforeEach(async () => {
  await close();
  const parsed = parseConfig(z.strictObject({ access: accessPart }), config, 'test.yaml');
  access = await openAccessControl(parsed.access, { clock: new ManualClock(), logger: silentLogger });
  harness = await startHarness({ access: access.control });
});

after(close);

async function close(): Promise<void> {
  await harness?.[Symbol.asyncDispose]();
  await access?.[Symbol.asyncDispose]();
}

const basic = (user: string, password = `${user}-pw`): string => `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;

async function tokenOf(user: string | undefined, ...scopes: readonly string[]): Promise<string> {
  const query = scopes.map((scope) => `scope=${encodeURIComponent(scope)}`).join('&');
  const headers = user === undefined ? {} : { authorization: basic(user) };
  const reply = await harness.ask('GET', `/v2/token?service=shoal&${query}`, { headers });
  assert.equal(reply.status, 200, reply.body.toString());
  return JSON.parse(reply.body.toString()).token;
}

async function withToken(method: string, path: string, token: string, body?: Buffer): Promise<Reply> {
  return harness.ask(method, path, { headers: { authorization: `Bearer ${token}` }, ...(body === undefined ? {} : { body }) });
}

const realm = (): string => `Bearer realm="http://127.0.0.1:${harness.port}/v2/token",service="shoal"`;

function assertChallenge(reply: Reply, rest: string): void {
  assert.equal(reply.status, 401, reply.body.toString());
  assert.equal(reply.headers['www-authenticate'], `${realm()}${rest}`);
  assert.equal(reply.headers['docker-distribution-api-version'], 'registry/2.0');
  if (reply.body.byteLength > 0) assert.equal(codeOf(reply), 'UNAUTHORIZED');
}

/** Something to pull, pushed by who may. */
async function seed(repository: string): Promise<{ blob: string; manifest: string }> {
  const bytes = Buffer.from(repository);
  const headers = { authorization: basic('admin') };
  const blob = digestOf(bytes);
  const pushed = await harness.ask('POST', `/v2/${repository}/blobs/uploads/?digest=${blob}`, { headers, body: bytes });
  assert.equal(pushed.status, 201);
  const body = Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType: imageType, config: { mediaType: 'x/y', digest: blob, size: bytes.length }, layers: [] }),
  );
  const put = await harness.ask('PUT', `/v2/${repository}/manifests/v1`, { headers: { ...headers, 'content-type': imageType }, body });
  assert.equal(put.status, 201, put.body.toString());
  return { blob, manifest: digestOf(body) };
}

describe('the ping', () => {
  test('challenges whoever shows nothing, as docker and skopeo learn only here how to log in', async () => {
    assertChallenge(await harness.ask('GET', '/v2/'), '');
    assertChallenge(await harness.ask('HEAD', '/v2/'), '');
  });

  test('is 200 for a user, for the token of a login without any scope, and for the token of nobody', async () => {
    assert.equal((await harness.ask('GET', '/v2/', { headers: { authorization: basic('bob') } })).status, 200);
    const reply = await harness.ask('GET', '/v2/token?account=bob&client_id=docker&offline_token=true&service=shoal', {
      headers: { authorization: basic('bob') },
    });
    assert.equal((await withToken('GET', '/v2/', JSON.parse(reply.body.toString()).token)).status, 200);
    assert.equal((await withToken('GET', '/v2/', await tokenOf(undefined))).status, 200);
  });

  test('refuses a wrong password without an error parameter, and a wrong token with one', async () => {
    assertChallenge(await harness.ask('GET', '/v2/', { headers: { authorization: basic('bob', 'no') } }), '');
    assertChallenge(await withToken('GET', '/v2/', 'a.b.c'), ',error="invalid_token"');
    assertChallenge(await harness.ask('GET', '/v2/', { headers: { authorization: 'Digest x' } }), '');
  });

  test('is open where nobody has to log in for anything', async () => {
    await using open = await startHarness({
      access: { ...access.control, isOpenFor: () => true, identify: access.control.identify.bind(access.control), challenge: () => '' },
    });
    assert.equal((await open.ask('GET', '/v2/')).status, 200);
  });
});

describe('scopes in challenges', () => {
  const digest = digestOf(Buffer.from('none'));
  const uuid = '0189a9c4-0000-4000-8000-000000000000';
  const rows: readonly (readonly [string, string, string])[] = [
    ['GET', `/v2/team/app/blobs/${digest}`, 'repository:team/app:pull'],
    ['HEAD', `/v2/team/app/blobs/${digest}`, 'repository:team/app:pull'],
    ['GET', '/v2/team/app/manifests/v1', 'repository:team/app:pull'],
    ['HEAD', '/v2/team/app/manifests/v1', 'repository:team/app:pull'],
    ['GET', '/v2/team/app/tags/list', 'repository:team/app:pull'],
    ['GET', `/v2/team/app/referrers/${digest}`, 'repository:team/app:pull'],
    ['POST', '/v2/team/app/blobs/uploads/', 'repository:team/app:pull,push'],
    ['PATCH', `/v2/team/app/blobs/uploads/${uuid}`, 'repository:team/app:pull,push'],
    ['PUT', `/v2/team/app/blobs/uploads/${uuid}?digest=${digest}`, 'repository:team/app:pull,push'],
    ['GET', `/v2/team/app/blobs/uploads/${uuid}`, 'repository:team/app:pull,push'],
    ['DELETE', `/v2/team/app/blobs/uploads/${uuid}`, 'repository:team/app:pull,push'],
    ['PUT', '/v2/team/app/manifests/v1', 'repository:team/app:pull,push'],
    ['DELETE', '/v2/team/app/manifests/v1', 'repository:team/app:delete'],
    ['DELETE', `/v2/team/app/blobs/${digest}`, 'repository:team/app:delete'],
    ['GET', '/v2/_catalog', 'registry:catalog:*'],
  ];
  for (const [method, path, scope] of rows) {
    test(`${method} ${path.replace(/sha256:\w+/, '<digest>')} asks for ${scope}`, async () => {
      assertChallenge(await harness.ask(method, path), `,scope="${scope}"`);
    });
  }

  test('an error parameter stands there only when a token was shown', async () => {
    const path = '/v2/team/app/manifests/v1';
    assertChallenge(await withToken('GET', path, 'x.y.z'), ',scope="repository:team/app:pull",error="invalid_token"');
    assertChallenge(await withToken('GET', path, await tokenOf('bob')), ',scope="repository:team/app:pull",error="insufficient_scope"');
    assertChallenge(await withToken('GET', path, await tokenOf(undefined)), ',scope="repository:team/app:pull",error="insufficient_scope"');
    assertChallenge(
      await harness.ask('GET', path, { headers: { authorization: basic('bob', 'no') } }),
      ',scope="repository:team/app:pull"',
    );
  });

  test('the realm is what the client asked for, and never what is no host', async () => {
    const named = await harness.ask('GET', '/v2/', { headers: { host: 'registry.example.com:8443' } });
    assert.match(named.headers['www-authenticate'] ?? '', /^Bearer realm="http:\/\/registry\.example\.com:8443\/v2\/token",/);
    for (const host of ['evil"host', 'a/b', 'a b', 'x@y', '"', '-']) {
      assertChallenge(await harness.ask('GET', '/v2/', { headers: { host } }), '');
    }
  });
});

describe('what is allowed', () => {
  test('everybody pulls what is public, without a token and with the token of nobody', async () => {
    const { blob } = await seed('public/app');
    assert.equal((await harness.ask('GET', '/v2/public/app/manifests/v1')).status, 200);
    const token = await tokenOf(undefined, 'repository:public/app:pull');
    assert.equal((await withToken('GET', `/v2/public/app/blobs/${blob}`, token)).status, 200);
  });

  test('an invalid token is refused also where none is needed', async () => {
    await seed('public/app');
    const reply = await withToken('GET', '/v2/public/app/manifests/v1', 'x.y.z');
    assertChallenge(reply, ',scope="repository:public/app:pull",error="invalid_token"');
  });

  test('nobody in particular is asked to log in for a push, a user without the right is denied', async () => {
    assertChallenge(await harness.ask('POST', '/v2/public/app/blobs/uploads/'), ',scope="repository:public/app:pull,push"');
    for (const authorization of [basic('bob'), `Bearer ${await tokenOf('bob', 'repository:team/app:push,pull')}`]) {
      const reply = await harness.ask('POST', '/v2/team/app/blobs/uploads/', { headers: { authorization }, body: Buffer.from('x') });
      assert.equal(reply.status, 403);
      assert.equal(codeOf(reply), 'DENIED');
      assert.equal(reply.headers['www-authenticate'], undefined);
    }
  });

  test('what is not there cannot be told from what may not be seen', async () => {
    await seed('team/secret');
    for (const name of ['team/secret', 'team/none']) {
      assert.equal((await harness.ask('GET', `/v2/${name}/manifests/v1`)).status, 401);
      assert.equal((await harness.ask('GET', `/v2/${name}/manifests/v1`, { headers: { authorization: basic('bob') } })).status, 403);
    }
  });

  test('pushing does not imply deleting', async () => {
    const { manifest, blob } = await seed('team/app');
    const token = await tokenOf('alice', 'repository:team/app:*');
    assert.deepEqual(decodeJwt(token)['access'], [{ type: 'repository', name: 'team/app', actions: ['pull', 'push'] }]);
    for (const path of [`manifests/${manifest}`, 'manifests/v1', `blobs/${blob}`]) {
      const reply = await withToken('DELETE', `/v2/team/app/${path}`, token);
      assert.equal(reply.status, 403);
      assert.equal(codeOf(reply), 'DENIED');
    }
    const admin = await tokenOf('admin', 'repository:team/app:*');
    assert.equal((await withToken('DELETE', '/v2/team/app/manifests/v1', admin)).status, 202);
  });

  test('a token for pulling is no token for pushing, though its owner may have one', async () => {
    const token = await tokenOf('alice', 'repository:team/app:pull');
    assertChallenge(
      await withToken('POST', '/v2/team/app/blobs/uploads/', token),
      ',scope="repository:team/app:pull,push",error="insufficient_scope"',
    );
  });

  test('a whole push works with the token docker asks for', async () => {
    const authorization = `Bearer ${await tokenOf('alice', 'repository:team/new:push,pull')}`;
    const pushing: Harness = {
      ...harness,
      ask: (method, path, what = {}) => harness.ask(method, path, { ...what, headers: { ...what.headers, authorization } }),
      pushBlob: async (repository, bytes) => {
        const reply = await pushing.ask('POST', `/v2/${repository}/blobs/uploads/?digest=${digestOf(bytes)}`, { body: bytes });
        assert.equal(reply.status, 201);
        return digestOf(bytes);
      },
    };
    const { bytes } = await pushImage(pushing, 'team/new');
    const put = await pushing.ask('PUT', '/v2/team/new/manifests/v1', { headers: { 'content-type': imageType }, body: bytes });
    assert.equal(put.status, 201);
  });

  test('a client certificate is a login, unless a header says otherwise', async () => {
    const identity = await access.control.identify({ authorization: undefined, certificateName: 'ops', address: undefined });
    assert.ok(identity.kind === 'caller' && identity.caller.principal === 'certificate:ops' && identity.caller.mayPullAll);
    const other = await access.control.identify({ authorization: basic('bob'), certificateName: 'ops', address: undefined });
    assert.ok(other.kind === 'caller' && other.caller.principal === 'user:bob');
  });
});

describe('mounts', () => {
  const mount = async (target: string, digest: string, from: string | undefined, token: string): Promise<Reply> =>
    withToken('POST', `/v2/${target}/blobs/uploads/?mount=${digest}${from === undefined ? '' : `&from=${from}`}`, token);

  test('a token with both scopes mounts', async () => {
    const { blob } = await seed('public/base');
    const token = await tokenOf('alice', 'repository:team/app:pull,push', 'repository:public/base:pull');
    assert.equal((await mount('team/app', blob, 'public/base', token)).status, 201);
  });

  test('a token without the right on the source gets an upload, never a refusal', async () => {
    const { blob } = await seed('private/base');
    const rows = [
      await tokenOf('alice', 'repository:team/app:pull,push'),
      await tokenOf('alice', 'repository:team/app:pull,push', 'repository:private/base:pull'),
    ];
    for (const token of rows) assert.equal((await mount('team/app', blob, 'private/base', token)).status, 202);
    assert.equal((await mount('team/app', blob, undefined, rows[0] ?? '')).status, 202);
    const reply = await withToken('HEAD', `/v2/team/app/blobs/${blob}`, rows[0] ?? '');
    assert.equal(reply.status, 404);
  });

  test('a token that leaves out a source its owner may pull is sent back for both scopes', async () => {
    const { blob } = await seed('team/base');
    const scopes = 'repository:team/app:pull,push repository:team/base:pull';
    const poor = await tokenOf('alice', 'repository:team/app:pull,push');
    assertChallenge(await mount('team/app', blob, 'team/base', poor), `,scope="${scopes}",error="insufficient_scope"`);
    assert.equal((await mount('team/app', blob, 'team/base', await tokenOf('alice', scopes))).status, 201);
  });

  test('the challenge of a mount without any token names both scopes, so that one token is enough', async () => {
    const { blob } = await seed('team/base');
    const path = `/v2/team/app/blobs/uploads/?mount=${blob}&from=`;
    assertChallenge(await harness.ask('POST', `${path}team/base`), ',scope="repository:team/app:pull,push repository:team/base:pull"');
    assertChallenge(await harness.ask('POST', `${path}team/app`), ',scope="repository:team/app:pull,push"');
    assertChallenge(await harness.ask('POST', `${path}NO%22NAME`), ',scope="repository:team/app:pull,push"');
  });

  test('who may pull everything names a source without a scope for it, as it could have left the source out', async () => {
    const { blob } = await seed('private/base');
    const token = await tokenOf('admin', 'repository:team/app:pull,push');
    assert.equal((await mount('team/app', blob, 'private/base', token)).status, 201);
  });

  test('a token of another issuer is never sent back: nobody here knows whether that would help', async () => {
    const claim = [{ type: 'repository', name: 'team/app', actions: ['pull', 'push'] }];
    const caller = new ClaimedCaller({ kind: 'token', name: 'ci', groups: [] }, claim);
    const access: AccessControl = { ...openAccess, identify: async () => ({ kind: 'caller', caller }) };
    await using other = await startHarness({ access });
    const reply = await other.ask('POST', `/v2/team/app/blobs/uploads/?mount=${digestOf(Buffer.from('x'))}&from=team/base`);
    assert.equal(reply.status, 202);
  });

  test('without a source only who may pull everything mounts', async () => {
    const { blob } = await seed('private/base');
    const token = await tokenOf('admin', 'repository:team/app:pull,push');
    assert.equal((await mount('team/app', blob, undefined, token)).status, 201);
  });
});

describe('the catalog', () => {
  const names = async (query: string, token: string): Promise<readonly string[]> => {
    const reply = await withToken('GET', `/v2/_catalog${query}`, token);
    assert.equal(reply.status, 200, reply.body.toString());
    return JSON.parse(reply.body.toString()).repositories;
  };

  test('lists what the caller may pull, in full pages', async () => {
    for (const name of ['a/1', 'public/a', 'public/b', 'team/app', 'team/x', 'z/1']) await seed(name);
    const scope = 'registry:catalog:*';
    assert.deepEqual(await names('', await tokenOf(undefined, scope)), ['public/a', 'public/b']);
    assert.deepEqual(await names('', await tokenOf('bob', scope)), ['public/a', 'public/b', 'team/app']);
    assert.deepEqual(await names('?n=2', await tokenOf('bob', scope)), ['public/a', 'public/b']);
    assert.equal((await names('', await tokenOf('admin', scope))).length, 6);
    const first = await withToken('GET', '/v2/_catalog?n=2', await tokenOf('bob', scope));
    assert.equal(first.headers['link'], '</v2/_catalog?n=2&last=public%2Fb>; rel="next"');
    const last = await withToken('GET', '/v2/_catalog?n=2&last=public%2Fb', await tokenOf('bob', scope));
    assert.deepEqual(JSON.parse(last.body.toString()).repositories, ['team/app']);
    assert.equal(last.headers['link'], undefined);
  });

  test('a small page of one who may see little costs a few questions, however many repositories there are', async () => {
    const all = Array.from({ length: 5000 }, (_, index) => parseRepositoryName(`r${String(index).padStart(4, '0')}`));
    let questionCount = 0;
    const listRepositories: ImageReader['listRepositories'] = async ({ limit, after }) => {
      questionCount += 1;
      const rest = all.filter((name) => after === undefined || name > after);
      return { items: rest.slice(0, limit), more: rest.length > limit };
    };
    const nobody = { authorization: undefined, certificateName: undefined, address: undefined };
    const identity = await openAccess.identify(nobody, { signal: new AbortController().signal });
    assert.ok(identity.kind === 'caller');
    const caller = { ...identity.caller, mayPullAll: false, mayList: (name: string) => name >= 'r4998' };
    await using many = await startHarness({
      access: { ...openAccess, identify: async () => ({ kind: 'caller', caller }) },
      store: (memory) => ({ reader: Object.assign(Object.create(memory.reader) as ImageReader, { listRepositories }), writer: undefined }),
    });
    const reply = await many.ask('GET', '/v2/_catalog?n=1');
    assert.deepEqual(JSON.parse(reply.body.toString()), { repositories: ['r4998'] });
    assert.equal(reply.headers['link'], '</v2/_catalog?n=1&last=r4998>; rel="next"');
    assert.ok(questionCount <= 6, `${questionCount} questions`);
  });

  test('needs its scope', async () => {
    assertChallenge(await withToken('GET', '/v2/_catalog', await tokenOf('bob')), ',scope="registry:catalog:*",error="insufficient_scope"');
  });
});

describe('the token endpoint', () => {
  test('answers what docker reads, and is never stored', async () => {
    const reply = await harness.ask('GET', '/v2/token?scope=repository:team/app:pull', { headers: { authorization: basic('bob') } });
    assert.equal(reply.status, 200);
    assert.equal(reply.headers['cache-control'], 'no-store');
    assert.equal(reply.headers['content-type'], 'application/json');
    const body = JSON.parse(reply.body.toString());
    assert.equal(body.token, body.access_token);
    assert.equal(body.expires_in, 300);
    assert.equal(body.issued_at, new Date(body.issued_at).toISOString());
    assert.equal(body.refresh_token, undefined);
    const claims = decodeJwt(body.token);
    assert.equal(claims.sub, 'user:bob');
    assert.equal(claims.aud, 'shoal');
  });

  test('takes scopes repeated, joined, doubled and unknown, and grants the part that is allowed', async () => {
    const query =
      'scope=repository%3Ateam%2Fapp%3Apush%2Cpull+repository:team/app:pull&scope=repository:x:pull%20junk&scope=registry:catalog:*';
    const reply = await harness.ask('GET', `/v2/token?${query}`, { headers: { authorization: basic('bob') } });
    assert.deepEqual(decodeJwt(JSON.parse(reply.body.toString()).token)['access'], [
      { type: 'repository', name: 'team/app', actions: ['pull'] },
      { type: 'repository', name: 'team/app', actions: ['pull'] },
      { type: 'registry', name: 'catalog', actions: ['*'] },
    ]);
  });

  test('gives nobody a token with what is public', async () => {
    const token = await tokenOf(undefined, 'repository:public/a:pull,push', 'repository:team/app:pull');
    const claims = decodeJwt(token);
    assert.equal(claims.sub, 'anonymous');
    assert.deepEqual(claims['access'], [{ type: 'repository', name: 'public/a', actions: ['pull'] }]);
    const empty = await harness.ask('GET', '/v2/token', { headers: { authorization: `Basic ${Buffer.from(':').toString('base64')}` } });
    assert.equal(empty.status, 200);
  });

  test('refuses wrong credentials, and tokens instead of credentials', async () => {
    const token = await tokenOf('bob');
    for (const authorization of [basic('bob', 'no'), basic('nobody', 'x'), 'Basic !!!', `Bearer ${token}`]) {
      const reply = await harness.ask('GET', '/v2/token', { headers: { authorization } });
      assert.equal(reply.status, 401, authorization);
      assert.equal(codeOf(reply), 'UNAUTHORIZED');
      assert.equal(reply.headers['www-authenticate'], 'Basic realm="shoal"');
    }
  });

  const form = async (fields: Readonly<Record<string, string>>): Promise<Reply> =>
    harness.ask('POST', '/v2/token', {
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: Buffer.from(new URLSearchParams(fields).toString()),
    });

  test('takes the form that containerd and helm send', async () => {
    const reply = await form({
      grant_type: 'password',
      service: 'shoal',
      client_id: 'containerd-client',
      username: 'alice',
      password: 'alice-pw',
      scope: 'repository:team/app:pull repository:team/app:pull,push',
      access_type: 'offline',
    });
    assert.equal(reply.status, 200, reply.body.toString());
    const token = JSON.parse(reply.body.toString()).access_token;
    assert.equal((await withToken('POST', '/v2/team/app/blobs/uploads/', token)).status, 202);
  });

  test('refuses a wrong password with 401 and refresh tokens with 400, so that clients fall back', async () => {
    assert.equal((await form({ grant_type: 'password', username: 'alice', password: 'no' })).status, 401);
    assert.equal((await form({ grant_type: 'refresh_token', refresh_token: 'x' })).status, 400);
    assert.equal((await form({})).status, 400);
    assert.equal((await form({ grant_type: 'password', x: 'y'.repeat(70_000) })).status, 400);
    assert.equal((await harness.ask('PUT', '/v2/token')).headers.allow, 'GET, POST');
  });

  test('is not there without access control', async () => {
    await using open = await startHarness();
    assert.equal((await open.ask('GET', '/v2/token')).status, 404);
    assert.equal((await open.ask('GET', '/v2/')).status, 200);
  });
});

test('a token of this gateway is good at another one with the same key file', async () => {
  const token = await tokenOf('bob', 'repository:team/app:pull');
  const parsed = parseConfig(z.strictObject({ access: accessPart }), config, 'test.yaml');
  await using second = await openAccessControl(parsed.access, { clock: new ManualClock(), logger: silentLogger });
  await using other = await startHarness({ access: second.control });
  const reply = await other.ask('GET', '/v2/team/app/manifests/v1', { headers: { authorization: `Bearer ${token}` } });
  assert.equal(reply.status, 404);
});

test('no secret is ever logged', async () => {
  await seed('team/app');
  await harness.ask('GET', '/v2/', { headers: { authorization: basic('bob', 'hunter2') } });
  const log = JSON.stringify(harness.log);
  for (const secret of ['admin-pw', 'hunter2', basic('admin').slice(6)]) assert.equal(log.includes(secret), false);
});
