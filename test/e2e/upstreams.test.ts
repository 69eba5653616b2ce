/** Pulling through from other registries: Debian's docker-registry, open and locked, and another Shoal cluster. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startCluster, type TestCluster } from '../support/cluster-process.ts';
import { Containerd } from '../support/containerd.ts';
import { DockerEngine } from '../support/docker.ts';
import { login, PlainRegistry } from '../support/plain-registry.ts';
import { until } from '../support/processes.ts';
import { pushImage } from '../support/registry-client.ts';
import { tempDir } from '../support/temp.ts';

const mib = 2 ** 20;
const freshMs = 1000;
const root = tempDir('upstreams');
const open = new PlainRegistry({ root: join(root, 'open') });
const locked = new PlainRegistry({ root: join(root, 'locked'), data: open.data, locked: true });
let other: TestCluster;
let cluster: TestCluster;
let proxy: string;
let agents: readonly [string, string];

const basic = `Basic ${Buffer.from(`${login.username}:${login.password}`).toString('base64')}`;

before(async () => {
  await Promise.all([open.start(), locked.start()]);
  other = await startCluster({ directory: join(root, 'other'), agents: 1, origins: 1 });
  for (const [name, password] of [
    ['right', login.password],
    ['wrong', 'let-me-in'],
  ] as const)
    writeFileSync(join(root, name), `${password}\n`);
  const credentials = (name: string) => ({ type: 'basic', username: login.username, passwordFile: join(root, name) });
  const fresh = `${freshMs}ms`;
  const url = `http://${locked.address}`;
  const upstreams = [
    { namespace: 'open.test', url: `http://${open.address}`, hosts: ['open.test', 'registry.example.com'], fresh },
    { namespace: 'locked.test', url, hosts: [], credentials: credentials('right'), fresh },
    { namespace: 'wrong.test', url, hosts: [], credentials: credentials('wrong'), fresh },
    { namespace: 'caller.test', url, hosts: [], access: 'caller', fresh },
    { namespace: 'shoal.test', url: `http://${other.registry('proxy-1')}`, hosts: [], fresh },
  ];
  writeFileSync(join(root, 'upstreams.yaml'), JSON.stringify({ upstreams }));
  cluster = await startCluster({ directory: join(root, 'cluster'), args: ['--upstreams', join(root, 'upstreams.yaml')] });
  proxy = cluster.registry('proxy-1');
  agents = [cluster.registry('agent-1'), cluster.registry('agent-2')];
});

after(async () => {
  await Promise.all([cluster?.stop(), other?.stop(), open.stop(), locked.stop()]);
});

interface Got {
  readonly status: number;
  readonly digest: string;
  readonly sizeBytes: number;
  readonly headers: Headers;
  readonly error: string;
}

async function get(registry: string, path: string, headers: Record<string, string> = {}): Promise<Got> {
  const response = await fetch(`http://${registry}/v2/${path}`, { headers });
  const bytes = Buffer.from(await response.arrayBuffer());
  const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
  const error = response.ok ? '' : bytes.toString('utf8');
  return { status: response.status, digest, sizeBytes: bytes.byteLength, headers: response.headers, error };
}

test('an image is pulled through once, however many ask at once at however many nodes', async () => {
  const { digest, blobs } = await pushImage(open.address, 'team/storm', 'v1', [randomBytes(24 * mib), randomBytes(1000)]);
  const nodes = [...agents, proxy];
  const pulls = await Promise.all(
    Array.from({ length: 12 }, async (_, index) => {
      const node = nodes[index % nodes.length] ?? proxy;
      const manifest = await get(node, 'open.test/team/storm/manifests/v1');
      assert.equal(manifest.digest, digest, manifest.error);
      return Promise.all(blobs.map(async (blob) => ({ blob, got: await get(node, `open.test/team/storm/blobs/${blob.digest}`) })));
    }),
  );
  for (const { blob, got } of pulls.flat()) assert.equal(got.digest, blob.digest, got.error);
  for (const blob of blobs) assert.equal(open.count(`GET /v2/team/storm/blobs/${blob.digest}`), 1);
  assert.equal(open.count('GET /v2/team/storm/manifests/'), 1);
  assert.equal(open.count('HEAD /v2/team/storm/manifests/v1'), 1, 'one check for the whole mesh within the freshness');
});

test('docker pulls through an agent, from a registry and from another Shoal', async () => {
  await using engine = await DockerEngine.start(join(root, 'docker'));
  const id = await engine.buildImage('pulled:v1', [3 * mib, 500]);
  for (const [registry, namespace] of [
    [open.address, 'open.test'],
    [other.registry('proxy-1'), 'shoal.test'],
  ] as const) {
    await engine.dockerOk('tag', 'pulled:v1', `${registry}/team/docker:v1`);
    await engine.dockerOk('push', `${registry}/team/docker:v1`);
    await engine.dockerOk('image', 'rm', `${registry}/team/docker:v1`);
    const name = `${agents[1]}/${namespace}/team/docker:v1`;
    await engine.dockerOk('pull', name);
    assert.equal(await engine.imageId(name), id);
  }
});

test('containerd pulls from an agent as a mirror, by ns', async () => {
  await pushImage(open.address, 'team/ctr', 'v1', [randomBytes(2 * mib)]);
  await using daemon = await Containerd.start(join(root, 'containerd'));
  const hosts = join(root, 'certs.d');
  // Every registry: what is no upstream is looked for at its own address.
  mkdirSync(join(hosts, '_default'), { recursive: true });
  writeFileSync(join(hosts, '_default', 'hosts.toml'), `[host."http://${agents[0]}"]\n  capabilities = ["pull", "resolve"]\n`);
  await daemon.ctr('content', 'fetch', '--hosts-dir', hosts, 'registry.example.com/team/ctr:v1');
  assert.match(await daemon.ctr('images', 'ls', '-q'), /registry\.example\.com\/team\/ctr:v1/);
});

test('a tag that moves at the upstream is seen when the last check is no longer fresh', async () => {
  const first = await pushImage(open.address, 'team/moving', 'latest', [randomBytes(100)]);
  assert.equal((await get(agents[0], 'open.test/team/moving/manifests/latest')).digest, first.digest);
  const second = await pushImage(open.address, 'team/moving', 'latest', [randomBytes(100)]);
  await until('the new image', async () =>
    (await get(agents[1], 'open.test/team/moving/manifests/latest')).digest === second.digest ? true : undefined,
  );
});

test('pushes into the namespace of an upstream are refused, and deletes drop what is cached', async () => {
  const start = await fetch(`http://${proxy}/v2/open.test/team/mine/blobs/uploads/`, { method: 'POST' });
  assert.equal(start.status, 403);
  assert.match(await start.text(), /DENIED.*open\.test\/ holds what is pulled through/);
  const { digest } = await pushImage(open.address, 'team/dropped', 'v1', [randomBytes(100)]);
  assert.equal((await get(proxy, 'open.test/team/dropped/manifests/v1')).status, 200);
  const gone = await fetch(`http://${proxy}/v2/open.test/team/dropped/manifests/${digest}`, { method: 'DELETE' });
  assert.equal(gone.status, 202);
  assert.equal((await get(proxy, 'open.test/team/dropped/manifests/v1')).digest, digest, 'it is fetched again');
});

test('the credentials of the rule open a locked upstream, wrong ones give a clear error', async () => {
  const { digest, blobs } = await pushImage(open.address, 'team/locked', 'v1', [randomBytes(mib)]);
  assert.equal((await get(agents[0], 'locked.test/team/locked/manifests/v1')).digest, digest);
  for (const blob of blobs) assert.equal((await get(agents[0], `locked.test/team/locked/blobs/${blob.digest}`)).digest, blob.digest);
  const refused = await get(agents[0], 'wrong.test/team/locked/manifests/v1');
  assert.equal(refused.status, 403, refused.error);
  assert.match(refused.error, /DENIED.*credentials/);
  assert.doesNotMatch(['origin-1', 'origin-2', 'origin-3'].map((id) => cluster.log(id)).join(''), /open-sesame|let-me-in/);
});

test('where callers are checked, what is in the mesh already opens to nobody else', async () => {
  const { digest, blobs } = await pushImage(open.address, 'team/private', 'v1', [randomBytes(mib)]);
  const layer = blobs[1]?.digest ?? '';
  const paths = ['manifests/v1', `manifests/${digest}`, `blobs/${layer}`, 'tags/list', `referrers/${digest}`].map(
    (path) => `caller.test/team/private/${path}`,
  );
  const allowed = async (): Promise<void> => {
    for (const path of paths) assert.equal((await get(agents[0], path, { authorization: basic })).status, 200, path);
  };
  const refused = async (): Promise<void> => {
    for (const authorization of ['', `Basic ${Buffer.from('alice:guess').toString('base64')}`, 'Bearer made-up']) {
      for (const path of paths) {
        const got = await get(agents[1], path, authorization === '' ? {} : { authorization });
        assert.equal(got.status, 401, `${path} ${got.error}`);
        assert.match(got.headers.get('www-authenticate') ?? '', /^Basic /);
      }
    }
  };
  await refused();
  await allowed();
  await refused();
  const catalog = await fetch(`http://${agents[0]}/v2/_catalog`);
  assert.doesNotMatch(await catalog.text(), /caller\.test/);
  // Nor by way of a repository that the caller may write to.
  const mount = await fetch(`http://${proxy}/v2/own/repo/blobs/uploads/?mount=${layer}&from=caller.test/team/private`, { method: 'POST' });
  assert.equal(mount.status, 202);
  const anonymousMount = await fetch(`http://${proxy}/v2/own/repo/blobs/uploads/?mount=${layer}`, { method: 'POST' });
  assert.equal(anonymousMount.status, 202);
  // Nor by way of another upstream repository.
  assert.equal((await get(agents[1], `open.test/team/storm/blobs/${layer}`)).status, 404);
});

test('what was pulled is served while the upstream is down; the rest fails clearly', async () => {
  const { digest, blobs } = await pushImage(open.address, 'team/stale', 'v1', [randomBytes(2 * mib)]);
  assert.equal((await get(agents[0], 'open.test/team/stale/manifests/v1')).digest, digest);
  for (const blob of blobs) await get(agents[0], `open.test/team/stale/blobs/${blob.digest}`);
  await pushImage(open.address, 'team/late', 'v1', [randomBytes(100)]);
  await open.stop();
  await sleep(freshMs + 100);
  const startMs = performance.now();
  assert.equal((await get(agents[1], 'open.test/team/stale/manifests/v1')).digest, digest);
  assert.ok(performance.now() - startMs < 5000, 'nobody waits long for an upstream that is down');
  for (const blob of blobs) assert.equal((await get(agents[1], `open.test/team/stale/blobs/${blob.digest}`)).digest, blob.digest);
  const missing = await get(agents[1], 'open.test/team/late/manifests/v1');
  assert.equal(missing.status, 503);
  assert.match(missing.error, /UNAVAILABLE.*upstream/);
  await open.start();
  await until('the upstream is asked again', async () =>
    (await get(agents[1], 'open.test/team/late/manifests/v1')).status === 200 ? true : undefined,
  );
});
