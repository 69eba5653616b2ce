/** Tiny blobs skip the swarm. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '#test/support/processes';
import { bigBlob } from '#test/support/storage-fixtures';
import { collect, deadline, PeerCluster, transferOf } from './cluster.ts';

const origin = (number: number) => ({ role: 'origin', id: `o${number}` }) as const;
const agent = { role: 'agent', id: 'a1' } as const;

test('a tiny blob is fetched from an owner in one call, stored, announced and served', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(10_000);
  await cluster.node(origin(1), { blobs: [blob], owner: true });
  const leecher = await cluster.node(agent);
  const { digest, sizeBytes } = blob.metainfo;
  await using reader = await leecher.node.open(digest, { sizeBytes }, { signal: deadline() });
  assert.ok((await collect(reader.read({ startByte: 10, endByte: 100 }, { signal: deadline() }))).equals(blob.bytes.subarray(10, 100)));
  assert.equal(transferOf(leecher, blob), undefined, 'no swarm was made');
  const bytes = await leecher.node.bytes(digest, { sizeBytes, sizeBytesMax: 100_000 }, { signal: deadline() });
  assert.ok(blob.bytes.equals(bytes));
  await leecher.node.fetch(digest, { sizeBytes }, { signal: deadline() });
  assert.ok(leecher.store.stat(digest) !== undefined, 'who waits for the disk need not wait for a quiet moment');
  assert.equal(cluster.tracker.stateOf(digest, agent), 'complete');
});

test('tiny blobs that nobody waits to be stored are, when the burst is over', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blobs = Array.from({ length: 20 }, (_, index) => bigBlob(1000 + index));
  await cluster.node(origin(1), { blobs, owner: true });
  const leecher = await cluster.node(agent);
  for (const { metainfo } of blobs) {
    const { digest, sizeBytes } = metainfo;
    await leecher.node.bytes(digest, { sizeBytes, sizeBytesMax: 100_000 }, { signal: deadline() });
  }
  const isStored = ({ metainfo }: (typeof blobs)[number]): boolean => leecher.store.stat(metainfo.digest) !== undefined;
  await until('all are stored', async () => (blobs.every(isStored) ? true : undefined));
});

test('an owner that lies about a tiny blob, or has died, is passed over', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(5000);
  const liar = await cluster.impostor(origin(9), {
    exchange: (exchange) => exchange.close(),
    fetchBlob: async () => ({ data: Buffer.alloc(5000) }),
  });
  const dead = await cluster.node(origin(1), { blobs: [blob], owner: true });
  await dead.kill();
  cluster.tracker.owners.push(liar);
  await cluster.node(origin(2), { blobs: [blob], owner: true });
  const { digest, sizeBytes } = blob.metainfo;
  // Each asks the owners in another order.
  for (let number = 1; number <= 6; number += 1) {
    const leecher = await cluster.node({ role: 'agent', id: `a${number}` });
    const bytes = await leecher.node.bytes(digest, { sizeBytes, sizeBytesMax: 100_000 }, { signal: deadline() });
    assert.ok(blob.bytes.equals(bytes));
  }
});

test('a slow owner is hedged by a second', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(5000);
  const stuck = await cluster.impostor(origin(9), {
    exchange: (exchange) => exchange.close(),
    fetchBlob: (_request, { signal }) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  });
  cluster.tracker.owners.push(stuck);
  await cluster.node(origin(1), { blobs: [blob], owner: true });
  const { digest, sizeBytes } = blob.metainfo;
  for (let number = 1; number <= 4; number += 1) {
    const leecher = await cluster.node({ role: 'agent', id: `a${number}` }, { options: { tinyHedgeMs: 20 } });
    await leecher.node.fetch(digest, { sizeBytes }, { signal: deadline() });
    assert.ok(leecher.store.stat(digest) !== undefined);
  }
});

test('a tiny blob that only an agent still has comes through the swarm', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(5000);
  await cluster.node(origin(1), { owner: true });
  await cluster.node({ role: 'agent', id: 'a2' }, { blobs: [blob] });
  const leecher = await cluster.node(agent);
  const { digest, sizeBytes } = blob.metainfo;
  await leecher.node.fetch(digest, { sizeBytes }, { signal: deadline() });
  assert.ok(leecher.store.stat(digest) !== undefined);
});

test('bytes refuses what is larger than allowed, whatever the hint says', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(700_000);
  await cluster.node(origin(1), { blobs: [blob], owner: true });
  const leecher = await cluster.node(agent);
  const { digest, sizeBytes } = blob.metainfo;
  const options = { signal: deadline() };
  await assert.rejects(leecher.node.bytes(digest, { sizeBytes, sizeBytesMax: 1000 }, options), { code: 'resource-exhausted' });
  await assert.rejects(leecher.node.bytes(digest, { sizeBytes: 10, sizeBytesMax: 1000 }, options), { code: 'resource-exhausted' });
  assert.ok(blob.bytes.equals(await leecher.node.bytes(digest, { sizeBytes: 10, sizeBytesMax: 700_000 }, options)));
});

test('an empty blob is a blob', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(0);
  await cluster.node(origin(1), { blobs: [blob], owner: true });
  const leecher = await cluster.node(agent);
  const { digest } = blob.metainfo;
  await leecher.node.fetch(digest, { sizeBytes: 0 }, { signal: deadline() });
  const other = await cluster.node({ role: 'agent', id: 'a2' });
  await other.node.fetch(digest, {}, { signal: deadline() });
  assert.ok(other.store.stat(digest) !== undefined);
});
