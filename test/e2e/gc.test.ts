/** Garbage collection of a running cluster: what is deleted leaves every disk and the storage, what is not stays whole, and pushes go on meanwhile. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startCluster, type TestCluster } from '../support/cluster-process.ts';
import { DockerEngine } from '../support/docker.ts';
import { end, until } from '../support/processes.ts';
import { pushImage } from '../support/registry-client.ts';
import { tempDir } from '../support/temp.ts';

const mib = 2 ** 20;
const shared = randomBytes(2 * mib);
const mine = randomBytes(3 * mib);
const theirs = randomBytes(mib);
let cluster: TestCluster;

before(async () => {
  cluster = await startCluster({ directory: tempDir('gc'), agents: 1 });
});

after(async () => {
  await cluster?.stop();
});

interface GcDocument {
  readonly names: readonly { readonly kind: string; readonly digest: string; readonly freesBytes: boolean }[];
  readonly origins: readonly {
    readonly error?: string;
    readonly blobs: readonly {
      readonly digest: string;
      readonly diskBytes: number;
      readonly storageBytes: number;
      readonly outcome: string;
    }[];
  }[];
}

async function gc(...args: readonly string[]): Promise<GcDocument> {
  const { code, stdout, stderr } = await cluster.shoal('gc', '--json', ...args);
  assert.equal(code, 0, stderr + stdout);
  return JSON.parse(stdout) as GcDocument;
}

const digestOf = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** The folders, of origins and storage, in which a blob lies. */
function placesOf(digest: string): readonly string[] {
  const hex = digest.slice(7);
  const folders = ['data/origin-1', 'data/origin-2', 'data/origin-3', 'storage'];
  return folders.filter((folder) => existsSync(join(cluster.directory, folder, 'blobs', 'sha256', hex.slice(0, 2), hex)));
}

async function untilEverywhere(...digests: readonly string[]): Promise<void> {
  for (const digest of digests) {
    await until(`${digest} is at every origin and in storage`, async () => (placesOf(digest).length === 4 ? true : undefined));
  }
}

async function assertWhole(repository: string, ...blobs: readonly Uint8Array[]): Promise<void> {
  for (const bytes of blobs) {
    const response = await fetch(`http://${cluster.registry('agent-1')}/v2/${repository}/blobs/${digestOf(bytes)}`);
    assert.equal(response.status, 200);
    assert.equal(Buffer.compare(Buffer.from(await response.arrayBuffer()), bytes), 0);
  }
}

test('what a deleted image alone needed leaves every disk and the storage, and the other image stays whole', async () => {
  const proxy = cluster.registry('proxy-1');
  const deleted = await pushImage(proxy, 'demo/one', 'v1', [shared, mine]);
  const kept = await pushImage(proxy, 'demo/two', 'v1', [shared, theirs]);
  await untilEverywhere(deleted.digest, kept.digest, digestOf(mine), digestOf(shared), digestOf(theirs));
  const response = await fetch(`http://${proxy}/v2/demo/one/manifests/${deleted.digest}`, { method: 'DELETE' });
  assert.equal(response.status, 202);

  assert.deepEqual((await gc()).names, [], 'within the configured grace nothing goes');
  const planned = await gc('--dry-run', '--grace', '0s');
  const freed = planned.names.filter(({ freesBytes }) => freesBytes).map(({ digest }) => digest);
  assert.deepEqual(freed, [digestOf(mine)]);
  assert.equal(planned.names.length, 3, 'config and shared layer are shown by the other repository');
  assert.equal(placesOf(digestOf(mine)).length, 4);

  const done = await gc('--grace', '0s');
  assert.deepEqual(done.names, planned.names);
  const gone = done.origins.flatMap(({ blobs }) => blobs.filter(({ outcome }) => outcome === 'deleted'));
  const ofMine = gone.filter(({ digest }) => digest === digestOf(mine));
  assert.deepEqual(
    ofMine.map(({ diskBytes }) => diskBytes),
    [3 * mib, 3 * mib, 3 * mib],
  );
  assert.equal(
    ofMine.reduce((sum, { storageBytes }) => sum + storageBytes, 0),
    3 * mib,
    'storage is counted once',
  );
  for (const digest of [deleted.digest, digestOf(mine)]) assert.deepEqual(placesOf(digest), []);
  for (const bytes of [shared, theirs]) assert.equal(placesOf(digestOf(bytes)).length, 4);
  await assertWhole('demo/two', shared, theirs);
  assert.deepEqual((await gc('--grace', '0s')).names, [], 'a second run finds nothing');
});

