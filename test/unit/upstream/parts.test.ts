import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { z } from 'zod';
import { AppError, digestOf, isAppError, parseRepositoryName } from '#core';
import { parseConfig } from '#runtime';
import {
  anonymous,
  credentialKey,
  credentialsOfHeader,
  formatChallenge,
  loadCredentials,
  matchUpstream,
  nameInMesh,
  parseChallenges,
  readManifestFacts,
} from '#upstream';
import { CallerAccess } from '../../../services/origin/upstream/caller-access.ts';
import { upstreamsPart } from '../../../services/origin/upstream/config.ts';
import type { UpstreamTarget } from '../../../services/origin/upstream/upstreams.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { tempDir } from '../../support/storage-fixtures.ts';

const { signal } = new AbortController();

test('challenges of the field are read', () => {
  const hub = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull"';
  assert.deepEqual(parseChallenges(hub), [
    { scheme: 'bearer', realm: 'https://auth.docker.io/token', service: 'registry.docker.io', scope: 'repository:library/alpine:pull' },
  ]);
  assert.deepEqual(parseChallenges('Basic realm="a, b"'), [{ scheme: 'basic' }]);
  assert.deepEqual(
    parseChallenges('Negotiate, Basic realm="x", bearer realm=https://a.test').map(({ scheme }) => scheme),
    ['basic', 'bearer'],
  );
  assert.deepEqual(parseChallenges('Bearer service="without a realm"'), []);
  assert.deepEqual(parseChallenges(undefined), []);
});

