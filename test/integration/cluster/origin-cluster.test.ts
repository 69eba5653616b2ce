/** Calls to origins over real sockets while one of them is dead. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isAppError, type PeerId } from '#core';
import { blob, ClusterMesh, type NamedServer } from '../../support/cluster-mesh.ts';
import { until } from '../../support/processes.ts';
import { deferred } from '../wire/mesh.ts';

const forever = { signal: new AbortController().signal };
const source = { peer: 'proxy/p1' as PeerId, endpoint: '10.0.0.9:7000', complete: true };

function kill(cluster: ClusterMesh, id: string | undefined): Promise<void> {
  const server = cluster.originServers.find((one: NamedServer) => one.id === id)?.server;
  assert.ok(server !== undefined);
  return server.drain({ graceMs: 0 });
}

test('metainfo comes from the next owner when the first is dead, and the dead one is marked down', async (t) => {
  const cluster = await ClusterMesh.open(t);
  const metainfo = cluster.publish('layer');
  const origins = cluster.originCluster(await cluster.pool({ role: 'agent', id: 'a1' }), {});
  const [first] = origins.owners(metainfo.digest);
  await kill(cluster, first?.id);
  assert.deepEqual(await origins.getMetainfo(metainfo.digest, forever), metainfo);
  await until('it is down', async () => (origins.members().some(({ healthy }) => !healthy) ? true : undefined), 10_000);
  assert.ok(!origins.owners(metainfo.digest).some(({ id }) => id === first?.id));
  assert.equal(origins.state().message, '2 of 3 origins up');
});

test('a push is acknowledged by a quorum although one origin is dead', async (t) => {
  const cluster = await ClusterMesh.open(t);
  const metainfo = blob('pushed');
  const origins = cluster.originCluster(await cluster.pool({ role: 'proxy', id: 'p1' }), {});
  const dead = origins.owners(metainfo.digest)[0]?.id;
  await kill(cluster, dead);
  const { acknowledged, settled } = await origins.ingest(metainfo, [source], undefined, forever);
  assert.equal(acknowledged.length, 2);
  await settled;
  assert.deepEqual(
    [...cluster.origins].filter(([, { held }]) => held.has(metainfo.digest)).map(([id]) => id),
    [...cluster.origins.keys()].filter((id) => id !== dead),
  );
});

test('the caller is answered by the quorum while a slow owner goes on pulling, and settled waits for it', async (t) => {
  const cluster = await ClusterMesh.open(t);
  const metainfo = blob('pushed');
  const origins = cluster.originCluster(await cluster.pool({ role: 'proxy', id: 'p1' }), {});
  const slow = cluster.origins.get('o2');
  const gate = deferred();
  assert.ok(slow !== undefined);
  slow.onIngest = async () => gate.promise;
  const caller = new AbortController();
  const { acknowledged, settled } = await origins.ingest(metainfo, [source], undefined, { signal: caller.signal });
  assert.deepEqual(acknowledged.map(({ id }) => id).sort(), ['o1', 'o3']);
  caller.abort();
  gate.resolve();
  await settled;
  assert.ok(slow.held.has(metainfo.digest));
});

test('an owner that fails is replaced by the next origin of the ring', async (t) => {
  const cluster = await ClusterMesh.open(t, 4);
  const metainfo = blob('pushed');
  const origins = cluster.originCluster(await cluster.pool({ role: 'proxy', id: 'p1' }), { writeQuorum: 3 });
  const owners = origins.owners(metainfo.digest).map(({ id }) => id);
  await kill(cluster, owners[0]);
  const { acknowledged } = await origins.ingest(metainfo, [source], undefined, forever);
  const replacement = [...cluster.origins.keys()].find((id) => !owners.includes(id));
  assert.deepEqual(acknowledged.map(({ id }) => id).sort(), [...owners.slice(1), replacement].sort());
});

test('a push fails with how many of how many when the quorum cannot be reached', async (t) => {
  const cluster = await ClusterMesh.open(t, 2);
  const origins = cluster.originCluster(await cluster.pool({ role: 'proxy', id: 'p1' }), { replicas: 2 });
  await kill(cluster, 'o1');
  await assert.rejects(origins.ingest(blob('pushed'), [source], undefined, forever), (error) => {
    assert.ok(isAppError(error, 'unavailable'));
    assert.match(error.message, /of 2 owners needed/);
    return true;
  });
});

test('the quorum does not shrink because origins are believed down', async (t) => {
  const cluster = await ClusterMesh.open(t);
  const origins = cluster.originCluster(await cluster.pool({ role: 'proxy', id: 'p1' }), {});
  await kill(cluster, 'o1');
  await kill(cluster, 'o2');
  for (const id of ['o1', 'o2']) origins.reportFailure(id);
  await until('both are down', async () => (origins.state().message === '1 of 3 origins up' ? true : undefined), 10_000);
  await assert.rejects(origins.ingest(blob('pushed'), [source], undefined, forever), (error) => isAppError(error, 'unavailable'));
});

test('a blob that stand-ins took while its owners were down is found when the owners are back', async (t) => {
  const cluster = await ClusterMesh.open(t, 4);
  const metainfo = blob('taken by a stand-in');
  const asker = cluster.originCluster(await cluster.pool({ role: 'proxy', id: 'p1' }), { replicas: 2 });
  const standIn = asker.members().find(({ id }) => !asker.owners(metainfo.digest).some((owner) => owner.id === id));
  assert.ok(standIn !== undefined);
  cluster.origins.get(standIn.id)?.held.set(metainfo.digest, metainfo);
  const owner = asker.owners(metainfo.digest)[0];
  assert.ok(owner !== undefined);
  const origins = cluster.originCluster(await cluster.pool({ role: 'origin', id: owner.id }), { replicas: 2, self: owner.id });
  const found = await origins.findMetainfo(metainfo.digest, forever);
  assert.equal(found?.holders[0]?.peer, `origin/${standIn.id}`);
});

test('an owner lists what another one holds, and takes what it has lost from one of those who hold it, which hears of the loss', async (t) => {
  const cluster = await ClusterMesh.open(t, 4);
  const held = ['one', 'two', 'three'].map(blob);
  for (const metainfo of held) cluster.origins.get('o4')?.held.set(metainfo.digest, metainfo);
  const origins = cluster.originCluster(await cluster.pool({ role: 'origin', id: 'o1' }), { replicas: 1, self: 'o1' });
  const member = origins.members().find(({ id }) => id === 'o4');
  assert.ok(member !== undefined);
  const digests = held.map(({ digest }) => digest).sort();
  const first = await origins.listBlobs(member, { limit: 2, notInStorage: true }, forever);
  const { next } = first;
  assert.ok(next !== undefined);
  const second = await origins.listBlobs(member, { limit: 2, after: next, notInStorage: true }, forever);
  assert.deepEqual(
    [...first.blobs, ...second.blobs].map(({ digest }) => digest),
    digests,
  );
  assert.equal(second.next, undefined);
  const [lost] = held;
  assert.ok(lost !== undefined);
  const found = await origins.findLost(lost.digest, ['o4'], forever);
  assert.deepEqual(found?.metainfo, lost);
  assert.deepEqual(cluster.origins.get('o4')?.toldLost, [lost.digest]);
  assert.equal(await origins.findLost(blob('none').digest, ['o2', 'o4'], forever), undefined);
  assert.deepEqual(
    [...cluster.origins].flatMap(([id, { metainfoCallCount }]) => (metainfoCallCount > 0 ? [id] : [])),
    ['o2', 'o4'],
  );
});

test('absence is established only when every owner answered', async (t) => {
  const cluster = await ClusterMesh.open(t);
  const origins = cluster.originCluster(await cluster.pool({ role: 'origin', id: 'o1' }), { self: 'o1' });
  const missing = blob('none').digest;
  assert.equal(await origins.findMetainfo(missing, forever), undefined);
  await assert.rejects(origins.getMetainfo(missing, forever), (error) => isAppError(error, 'not-found'));
  await kill(cluster, 'o2');
  await assert.rejects(origins.findMetainfo(missing, forever), (error) => isAppError(error, 'unavailable'));
  const held = cluster.publish('held');
  const found = await origins.findMetainfo(held.digest, forever);
  assert.deepEqual(
    found?.holders.filter(({ complete }) => complete).map(({ peer }) => peer),
    ['origin/o3'],
  );
});
