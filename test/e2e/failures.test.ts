/** Losing nodes in the middle of work: a pull survives an origin and the tracker, a push survives its proxy by a retry. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { startCluster, type TestCluster } from '../support/cluster-process.ts';
import { DockerEngine } from '../support/docker.ts';
import { until } from '../support/processes.ts';
import { pushBlob, pushImage } from '../support/registry-client.ts';
import { tempDir } from '../support/temp.ts';

const mib = 2 ** 20;
const clusters: TestCluster[] = [];

async function newCluster(name: string, args: readonly string[] = []): Promise<TestCluster> {
  const cluster = await startCluster({ directory: tempDir(name), args });
  clusters.push(cluster);
  return cluster;
}

after(async () => {
  for (const cluster of clusters) await cluster.stop();
});

test('a pull finishes although an origin and then the tracker are killed under it', async () => {
  const cluster = await newCluster('kill-origin', ['--agent-ingress', '40MB']);
  const bytes = randomBytes(200 * mib);
  const digest = await pushBlob(cluster.registry('proxy-1'), 'demo/app', bytes);
  const response = await fetch(`http://${cluster.registry('agent-1')}/v2/demo/app/blobs/${digest}`);
  assert.equal(response.status, 200);
  const hash = createHash('sha256');
  let received = 0;
  const kills = [
    { atBytes: 40 * mib, id: 'origin-1' },
    { atBytes: 90 * mib, id: 'tracker-1' },
  ];
  for await (const chunk of response.body ?? []) {
    hash.update(chunk);
    received += chunk.byteLength;
    const [next] = kills;
    if (next !== undefined && received >= next.atBytes) {
      cluster.kill(next.id);
      kills.shift();
    }
  }
  assert.equal(kills.length, 0, 'both nodes were killed in mid-pull');
  assert.equal(received, bytes.byteLength);
  assert.equal(`sha256:${hash.digest('hex')}`, digest);
});

test('a pull of a new blob starts and finishes with an origin and the tracker dead', async () => {
  const cluster = clusters[0];
  assert.ok(cluster);
  const bytes = randomBytes(20 * mib);
  const digest = await pushBlob(cluster.registry('proxy-1'), 'demo/app', bytes);
  const response = await fetch(`http://${cluster.registry('agent-2')}/v2/demo/app/blobs/${digest}`);
  assert.equal(response.status, 200);
  assert.equal(Buffer.compare(Buffer.from(await response.arrayBuffer()), bytes), 0);
});

test('after kill -9 of the proxy in mid-push the retry succeeds, and nothing half-written was ever served', async () => {
  const cluster = await newCluster('kill-proxy');
  await using engine = await DockerEngine.start(tempDir('engine'));
  const proxy = cluster.node('proxy-1');
  const name = `${proxy.registry}/demo/push:v1`;
  const imageId = await engine.buildImage(name, [150 * mib, 50 * mib]);
  const push = engine.start('push', name);
  await until('bytes of the push have arrived', async () => {
    const { stdout } = await cluster.shoal('uploads', '--json');
    const uploads = JSON.parse(stdout) as readonly { readonly offsetBytes: number }[];
    return uploads.some(({ offsetBytes }) => offsetBytes > 10 * mib) ? true : undefined;
  });
  cluster.kill('proxy-1');
  const tags = await fetch(`http://${cluster.registry('agent-1')}/v2/demo/push/manifests/v1`);
  assert.equal(tags.status, 404, 'the tag of an unfinished push does not exist');
  await using restarted = await cluster.restart('proxy-1');
  assert.notEqual(restarted.child.exitCode, 0);
  const [code] = await once(push, 'close');
  if (code !== 0) await engine.dockerOk('push', name);
  const pulled = `${cluster.registry('agent-1')}/demo/push:v1`;
  await engine.dockerOk('image', 'rm', '-f', imageId);
  await engine.dockerOk('pull', '-q', pulled);
  assert.equal(await engine.imageId(pulled), imageId);
});

test('with an origin down an operator sees the uploads of the others, and who does not answer', async () => {
  const cluster = await newCluster('uploads');
  const url = `http://${cluster.registry('proxy-1')}/v2/demo/open/blobs/uploads/`;
  const started = await Promise.all(
    Array.from({ length: 6 }, async () => (await fetch(url, { method: 'POST' })).headers.get('location') ?? ''),
  );
  cluster.kill('origin-2');
  const { code, stdout, stderr } = await cluster.shoal('uploads');
  assert.equal(code, 1);
  assert.match(stderr, /origin-2 does not tell its uploads/);
  const seen = started.map((location) => location.split('/').at(-1) ?? '').filter((id) => stdout.includes(id));
  assert.ok(seen.length >= 2, stdout);
  assert.match((await cluster.shoal('uploads', '--cancel', seen[0] ?? '')).stdout, /ended the upload/);
  const gone = await cluster.shoal('uploads', '--cancel', seen[0] ?? '');
  assert.match(gone.stderr, /origin-2 may have it/);
});

test('an acknowledged image is still whole when one origin and the proxy have lost their disks', async () => {
  const cluster = await newCluster('lost-disks');
  const image = await pushImage(cluster.registry('proxy-1'), 'demo/durable', 'v1', [randomBytes(3 * mib), randomBytes(100)]);
  cluster.kill('proxy-1');
  cluster.kill('origin-2');
  for (const { digest } of image.blobs) await checkBlob(cluster, 'agent-1', digest);
});

test('a pull brings back what all owners have lost, although the tracker still knows it', async () => {
  const cluster = await newCluster('lost-everything');
  const { blobs } = await pushImage(cluster.registry('proxy-1'), 'demo/durable', 'v1', [randomBytes(5 * mib), randomBytes(100)]);
  for (const { digest } of blobs) {
    await checkBlob(cluster, 'agent-1', digest);
    const stored = join(cluster.directory, 'storage', 'blobs', 'sha256', digest.slice(7, 9), digest.slice(7));
    await until('the blob is in durable storage', async () => (existsSync(stored) ? true : undefined));
  }
  const lost = ['agent-1', 'origin-1', 'origin-2', 'origin-3'];
  for (const id of lost) cluster.kill(id);
  for (const id of lost) rmSync(join(cluster.directory, 'data', id), { recursive: true, maxRetries: 5 });
  await using _first = await cluster.restart('origin-1');
  await using _second = await cluster.restart('origin-2');
  await using _third = await cluster.restart('origin-3');
  for (const { digest } of blobs) await checkBlob(cluster, 'agent-2', digest);
});

async function checkBlob(cluster: TestCluster, agent: string, digest: string): Promise<void> {
  const response = await fetch(`http://${cluster.registry(agent)}/v2/demo/durable/blobs/${digest}`);
  assert.equal(response.status, 200);
  const bytes = Buffer.from(await response.arrayBuffer());
  assert.equal(`sha256:${createHash('sha256').update(bytes).digest('hex')}`, digest);
}
