/** Directories and trackers over real sockets: peers find each other, departures are immediate, trackers may die and come back. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isAppError, type Metainfo } from '#core';
import { TrackerServiceService } from '#gen/shoal/tracker/v1/tracker_service';
import type { PeerOffer } from '#swarm';
import { digestFromProto, digestToProto, peerFromProto } from '#wire';
import { blob, ClusterMesh, type NamedServer, publishFor } from '../../support/cluster-mesh.ts';
import { until } from '../../support/processes.ts';

const forever = { signal: new AbortController().signal };
const waitMs = 10_000;
const idsOf = (peers: readonly PeerOffer[]): string[] => peers.map(({ peer }) => peer).sort();

/** What an operator sees of a blob at a tracker. */
async function peersAt(cluster: ClusterMesh, tracker: NamedServer, { digest }: Metainfo): Promise<string[]> {
  const client = (await cluster.pool({ role: 'operator', id: 'op' })).client(TrackerServiceService, tracker.target);
  const answer = await client.listPeers({ digest: digestToProto(digest) }).catch((error: unknown) => {
    if (isAppError(error, 'not-found')) return { peers: [] };
    throw error;
  });
  return idsOf(answer.peers.map((peer) => peerFromProto(peer)));
}

async function untilPeersAt(cluster: ClusterMesh, tracker: NamedServer, metainfo: Metainfo, wanted: readonly string[]): Promise<void> {
  const probe = async (): Promise<true | undefined> => {
    const peers = await peersAt(cluster, tracker, metainfo);
    return JSON.stringify(peers) === JSON.stringify(wanted) ? true : undefined;
  };
  await until(`${tracker.id} knows ${wanted.join(', ') || 'nobody'}`, probe, waitMs);
}

test('a lookup brings the metainfo, the peers that have the blob and, in a small swarm, its owners', async (t) => {
  const cluster = await ClusterMesh.open(t);
  const tracker = await cluster.serveTracker('t1');
  const metainfo = cluster.publish('image layer');
  const seeder = await cluster.directory([tracker], 'a1', ':7001');
  seeder.update(metainfo.digest, { state: 'complete', peersWanted: 0 });
  await untilPeersAt(cluster, tracker, metainfo, ['agent/a1']);
  const found = await (await cluster.directory([tracker], 'a2')).lookup(metainfo.digest, forever);
  assert.deepEqual(found.metainfo, metainfo);
  assert.deepEqual(idsOf(found.peers), ['agent/a1', 'origin/o1', 'origin/o2', 'origin/o3']);
  const offer = found.peers.find(({ peer }) => peer === 'agent/a1');
  assert.deepEqual([offer?.endpoint, offer?.complete], ['127.0.0.1:7001', true]);
});

test('concurrent lookups of many nodes ask the owners once', async (t) => {
  const cluster = await ClusterMesh.open(t, 1);
  const tracker = await cluster.serveTracker('t1');
  const metainfo = cluster.publish('popular');
  const directories = await Promise.all(['a1', 'a2', 'a3'].map((id) => cluster.directory([tracker], id)));
  await Promise.all(directories.flatMap((one) => [one.lookup(metainfo.digest, forever), one.lookup(metainfo.digest, forever)]));
  assert.equal(cluster.origins.get('o1')?.metainfoCallCount, 1);
});

test('a blob that no owner has is not-found, and leaves no trace at the tracker', async (t) => {
  const cluster = await ClusterMesh.open(t);
  const tracker = await cluster.serveTracker('t1');
  const directory = await cluster.directory([tracker], 'a1');
  const missing = blob('never pushed');
  await assert.rejects(
    directory.lookup(missing.digest, forever),
    (error) => isAppError(error, 'not-found') && error.data['kind'] === 'blob',
  );
  await untilPeersAt(cluster, tracker, missing, []);
  assert.equal(directory.blobCount, 0);
});

test('a newcomer is pushed to those who still want peers', async (t) => {
  const cluster = await ClusterMesh.open(t, 1);
  const tracker = await cluster.serveTracker('t1');
  const metainfo = cluster.publish('layer');
  const early = await cluster.directory([tracker], 'early');
  const offered: string[] = [];
  early.onOffer((digest, peers) => {
    if (digest === metainfo.digest) offered.push(...idsOf(peers));
  });
  await early.lookup(metainfo.digest, forever);
  early.update(metainfo.digest, { state: 'wanted', peersWanted: 10 });
  await until('the answer to the update', async () => (offered.includes('origin/o1') ? true : undefined), waitMs);
  const late = await cluster.directory([tracker], 'late');
  late.update(metainfo.digest, { state: 'wanted', peersWanted: 10 });
  await until('the push', async () => (offered.includes('agent/late') ? true : undefined), waitMs);
});

