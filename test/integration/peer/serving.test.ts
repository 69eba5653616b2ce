/** The serving side: lazy seeds, draining, and what operators see. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { identityOf, nullMeter, silentLogger } from '#core';
import { LinkDirection, TransferServiceService } from '#gen/shoal/peer/v1/transfer_service';
import { bigBlob, until } from '#test/support/storage-fixtures';
import { ChannelPool, digestToProto } from '#wire';
import { clock, deadline, PeerCluster, type TestNode, transferOf } from './cluster.ts';

const origin = { role: 'origin', id: 'o1' } as const;
const agent = { role: 'agent', id: 'a1' } as const;
const mebi = 1024 * 1024;

async function operator(cluster: PeerCluster, node: TestNode, t: { after(fn: () => void): void }) {
  const certificates = await cluster.certificates({ role: 'operator', id: 'op' });
  const pool = new ChannelPool({}, { certificates, clock, logger: silentLogger, meter: nullMeter });
  t.after(() => pool.close());
  return pool.client(TransferServiceService, { endpoint: node.offer.endpoint, ...identityOf(node.offer.peer) });
}

test('a seed is loaded when a peer asks and taken out of the engine when nobody has asked for a while', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(2 * mebi);
  // Long enough that it is seen here however busy the machine is.
  const seeder = await cluster.node(origin, { blobs: [blob], owner: true, options: { seedIdleMs: 1000 } });
  assert.equal(transferOf(seeder, blob), undefined);
  const first = await cluster.node(agent, { options: { seedIdleMs: 50 } });
  const fetching = first.node.fetch(blob.metainfo.digest, {}, { signal: deadline() });
  await until(() => transferOf(seeder, blob) !== undefined);
  await fetching;
  await until(() => transferOf(seeder, blob) === undefined);
  assert.equal(cluster.tracker.stateOf(blob.metainfo.digest, origin), 'complete', 'an idle seed is still announced');
  const second = await cluster.node({ role: 'agent', id: 'a2' });
  await second.node.fetch(blob.metainfo.digest, {}, { signal: deadline() });
});

test('a draining node finishes what it sends, refuses the rest and takes on nothing', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(8 * mebi);
  const options = { swarm: { egressBytesPerSec: 8 * mebi } };
  const seeder = await cluster.node(origin, { blobs: [blob], owner: true, options });
  const leecher = await cluster.node(agent);
  const fetching = leecher.node.fetch(blob.metainfo.digest, {}, { signal: deadline() });
  await until(() => (transferOf(leecher, blob)?.verifiedCount ?? 0) > 0);
  await seeder.node.drain();
  assert.equal(transferOf(seeder, blob)?.inboundLinkCount, 0);
  await assert.rejects(seeder.node.fetch(bigBlob(10).metainfo.digest, {}, { signal: deadline() }), { code: 'unavailable' });
  const second = await cluster.node({ role: 'origin', id: 'o2' }, { blobs: [blob], owner: true });
  leecher.directory.tell(blob.metainfo.digest, [second.offer]);
  await fetching;
});

test('an operator sees running and finished transfers, links, and pages', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blobs = [bigBlob(mebi), bigBlob(mebi + 1), bigBlob(8 * mebi)] as const;
  await cluster.node(origin, { blobs, owner: true, options: { swarm: { egressBytesPerSec: 8 * mebi } } });
  const leecher = await cluster.node(agent);
  const client = await operator(cluster, leecher, t);
  for (const { metainfo } of blobs.slice(0, 2)) await leecher.node.fetch(metainfo.digest, {}, { signal: deadline() });
  const big = leecher.node.fetch(blobs[2].metainfo.digest, {}, { signal: deadline() });
  await until(() => (transferOf(leecher, blobs[2])?.verifiedCount ?? 0) > 0);
  const { links } = await client.listLinks({});
  assert.equal(links[0]?.direction, LinkDirection.OUTBOUND);
  assert.equal(links[0]?.peer?.id, 'o1');
  const firstPage = await client.listTransfers({ pageSize: 2, pageToken: '' });
  assert.deepEqual(
    firstPage.transfers.map(({ sizeBytes, complete }) => [Number(sizeBytes), complete]),
    [
      [8 * mebi, false],
      [mebi + 1, true],
    ],
  );
  const secondPage = await client.listTransfers({ pageSize: 2, pageToken: firstPage.nextPageToken });
  assert.deepEqual([secondPage.transfers.length, secondPage.nextPageToken], [1, '']);
  assert.equal(secondPage.transfers[0]?.sources[0]?.pieceCount, 4);
  const { transfer } = await client.getTransfer({ digest: digestToProto(blobs[0].metainfo.digest) });
  assert.equal(Number(transfer?.sizeBytes), mebi);
  await assert.rejects(client.getTransfer({ digest: digestToProto(bigBlob(9).metainfo.digest) }), { code: 'not-found' });
  await assert.rejects(client.listTransfers({ pageSize: 2, pageToken: 'x' }), { code: 'invalid-argument' });
  assert.deepEqual((await client.listPenalties({})).penalties, []);
  await big;
});

test('only operators see transfers', async (t) => {
  const cluster = await PeerCluster.open(t);
  const leecher = await cluster.node(agent);
  const other = await cluster.node({ role: 'agent', id: 'a2' });
  const client = other.pool.client(TransferServiceService, { endpoint: leecher.offer.endpoint, ...agent });
  await assert.rejects(client.listLinks({}), { code: 'permission-denied' });
});

test('finished transfers are remembered up to a bound', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blobs = [1, 2, 3].map((number) => bigBlob(mebi + number));
  await cluster.node(origin, { blobs, owner: true });
  const leecher = await cluster.node(agent, { options: { historyCountMax: 2, seedIdleMs: 0 } });
  for (const { metainfo } of blobs) await leecher.node.fetch(metainfo.digest, {}, { signal: deadline() });
  await until(() => leecher.node.transfers().length === 2);
  assert.deepEqual(
    leecher.node.transfers().map(({ sizeBytes }) => sizeBytes),
    [mebi + 3, mebi + 2],
  );
});
