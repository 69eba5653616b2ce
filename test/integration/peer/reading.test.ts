/** Readers of blobs that are still on their way. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bigBlob, tempDir, until } from '#test/support/storage-fixtures';
import { collect, deadline, diskStore, PeerCluster, transferOf } from './cluster.ts';

const origin = { role: 'origin', id: 'o1' } as const;
const agent = { role: 'agent', id: 'a1' } as const;
const mebi = 1024 * 1024;
/** A seeder that takes a second for 8 MiB. */
const slow = { swarm: { egressBytesPerSec: 8 * mebi } };

test('the first bytes are handed out long before the blob is complete', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(16 * mebi);
  await cluster.node(origin, { blobs: [blob], owner: true, options: slow });
  const leecher = await cluster.node(agent);
  await using reader = await leecher.node.open(blob.metainfo.digest, {}, { signal: deadline() });
  const chunks = reader.read({ startByte: 0, endByte: reader.sizeBytes }, { signal: deadline() })[Symbol.asyncIterator]();
  const first = await chunks.next();
  assert.ok(first.done !== true && blob.bytes.subarray(0, first.value.byteLength).equals(first.value));
  const transfer = transferOf(leecher, blob);
  assert.ok(transfer !== undefined && transfer.verifiedCount < transfer.pieceCount / 2, `${transfer?.verifiedCount} pieces were here`);
  await chunks.return?.();
});

test('a range at the end of a cold blob comes first', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(24 * mebi);
  await cluster.node(origin, { blobs: [blob], owner: true, options: slow });
  const leecher = await cluster.node(agent);
  await using reader = await leecher.node.open(blob.metainfo.digest, {}, { signal: deadline() });
  const range = { startByte: reader.sizeBytes - 2 * mebi - 5, endByte: reader.sizeBytes - 3 };
  const bytes = await collect(reader.read(range, { signal: deadline() }));
  assert.ok(bytes.equals(blob.bytes.subarray(range.startByte, range.endByte)));
  const transfer = transferOf(leecher, blob);
  assert.ok(transfer !== undefined && transfer.verifiedCount < transfer.pieceCount / 3, `${transfer?.verifiedCount} pieces were here`);
});

test('an aborted read ends with the reason while another reader goes on', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(8 * mebi);
  await cluster.node(origin, { blobs: [blob], owner: true, options: slow });
  const leecher = await cluster.node(agent);
  const { digest } = blob.metainfo;
  await using reader = await leecher.node.open(digest, {}, { signal: deadline() });
  const abort = new AbortController();
  const all = { startByte: 0, endByte: reader.sizeBytes };
  const other = collect(reader.read(all, { signal: deadline() }));
  const aborted = collect(reader.read({ startByte: 7 * mebi, endByte: 8 * mebi }, { signal: abort.signal }));
  abort.abort(new Error('the client left'));
  await assert.rejects(aborted, /the client left/);
  assert.ok((await other).equals(blob.bytes));
});

test('when the last reader leaves an incomplete blob, the download ends and its pieces stay', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(8 * mebi);
  const seeder = await cluster.node(origin, { blobs: [blob], owner: true, options: slow });
  const leecher = await cluster.node(agent, { options: { abandonGraceMs: 50 } });
  const { digest } = blob.metainfo;
  const reader = await leecher.node.open(digest, {}, { signal: deadline() });
  const chunks = reader.read({ startByte: 0, endByte: reader.sizeBytes }, { signal: deadline() })[Symbol.asyncIterator]();
  await chunks.next();
  await chunks.return?.();
  await reader[Symbol.asyncDispose]();
  await until(() => transferOf(leecher, blob) === undefined);
  await until(() => transferOf(seeder, blob)?.inboundLinkCount === 0);
  assert.equal(cluster.tracker.stateOf(digest, agent), undefined);
  const servedBytes = transferOf(seeder, blob)?.servedBytes ?? 0;
  assert.ok(servedBytes < blob.bytes.byteLength);
  const partial = await leecher.store.openPartial(blob.metainfo);
  assert.ok(partial !== undefined && partial.have.count > 0);
  await partial[Symbol.asyncDispose]();
  await leecher.node.fetch(digest, {}, { signal: deadline() });
  assert.ok(
    (transferOf(leecher, blob)?.sources[0]?.pieceCount ?? 0) < blob.metainfo.pieceCount,
    'the pieces on disk were not fetched again',
  );
});

test('a reader that returns within the grace finds its download running', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(4 * mebi);
  await cluster.node(origin, { blobs: [blob], owner: true, options: slow });
  const leecher = await cluster.node(agent);
  const { digest } = blob.metainfo;
  const first = await leecher.node.open(digest, {}, { signal: deadline() });
  await first[Symbol.asyncDispose]();
  const startedMs = transferOf(leecher, blob)?.startedMs;
  await using second = await leecher.node.open(digest, {}, { signal: deadline() });
  assert.equal(transferOf(leecher, blob)?.startedMs, startedMs);
  const all = await collect(second.read({ startByte: 0, endByte: second.sizeBytes }, { signal: deadline() }));
  assert.ok(all.equals(blob.bytes));
});

