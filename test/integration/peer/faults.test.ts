/** Sources that lie, die or never answer. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type AppError, Bitfield, type LogFields, type Logger, metainfoOf, silentLogger } from '#core';
import { bigBlob, pieceOf, type TestBlob, tempDir, until } from '#test/support/storage-fixtures';
import type { PeerHandlers } from '#wire';
import { pieceFrame } from '#wire';
import { collect, deadline, diskStore, fill, PeerCluster, piecesFrom, transferOf } from './cluster.ts';

const origin = (number: number) => ({ role: 'origin', id: `o${number}` }) as const;
const agent = { role: 'agent', id: 'a1' } as const;
const mebi = 1024 * 1024;

/** Says that it has everything and flips a bit of each piece that `spoils` names. */
function corrupting(blob: TestBlob, spoils: (piece: number) => boolean): PeerHandlers {
  return {
    fetchBlob: async () => ({ data: Buffer.alloc(10) }),
    exchange: (exchange) => {
      exchange.listen({
        requested: (pieces) => {
          for (const piece of pieces) {
            const source = pieceOf(blob, piece);
            const frame = pieceFrame(source.byteLength);
            source.copy(frame.body);
            if (spoils(piece)) frame.body[1000] = (frame.body[1000] ?? 0) ^ 1;
            exchange.piece(piece, frame).catch(() => undefined);
          }
        },
        cancelled: () => undefined,
        closed: () => undefined,
      });
      exchange.accept(Bitfield.full(blob.metainfo.pieceCount));
    },
  };
}

/** Remembers what was logged at `error` and `info`. */
function recorder(): {
  readonly logger: Logger;
  readonly lines: { readonly level: string; readonly message: string; readonly fields: LogFields }[];
} {
  const lines: { level: string; message: string; fields: LogFields }[] = [];
  const logger: Logger = {
    ...silentLogger,
    info: (message, fields = {}) => lines.push({ level: 'info', message, fields }),
    error: (message, fields = {}) => lines.push({ level: 'error', message, fields }),
    child: () => logger,
  };
  return { logger, lines };
}

test('a source that sends flipped bytes is caught and the blob comes from others', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(8 * mebi);
  const liar = await cluster.impostor(
    { role: 'agent', id: 'liar' },
    corrupting(blob, (piece) => piece % 2 === 0),
  );
  const honest = await cluster.node(origin(1), { blobs: [blob], options: { swarm: { egressBytesPerSec: 16 * mebi } } });
  const { logger, lines } = recorder();
  const leecher = await cluster.node(agent, { logger });
  const { digest } = blob.metainfo;
  const fetching = leecher.node.ingest(blob.metainfo, [liar], { signal: deadline() });
  await until(() => transferOf(leecher, blob)?.sources.some(({ corruptCount }) => corruptCount > 0) === true);
  leecher.directory.tell(digest, [honest.offer]);
  await fetching;
  const sources = transferOf(leecher, blob)?.sources ?? [];
  assert.ok((sources.find(({ peer }) => peer === liar.peer)?.corruptCount ?? 0) > 0);
  assert.ok((piecesFrom(leecher, blob).get(honest.offer.peer) ?? 0) > 0);
  await using reader = await leecher.node.open(digest, {}, { signal: deadline() });
  assert.ok((await collect(reader.read({ startByte: 0, endByte: reader.sizeBytes }, { signal: deadline() }))).equals(blob.bytes));
  const line = lines.find(({ message }) => message === 'download finished');
  assert.ok(Number(line?.fields['corruptCount']) > 0, 'the log line counts the corrupt pieces');
});

test('a download survives the death of its seeder and of the tracker while another holds a copy', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(16 * mebi);
  const slow = { swarm: { egressBytesPerSec: 16 * mebi } };
  const first = await cluster.node(origin(1), { blobs: [blob], owner: true, options: slow });
  const second = await cluster.node(origin(2), { blobs: [blob], owner: true, options: slow });
  const leecher = await cluster.node(agent);
  await using reader = await leecher.node.open(blob.metainfo.digest, {}, { signal: deadline() });
  const chunks = reader.read({ startByte: 0, endByte: reader.sizeBytes }, { signal: deadline() })[Symbol.asyncIterator]();
  const parts: Uint8Array[] = [];
  for (let piece = 0; piece < 8; piece += 1) {
    const chunk = await chunks.next();
    if (chunk.done !== true) parts.push(Uint8Array.from(chunk.value));
  }
  cluster.tracker.up = false;
  await first.kill();
  for (let chunk = await chunks.next(); chunk.done !== true; chunk = await chunks.next()) parts.push(Uint8Array.from(chunk.value));
  assert.ok(Buffer.concat(parts).equals(blob.bytes));
  assert.ok((piecesFrom(leecher, blob).get(second.offer.peer) ?? 0) > 0);
});