test('a challenge survives being written and read; whatever a header holds, reading it ends', () => {
  const text = fc.string({ unit: fc.constantFrom(...'abc:/._-,= '), minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(text, text, text, (realm, service, scope) => {
      const challenge = { scheme: 'bearer', realm, service, scope } as const;
      assert.deepEqual(parseChallenges(formatChallenge(challenge)), [challenge]);
    }),
  );
  fc.assert(fc.property(fc.string(), (header) => Array.isArray(parseChallenges(header))));
});

test('the longest namespace wins, and library/ is put in', () => {
  const rule = (namespace: string, library = false, hosts: string[] = []) => ({
    namespace: parseRepositoryName(namespace),
    hosts,
    library,
    checksCaller: false,
  });
  const rules = [rule('docker.io', true, ['docker.io']), rule('docker.io/acme'), rule('quay.io', false, ['quay.io'])];
  const name = (repository: string): string | undefined => matchUpstream(rules, repository)?.repository;
  assert.equal(name('docker.io/alpine'), 'docker.io/library/alpine');
  assert.equal(name('docker.io/grafana/loki'), 'docker.io/grafana/loki');
  assert.equal(matchUpstream(rules, 'docker.io/acme/app')?.rest, 'app');
  assert.equal(name('quay.io/app'), 'quay.io/app');
  assert.equal(name('docker.io'), undefined);
  assert.equal(name('docker.iox/app'), undefined);
  assert.equal(nameInMesh(rules, 'Docker.IO', 'library/alpine'), 'docker.io/library/alpine');
  assert.equal(nameInMesh(rules, 'elsewhere.test', 'library/alpine'), 'library/alpine');
});

test('credentials come from a file at each use, and no error quotes it', async (t) => {
  const root = await tempDir(t);
  const passwordFile = join(root, 'password');
  await writeFile(passwordFile, 'first\n');
  const source = { type: 'basic', username: 'aws', passwordFile } as const;
  assert.deepEqual(await loadCredentials(source, 'r.test'), { type: 'basic', username: 'aws', password: 'first' });
  await writeFile(passwordFile, 'second');
  assert.deepEqual(await loadCredentials(source, 'r.test'), { type: 'basic', username: 'aws', password: 'second' });
  const file = join(root, 'config.json');
  const auth = Buffer.from('bob:hunter2').toString('base64');
  await writeFile(file, JSON.stringify({ auths: { 'https://index.docker.io/v1/': { auth } } }));
  const config = { type: 'dockerConfig', file } as const;
  assert.deepEqual(await loadCredentials(config, 'registry-1.docker.io'), { type: 'basic', username: 'bob', password: 'hunter2' });
  const named = (error: unknown): boolean =>
    isAppError(error, 'failed-precondition') && error.message.includes(root) && !error.message.includes('hunter2');
  await assert.rejects(loadCredentials(config, 'quay.io'), named);
  await writeFile(file, '{ "hunter2');
  await assert.rejects(loadCredentials(config, 'quay.io'), named);
  await assert.rejects(loadCredentials({ ...source, passwordFile: join(root, 'absent') }, 'r.test'), named);
});

test('a caller shows Basic or Bearer credentials, or none', () => {
  assert.deepEqual(credentialsOfHeader(undefined), anonymous);
  assert.deepEqual(credentialsOfHeader('bearer abc'), { type: 'bearer', token: 'abc' });
  assert.deepEqual(credentialsOfHeader(`Basic ${Buffer.from('a:b:c').toString('base64')}`), {
    type: 'basic',
    username: 'a',
    password: 'b:c',
  });
  assert.throws(
    () => credentialsOfHeader('Digest x'),
    (error) => isAppError(error, 'unauthenticated'),
  );
  assert.throws(
    () => credentialsOfHeader(`Bearer ${'x'.repeat(40_000)}`),
    (error) => isAppError(error, 'unauthenticated'),
  );
  assert.doesNotMatch(credentialKey({ type: 'bearer', token: 'abc' }), /abc/);
});

test('what a manifest refers to is read leniently, schema 1 is refused', () => {
  const digest = digestOf(Buffer.from('x'));
  const child = { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest, size: 1 };
  const index = { schemaVersion: 2, manifests: [child, { mediaType: 'application/layer', digest, size: 1 }, { digest: 'bad' }, null] };
  const facts = readManifestFacts(Buffer.from(JSON.stringify(index)), '');
  assert.equal(facts.mediaType, 'application/vnd.oci.image.index.v1+json');
  assert.deepEqual([facts.manifests, facts.either, facts.blobs], [[digest], [digest], []]);
  const image = { schemaVersion: 2, config: { ...child, mediaType: 'a/config' }, layers: [{ ...child, urls: ['https://elsewhere'] }] };
  const read = readManifestFacts(Buffer.from(JSON.stringify(image)), 'application/vnd.docker.distribution.manifest.v2+json');
  assert.deepEqual([read.blobs, read.artifactType], [[digest], 'a/config']);
  for (const bytes of ['{"schemaVersion":1}', 'no json', '[]'])
    assert.throws(
      () => readManifestFacts(Buffer.from(bytes), ''),
      (error) => isAppError(error, 'unsupported'),
    );
});

const down = new AppError('unavailable', 'the upstream does not answer', { data: { kind: 'upstream' } });
const refused = new AppError('unauthenticated', 'not to these credentials', { data: { kind: 'upstream' } });

function targetOf(token: string): UpstreamTarget {
  const credentials = { type: 'bearer', token } as const;
  const upstream = { checksCaller: true, config: { stale: 600_000 } };
  return { upstream, repository: parseRepositoryName('u.test/a'), name: 'a', credentials } as unknown as UpstreamTarget;
}

test('what an upstream says of a caller is believed for a minute, and while it is down until that is too old', async () => {
  const clock = new ManualClock();
  const access = new CallerAccess({ clock });
  let asked = 0;
  let answer: AppError | undefined;
  const ask = async (token: string): Promise<void> =>
    access.require(
      targetOf(token),
      async () => {
        asked += 1;
        if (answer !== undefined) throw answer;
      },
      { signal },
    );
  await ask('alice');
  await ask('alice');
  assert.equal(asked, 1);
  answer = refused;
  await assert.rejects(ask('mallory'), refused);
  await assert.rejects(ask('mallory'), refused);
  assert.equal(asked, 2, 'a refusal is remembered too, for the one who was refused');
  answer = down;
  clock.advance(60_001);
  await ask('alice');
  await assert.rejects(ask('mallory'), down);
  clock.advance(600_000);
  await assert.rejects(ask('alice'), down);
  answer = refused;
  await assert.rejects(ask('alice'), refused);
});

test('a config that makes no sense is refused where it is wrong', () => {
  const schema = z.strictObject({ upstreams: upstreamsPart });
  const rule = { namespace: 'a.test', url: 'https://a.test' };
  const fails = (rules: readonly object[], where: RegExp): void => {
    assert.throws(() => parseConfig(schema, JSON.stringify({ upstreams: rules }), 'origin.yaml'), where);
  };
  fails([{ ...rule, namespace: 'A.test' }], /upstreams\.0\.namespace: use lower-case/);
  fails([{ ...rule, url: 'ftp://a.test' }], /upstreams\.0\.url: write it like/);
  fails([{ ...rule, url: 'https://me:secret@a.test' }], /upstreams\.0\.url: credentials stand in files/);
  fails([rule, rule], /upstreams\.1\.namespace: each namespace stands once/);
  fails([rule, { namespace: 'b.test', url: 'https://a.test' }], /upstreams\.1\.hosts: a\.test belongs to another/);
  fails(
    [{ ...rule, access: 'caller', credentials: { type: 'basic', username: 'u', passwordFile: 'f' } }],
    /credentials: access: caller uses/,
  );
  fails([{ ...rule, credential: {} }], /upstreams\.0\.credential: unknown key; did you mean upstreams\.0\.credentials/);
});
