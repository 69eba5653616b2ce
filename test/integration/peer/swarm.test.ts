/** Several nodes that want one blob: they serve each other, a node downloads once, and everything ends up verified on disk. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bigBlob, tempDir } from '#test/support/storage-fixtures';
import { collect, deadline, diskStore, PeerCluster, piecesFrom, transferOf } from './cluster.ts';

const origin = { role: 'origin', id: 'o1' } as const;
const agent = (number: number) => ({ role: 'agent', id: `a${number}` }) as const;
const mebi = 1024 * 1024;

test('three leechers download from one seeder and from each other while they are incomplete', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(24 * mebi);
  // The seeder alone would take three seconds to serve all of them.
  const seeder = await cluster.node(origin, { blobs: [blob], owner: true, options: { swarm: { egressBytesPerSec: 24 * mebi } } });
  const leechers = await Promise.all([1, 2, 3].map((number) => cluster.node(agent(number))));
  await Promise.all(leechers.map(({ node }) => node.fetch(blob.metainfo.digest, {}, { signal: deadline() })));
  for (const leecher of leechers) {
    const reader = await leecher.store.open(blob.metainfo.digest);
    assert.ok(reader !== undefined);
    const bytes = Buffer.alloc(blob.bytes.byteLength);
    await reader.readInto(bytes, 0);
    await reader[Symbol.asyncDispose]();
    assert.ok(bytes.equals(blob.bytes));
    const counts = piecesFrom(leecher, blob);
    const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
    assert.equal(total, blob.metainfo.pieceCount);
    assert.equal(cluster.tracker.stateOf(blob.metainfo.digest, leecher.identity), 'complete');
  }
  const fromLeechers = leechers.map((leecher) => blob.metainfo.pieceCount - (piecesFrom(leecher, blob).get(seeder.offer.peer) ?? 0));
  assert.ok(fromLeechers.filter((count) => count > 0).length >= 2, `pieces from other leechers: ${fromLeechers.join(', ')}`);
  const served = transferOf(seeder, blob)?.servedBytes ?? 0;
  assert.ok(served < 2.5 * blob.bytes.byteLength, `the seeder served ${served / blob.bytes.byteLength} copies`);
});

test('everybody who asks a node for a blob at once shares one download', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(4 * mebi + 17);
  const seeder = await cluster.node(origin, { blobs: [blob], owner: true });
  const leecher = await cluster.node(agent(1), { store: await diskStore(await tempDir(t)) });
  const { digest, sizeBytes } = blob.metainfo;
  const readers = await Promise.all([1, 2, 3, 4].map(() => leecher.node.open(digest, { sizeBytes }, { signal: deadline() })));
  const fetched = leecher.node.fetch(digest, {}, { signal: deadline() });
  const copies = await Promise.all(
    readers.map((reader) => collect(reader.read({ startByte: 0, endByte: reader.sizeBytes }, { signal: deadline() }))),
  );
  await fetched;
  for (const copy of copies) assert.ok(copy.equals(blob.bytes));
  for (const reader of readers) await reader[Symbol.asyncDispose]();
  assert.equal(transferOf(seeder, blob)?.servedBytes, sizeBytes);
  const again = await leecher.node.open(digest, {}, { signal: deadline() });
  assert.ok((await collect(again.read({ startByte: 5, endByte: sizeBytes }, { signal: deadline() }))).equals(blob.bytes.subarray(5)));
  await again[Symbol.asyncDispose]();
});

test('ingest takes a blob from the named sources without asking the tracker, and syncs it', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(3 * mebi);
  const proxy = await cluster.node({ role: 'proxy', id: 'p1' }, { blobs: [blob] });
  const store = await diskStore(await tempDir(t));
  const syncs: boolean[] = [];
  const openPartial = store.openPartial.bind(store);
  store.openPartial = async (metainfo) => {
    const partial = await openPartial(metainfo);
    if (partial === undefined) return undefined;
    const commit = partial.commit.bind(partial);
    partial.commit = async (options) => {
      syncs.push(options.fsync);
      await commit(options);
    };
    return partial;
  };
  const owner = await cluster.node(origin, { store });
  cluster.tracker.up = false;
  await owner.node.ingest(blob.metainfo, [proxy.offer], { signal: deadline() });
  assert.ok(store.stat(blob.metainfo.digest) !== undefined);
  assert.deepEqual(syncs, [true]);
});

test('a node announces what it holds when it starts, and takes it back when a blob is removed', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blobs = [bigBlob(mebi), bigBlob(mebi), bigBlob(mebi)];
  const seeder = await cluster.node(origin, { blobs, owner: true, options: { announceBatchCount: 2, announcePauseMs: 0 } });
  const leecher = await cluster.node(agent(1));
  await Promise.all(blobs.map(({ metainfo }) => leecher.node.fetch(metainfo.digest, {}, { signal: deadline() })));
  for (const { metainfo } of blobs) assert.equal(cluster.tracker.stateOf(metainfo.digest, origin), 'complete');
  const [first] = blobs;
  assert.ok(first !== undefined);
  await seeder.store.delete(first.metainfo.digest);
  assert.equal(cluster.tracker.stateOf(first.metainfo.digest, origin), undefined);
});