test('a download without any source fails as unavailable and says what was tried', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(mebi);
  const dead = await cluster.node(origin(1), { blobs: [blob], owner: true });
  await dead.kill();
  const leecher = await cluster.node(agent, { options: { noSourceTimeoutMs: 500, lookupIntervalMs: 100 } });
  await assert.rejects(leecher.node.fetch(blob.metainfo.digest, {}, { signal: deadline() }), (error: AppError) => {
    assert.equal(error.code, 'unavailable');
    assert.match(error.message, /origin\/o1/);
    return true;
  });
  assert.equal(transferOf(leecher, blob), undefined);
});

test('a source that returns in time saves the download', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(mebi);
  cluster.tracker.publish(blob.metainfo);
  const leecher = await cluster.node(agent, { options: { lookupIntervalMs: 50 } });
  const fetching = leecher.node.fetch(blob.metainfo.digest, {}, { signal: deadline() });
  await until(() => transferOf(leecher, blob) !== undefined);
  await cluster.node(origin(1), { blobs: [blob], owner: true });
  await fetching;
});

test('a blob that its owner has lost is looked for there, although a tracker still knows its metainfo', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(mebi);
  cluster.tracker.publish(blob.metainfo);
  const owner = await cluster.node(origin(1), { owner: true });
  let askedCount = 0;
  // As an origin brings it back from durable storage.
  cluster.tracker.onAskOwners = async () => {
    askedCount += 1;
    await fill(owner.store, blob);
  };
  const leecher = await cluster.node(agent, { options: { lookupIntervalMs: 200, swarm: { uselessAfterMs: 100 } } });
  await leecher.node.fetch(blob.metainfo.digest, {}, { signal: deadline() });
  assert.equal(askedCount, 1);
  assert.ok(leecher.store.stat(blob.metainfo.digest) !== undefined);
});

test('a blob that nobody has is not found', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(mebi);
  const leecher = await cluster.node(agent);
  await assert.rejects(leecher.node.open(blob.metainfo.digest, {}, { signal: deadline() }), { code: 'not-found' });
});

test('wrong metainfo ends in data-loss, is logged for a human, and the blob is tried once more from its owners', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(mebi);
  const other = bigBlob(mebi);
  // The pieces of another blob under this digest: every piece verifies, the whole does not.
  const wrong = metainfoOf({ ...blob.metainfo, pieceHashes: other.metainfo.pieceHashes });
  const liar = await cluster.impostor(
    { role: 'origin', id: 'liar' },
    corrupting(other, () => false),
  );
  await cluster.node(origin(1), { blobs: [blob], owner: true });
  const { logger, lines } = recorder();
  const leecher = await cluster.node(agent, { logger, options: { lookupIntervalMs: 50 } });
  // Nobody offers the honest owner as long as the metainfo is wrong: its pieces would count as corrupt.
  cluster.tracker.up = false;
  await assert.rejects(leecher.node.ingest(wrong, [liar], { signal: deadline() }), { code: 'data-loss' });
  assert.ok(lines.some(({ level, message }) => level === 'error' && message === 'download failed'));
  cluster.tracker.up = true;
  await until(() => leecher.store.stat(blob.metainfo.digest) !== undefined);
});

test('a download goes on after a restart with the pieces that were on disk', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(16 * mebi);
  const seeder = await cluster.node(origin(1), { blobs: [blob], owner: true, options: { swarm: { egressBytesPerSec: 16 * mebi } } });
  const root = await tempDir(t);
  const before = await cluster.node(agent, { store: await diskStore(root) });
  const { digest, pieceCount } = blob.metainfo;
  const reader = await before.node.open(digest, {}, { signal: deadline() });
  const chunks = reader.read({ startByte: 0, endByte: reader.sizeBytes }, { signal: deadline() })[Symbol.asyncIterator]();
  for (let piece = 0; piece < 10; piece += 1) await chunks.next();
  await before.kill();
  await assert.rejects(async () => {
    while ((await chunks.next()).done !== true);
  });
  await before.store[Symbol.asyncDispose]();
  const after = await cluster.node(agent, { store: await diskStore(root) });
  await after.node.fetch(digest, {}, { signal: deadline() });
  const fetchedCount = piecesFrom(after, blob).get(seeder.offer.peer) ?? 0;
  assert.ok(fetchedCount > 0 && fetchedCount <= pieceCount - 10, `${fetchedCount} of ${pieceCount} pieces were fetched again`);
});

test('pieces that are evicted while the sources are looked up do not end the download', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(4 * mebi);
  await cluster.node(origin(1), { blobs: [blob], owner: true });
  const { store, node, directory } = await cluster.node(agent);
  const partial = await store.openPartial(blob.metainfo);
  await partial?.writePiece(0, pieceOf(blob, 0));
  await partial?.[Symbol.asyncDispose]();
  const lookup = directory.lookup.bind(directory);
  let evicted = false;
  directory.lookup = async (digest) => {
    await Promise.resolve();
    evicted = await store.delete(digest);
    return await lookup(digest);
  };
  await node.fetch(blob.metainfo.digest, {}, { signal: deadline() });
  assert.equal(evicted, true);
  assert.notEqual(store.stat(blob.metainfo.digest), undefined);
});