test('a reader that was closed reads no more', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(8 * mebi);
  await cluster.node(origin, { blobs: [blob], owner: true, options: slow });
  const leecher = await cluster.node(agent);
  const reader = await leecher.node.open(blob.metainfo.digest, {}, { signal: deadline() });
  const reading = collect(reader.read({ startByte: 0, endByte: reader.sizeBytes }, { signal: deadline() }));
  await reader[Symbol.asyncDispose]();
  await assert.rejects(reading, { code: 'cancelled' });
});

for (const kind of ['memory', 'disk'] as const) {
  test(`a blob that is stored by another way ends its download, and its readers read on (${kind})`, async (t) => {
    const cluster = await PeerCluster.open(t);
    const blob = bigBlob(16 * mebi);
    await cluster.node(origin, { blobs: [blob], owner: true, options: slow });
    const leecher = await cluster.node(agent, kind === 'disk' ? { store: await diskStore(await tempDir(t)) } : {});
    const { digest } = blob.metainfo;
    await using reader = await leecher.node.open(digest, {}, { signal: deadline() });
    const fetching = leecher.node.fetch(digest, {}, { signal: deadline() });
    const chunks = reader.read({ startByte: 0, endByte: reader.sizeBytes }, { signal: deadline() })[Symbol.asyncIterator]();
    const parts: Uint8Array[] = [];
    for (let chunk = await chunks.next(); chunk.done !== true; chunk = await chunks.next()) {
      parts.push(Uint8Array.from(chunk.value));
      if (parts.length !== 2) continue;
      const verifiedCount = transferOf(leecher, blob)?.verifiedCount ?? 0;
      assert.ok(verifiedCount < blob.metainfo.pieceCount / 2);
      await leecher.store.put(digest, blob.bytes, { fsync: false });
      leecher.node.seed(blob.metainfo);
    }
    assert.ok(Buffer.concat(parts).equals(blob.bytes));
    await fetching;
    assert.equal(cluster.tracker.stateOf(digest, agent), 'complete');
  });
}

test('bytes that are lent stay until the second chunk after them is asked for, and their memory is used again or given back', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(24 * mebi);
  await cluster.node(origin, { blobs: [blob], owner: true, options: { swarm: { egressBytesPerSec: 32 * mebi } } });
  const leecher = await cluster.node(agent);
  await using reader = await leecher.node.open(blob.metainfo.digest, {}, { signal: deadline() });
  const readLent = async (startByte: number): Promise<readonly Uint8Array[]> => {
    const chunks: Uint8Array[] = [];
    let at = startByte;
    let beforeBytes = 0;
    for await (const chunk of reader.read({ startByte, endByte: reader.sizeBytes }, { signal: deadline(), lend: true })) {
      const before = chunks.at(-1) ?? Buffer.alloc(0);
      assert.ok(blob.bytes.subarray(at - beforeBytes, at).equals(before), `the chunk before byte ${at} is whole`);
      chunks.push(chunk);
      at += chunk.byteLength;
      beforeBytes = chunk.byteLength;
      assert.ok(blob.bytes.subarray(at - chunk.byteLength, at).equals(chunk), `the chunk up to byte ${at} is right`);
    }
    assert.equal(at, reader.sizeBytes);
    return chunks.slice(0, -2);
  };
  // The second one begins in the middle of a piece, and finds some in memory and some on disk.
  for (const chunks of await Promise.all([readLent(0), readLent(5 * mebi + 7)])) {
    const memory = (): Set<ArrayBufferLike> => new Set(chunks.filter(({ byteLength }) => byteLength > 0).map(({ buffer }) => buffer));
    await until(() => memory().size <= 3);
  }
});

test('a reader that borrows leaves the bytes to one that keeps them', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(8 * mebi);
  await cluster.node(origin, { blobs: [blob], owner: true, options: slow });
  const leecher = await cluster.node(agent);
  await using reader = await leecher.node.open(blob.metainfo.digest, {}, { signal: deadline() });
  const all = { startByte: 0, endByte: reader.sizeBytes };
  const keep = async (): Promise<Buffer> => {
    const chunks: Uint8Array[] = [];
    for await (const chunk of reader.read(all, { signal: deadline() })) chunks.push(chunk);
    return Buffer.concat(chunks);
  };
  const kept = keep();
  for await (const _ of reader.read(all, { signal: deadline(), lend: true }));
  assert.ok((await kept).equals(blob.bytes));
});