test('an image that was collected can be pushed again at once', async () => {
  await pushImage(cluster.registry('proxy-1'), 'demo/one', 'v2', [shared, mine]);
  await untilEverywhere(digestOf(mine));
  await assertWhole('demo/one', shared, mine);
});

test('people see what went and why, and the last run in the status', async () => {
  const { code, stdout } = await cluster.shoal('gc', '--dry-run', '--repository', 'demo/*');
  assert.equal(code, 0);
  assert.match(stdout, /Names: 0 would go/);
  assert.match(stdout, /origin-3 +0 +0 B/);
  const status = await cluster.shoal('status');
  assert.match(status.stdout, /build-index-1.*gc: \d+ min ago: \d+ removed/);
  assert.match(status.stdout, /origin-1.*gc: \d+ min ago: \d+ deleted, \d+ waiting/);
});

test('docker pushes while collections run one after the other, and every image comes back whole', async () => {
  await using engine = await DockerEngine.start(tempDir('engine'));
  const tags = ['a', 'b', 'c'];
  const ids = new Map<string, string>();
  const nameOf = (registry: string, tag: string): string => `${registry}/demo/docker:${tag}`;
  for (const tag of tags) ids.set(tag, await engine.buildImage(nameOf(cluster.registry('proxy-1'), tag), [6 * mib, 2 * mib]));
  let pushing = true;
  let runs = 0;
  const collecting = (async () => {
    for (; pushing; runs += 1) await gc('--grace', '1m');
  })();
  try {
    for (const tag of tags) await engine.dockerOk('push', nameOf(cluster.registry('proxy-1'), tag));
  } finally {
    pushing = false;
  }
  await collecting;
  assert.notEqual(runs, 0);
  await gc('--grace', '0s');
  for (const tag of tags) {
    await engine.docker('image', 'rm', '-f', ids.get(tag) ?? '');
    await engine.dockerOk('pull', '-q', nameOf(cluster.registry('agent-1'), tag));
    assert.equal(await engine.imageId(nameOf(cluster.registry('agent-1'), tag)), ids.get(tag));
  }
});

test('an index that has lost its names is not believed until an operator says so', async () => {
  const layer = randomBytes(mib);
  await pushImage(cluster.registry('proxy-1'), 'demo/three', 'v1', [layer]);
  await untilEverywhere(digestOf(layer));
  await gc();
  await using _replaced = await restartEmptyIndex();
  const { code, stdout } = await cluster.shoal('gc', '--grace', '0s');
  assert.equal(code, 1);
  assert.match(stdout, /another one than before/);
  assert.equal(placesOf(digestOf(layer)).length, 4);
  const accepted = await gc('--grace', '0s', '--trust-index');
  assert.ok(accepted.origins.every(({ error }) => error === undefined));
  assert.deepEqual(placesOf(digestOf(layer)), []);
});

/** The build-index dies, loses its disk, and is started again by somebody who does not know. */
async function restartEmptyIndex(): Promise<AsyncDisposable> {
  const isUp = async (): Promise<boolean> => {
    const { stdout } = await cluster.shoal('status', '--json');
    const nodes = JSON.parse(stdout) as readonly { readonly node: { readonly id: string }; readonly answer?: object }[];
    return nodes.some(({ node, answer }) => node.id === 'build-index-1' && answer !== undefined);
  };
  cluster.kill('build-index-1');
  await until('the build-index is gone', async () => ((await isUp()) ? undefined : true));
  rmSync(join(cluster.directory, 'data', 'build-index-1'), { recursive: true });
  const config = join(cluster.directory, 'config', 'build-index-1.yaml');
  const child = spawn(process.execPath, ['dist/build-index.mjs', '--config', config], { stdio: 'ignore' });
  await until('the build-index is back', async () => ((await isUp()) ? true : undefined));
  return {
    async [Symbol.asyncDispose]() {
      await end(child);
    },
  };
}
