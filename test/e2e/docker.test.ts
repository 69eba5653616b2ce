/** The main job: a real Docker engine pushes to the proxy and pulls from two agents, who share pieces. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { startCluster, type TestCluster } from '../support/cluster-process.ts';
import { DockerEngine } from '../support/docker.ts';
import { tempDir } from '../support/temp.ts';

const mib = 2 ** 20;
let cluster: TestCluster;
let engine: DockerEngine;
let imageId: string;

before(async () => {
  cluster = await startCluster({ directory: tempDir('docker') });
  engine = await DockerEngine.start(tempDir('engine'));
});

after(async () => {
  await engine?.[Symbol.asyncDispose]();
  await cluster?.stop();
});

/** Pulls through an agent into an engine that holds nothing of the image. */
async function pullFresh(agent: string): Promise<string> {
  const name = `${cluster.registry(agent)}/demo/app:v1`;
  await engine.docker('image', 'rm', '-f', ...(await engine.dockerOk('image', 'ls', '-q', '--no-trunc')).split('\n').filter(Boolean));
  await engine.dockerOk('pull', '-q', name);
  return engine.imageId(name);
}

interface ShownTransfer {
  readonly digest: string;
  readonly pieceCount: number;
  readonly verifiedCount: number;
  readonly complete: boolean;
  readonly sources: readonly { readonly peer: string; readonly pieceCount: number; readonly corruptCount: number }[];
}

async function transfersOf(agent: string): Promise<readonly ShownTransfer[]> {
  const { code, stdout, stderr } = await cluster.shoal('transfers', agent, '--json');
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout) as readonly ShownTransfer[];
}

test('docker pushes a 200 MB image to the proxy', async () => {
  const name = `${cluster.registry('proxy-1')}/demo/app:v1`;
  imageId = await engine.buildImage(name, [100 * mib, 60 * mib, 40 * mib]);
  await engine.dockerOk('push', name);
});

test('docker pulls the same image from the first agent', async () => {
  assert.equal(await pullFresh('agent-1'), imageId);
});

test('docker pulls the same image from the second agent', async () => {
  assert.equal(await pullFresh('agent-2'), imageId);
});

test('the second agent got pieces from the first, and every piece was verified', async () => {
  const transfers = await transfersOf('agent-2');
  const large = transfers.filter(({ pieceCount }) => pieceCount > 1);
  assert.equal(large.length, 3);
  for (const { complete, verifiedCount, pieceCount, sources } of large) {
    assert.equal(complete, true);
    assert.equal(verifiedCount, pieceCount);
    assert.equal(
      sources.reduce((total, source) => total + source.pieceCount, 0),
      pieceCount,
    );
  }
  const fromFirst = large.flatMap(({ sources }) => sources).filter(({ peer, pieceCount }) => peer === 'agent/agent-1' && pieceCount > 0);
  assert.ok(fromFirst.length > 0, JSON.stringify(large, null, 2));
  assert.match(cluster.log('agent-2'), /"agent\/agent-1":\d+/);
});

test('docker push to an agent is refused and says where to push', async () => {
  const name = `${cluster.registry('agent-1')}/demo/app:v2`;
  await engine.dockerOk('tag', `${cluster.registry('agent-2')}/demo/app:v1`, name);
  const { code, stderr } = await engine.docker('push', name);
  assert.notEqual(code, 0);
  assert.match(stderr, /proxy/i);
});

test('a pull of what does not exist says so', async () => {
  const { code, stderr } = await engine.docker('pull', `${cluster.registry('agent-1')}/demo/app:nope`);
  assert.notEqual(code, 0);
  assert.match(stderr, /not found|manifest unknown/i);
});

test('the status of every node is shown, and the cluster stops cleanly', async () => {
  const { code, stdout } = await cluster.shoal('status', '--json');
  assert.equal(code, 0);
  const nodes = JSON.parse(stdout) as readonly { readonly node: { readonly id: string }; readonly answer?: { readonly version: string } }[];
  assert.deepEqual(nodes.map(({ node }) => node.id).sort(), cluster.nodes.map(({ id }) => id).sort());
  for (const { answer } of nodes) assert.equal(answer?.version, '0.1.0');
  assert.equal(await cluster.stop(), 0);
  for (const { id } of cluster.nodes) assert.match(cluster.log(id), /"exitCode":0,"message":"stopped"/);
});