test('the end of a stream takes the node out of every blob at once', async (t) => {
  const cluster = await ClusterMesh.open(t, 1);
  const tracker = await cluster.serveTracker('t1');
  const metainfo = cluster.publish('layer');
  const leaving = await cluster.directory([tracker], 'a1');
  leaving.update(metainfo.digest, { state: 'complete', peersWanted: 0 });
  await untilPeersAt(cluster, tracker, metainfo, ['agent/a1']);
  const startedMs = performance.now();
  await leaving[Symbol.asyncDispose]();
  await untilPeersAt(cluster, tracker, metainfo, []);
  assert.ok(performance.now() - startedMs < 1000, 'no timeout was waited for');
});

test('a tracker that restarts learns everything anew', async (t) => {
  const cluster = await ClusterMesh.open(t, 1);
  const first = await cluster.serveTracker('t1');
  const blobs = ['x', 'y', 'z'].map((text) => cluster.publish(text));
  const directory = await cluster.directory([first], 'a1');
  for (const { digest } of blobs) directory.update(digest, { state: 'complete', peersWanted: 0 });
  for (const metainfo of blobs) await untilPeersAt(cluster, first, metainfo, ['agent/a1']);
  await first.server.drain({ graceMs: 0 });
  const second = await cluster.serveTracker('t1', first.port);
  for (const metainfo of blobs) await untilPeersAt(cluster, second, metainfo, ['agent/a1']);
});

test('while a tracker is down the next one serves its blobs, and it gets them back when it returns', async (t) => {
  const cluster = await ClusterMesh.open(t, 1);
  const trackers = [await cluster.serveTracker('t1'), await cluster.serveTracker('t2')];
  const [first, other] = trackers;
  assert.ok(first !== undefined && other !== undefined);
  const metainfo = publishFor(cluster, trackers, 't1');
  const directory = await cluster.directory(trackers, 'a1');
  directory.update(metainfo.digest, { state: 'complete', peersWanted: 0 });
  await untilPeersAt(cluster, first, metainfo, ['agent/a1']);
  await first.server.drain({ graceMs: 0 });
  await untilPeersAt(cluster, other, metainfo, ['agent/a1']);
  const found = await (await cluster.directory(trackers, 'a2')).lookup(metainfo.digest, forever);
  assert.deepEqual(found.metainfo, metainfo);
  const again = await cluster.serveTracker('t1', first.port);
  await untilPeersAt(cluster, again, metainfo, ['agent/a1', 'agent/a2']);
  await untilPeersAt(cluster, other, metainfo, []);
});

test('without any tracker a lookup answers from the owners', async (t) => {
  const cluster = await ClusterMesh.open(t);
  const tracker = await cluster.serveTracker('t1');
  await tracker.server.drain({ graceMs: 0 });
  const metainfo = cluster.publish('layer');
  const directory = await cluster.directory([tracker], 'a1');
  const found = await directory.lookup(metainfo.digest, forever);
  assert.deepEqual(found.metainfo, metainfo);
  assert.deepEqual(idsOf(found.peers), ['origin/o1', 'origin/o2', 'origin/o3']);
  await assert.rejects(directory.lookup(blob('none').digest, forever), (error) => isAppError(error, 'not-found'));
});

test('operators list blobs page by page in digest order', async (t) => {
  const cluster = await ClusterMesh.open(t, 1);
  const tracker = await cluster.serveTracker('t1');
  const directory = await cluster.directory([tracker], 'a1');
  const blobs = ['1', '2', '3', '4', '5'].map((text) => blob(text));
  for (const { digest } of blobs) directory.update(digest, { state: 'complete', peersWanted: 0 });
  for (const metainfo of blobs) await untilPeersAt(cluster, tracker, metainfo, ['agent/a1']);
  const client = (await cluster.pool({ role: 'operator', id: 'op' })).client(TrackerServiceService, tracker.target);
  const listed: string[] = [];
  let pageToken = '';
  do {
    const page = await client.listBlobs({ pageSize: 2, pageToken });
    listed.push(...page.blobs.map(({ digest }) => digestFromProto(digest)));
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  assert.deepEqual(listed, blobs.map(({ digest }) => digest).sort());
});
