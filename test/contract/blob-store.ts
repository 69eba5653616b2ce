/** What every BlobStore does. Run against each implementation by the *.test.ts files beside this one. */
import assert from 'node:assert/strict';
import { stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { AssertionError, type Digest, digestOf, isAppError, leafSizeBytes, MetainfoBuilder, SeededRng, shuffle } from '#core';
import { type BlobStore, readRange } from '#storage';
import { ManualClock } from '../support/manual-clock.ts';
import { blobOf, pieceOf, recut, type TestBlob, tempDir } from '../support/storage-fixtures.ts';

export type MakeBlobStore = (options: {
  readonly root: string;
  readonly capacityBytes: number;
  readonly clock: ManualClock;
}) => Promise<BlobStore>;

const kib = 1024;
const fsync = { fsync: false } as const;

async function readAll(store: BlobStore, digest: Digest): Promise<Buffer | undefined> {
  await using blob = await store.open(digest);
  if (blob === undefined) return undefined;
  const bytes = Buffer.alloc(blob.metainfo.sizeBytes);
  await blob.readInto(bytes, 0);
  return bytes;
}

async function fill(store: BlobStore, blob: TestBlob, order?: readonly number[]): Promise<void> {
  await using partial = await store.openPartial(blob.metainfo);
  assert.ok(partial);
  for (const index of order ?? Array.from({ length: blob.metainfo.pieceCount }, (_, i) => i))
    await partial.writePiece(index, pieceOf(blob, index));
  await partial.commit({ fsync: true });
}

const code =
  (...codes: Parameters<typeof isAppError>[1][]) =>
  (error: unknown): boolean =>
    isAppError(error, ...codes);

export function blobStoreContract(name: string, make: MakeBlobStore): void {
  const setUp = async (t: TestContext, capacityBytes = 1 << 30): Promise<{ store: BlobStore; clock: ManualClock; root: string }> => {
    const root = await tempDir(t);
    const clock = new ManualClock();
    const store = await make({ root, capacityBytes, clock });
    t.after(() => store[Symbol.asyncDispose]());
    return { store, clock, root };
  };

  test(`${name}: a small blob that was put can be read, listed and looked up`, async (t) => {
    const { store } = await setUp(t);
    const { bytes, metainfo } = blobOf(1, 1000);
    assert.deepEqual(await store.put(metainfo.digest, bytes, { fsync: true }), metainfo);
    assert.deepEqual(await readAll(store, metainfo.digest), bytes);
    assert.equal(store.stat(metainfo.digest)?.sizeBytes, 1000);
    assert.equal(Buffer.compare(store.metainfo(metainfo.digest)?.pieceHashes ?? Buffer.alloc(0), metainfo.pieceHashes), 0);
    assert.deepEqual(
      store.list({ limit: 10 }).map((blob) => blob.digest),
      [metainfo.digest],
    );
    assert.equal(store.usage().usedBytes, 1000);
  });

  test(`${name}: bytes that do not have their digest are refused and cost nothing`, async (t) => {
    const { store } = await setUp(t);
    await assert.rejects(store.put(digestOf(Buffer.from('a')), Buffer.from('b'), fsync), code('digest-mismatch'));
    assert.equal(store.usage().usedBytes, 0);
    assert.equal(await store.open(digestOf(Buffer.from('a'))), undefined);
  });

  test(`${name}: an empty blob can be put and can be fetched in no pieces`, async (t) => {
    const { store } = await setUp(t);
    const empty = blobOf(1, 0);
    await fill(store, empty);
    assert.deepEqual(await readAll(store, empty.metainfo.digest), empty.bytes);
    await store.put(empty.metainfo.digest, empty.bytes, { fsync: true });
  });

  test(`${name}: a SHA-512 blob is verified by SHA-512`, async (t) => {
    const { store } = await setUp(t);
    const { bytes } = blobOf(3, 300 * kib);
    const metainfo = new MetainfoBuilder().update(bytes).finish(digestOf(bytes, 'sha512'));
    await fill(store, { bytes, metainfo });
    assert.deepEqual(await readAll(store, metainfo.digest), bytes);
  });

  test(`${name}: any order of pieces, some written twice and at once, ends in the same bytes`, async (t) => {
    const { store } = await setUp(t);
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 1_500_000 }),
        fc.integer(),
        fc.integer({ min: 1, max: 5 }),
        async (sizeBytes, seed, writers) => {
          const blob = blobOf(seed, sizeBytes);
          await store.delete(blob.metainfo.digest);
          const rng = new SeededRng(seed);
          const indexes = Array.from({ length: blob.metainfo.pieceCount }, (_, i) => i);
          const order = shuffle([...indexes, ...indexes.filter(() => rng.below(4) === 0)], rng);
          await using partial = await store.openPartial(blob.metainfo);
          assert.ok(partial);
          for (let at = 0; at < order.length; at += writers) {
            await Promise.all(order.slice(at, at + writers).map((index) => partial.writePiece(index, pieceOf(blob, index))));
          }
          await partial.commit(fsync);
          assert.deepEqual(await readAll(store, blob.metainfo.digest), blob.bytes);
        },
      ),
      { numRuns: 30 },
    );
  });

  test(`${name}: a partial blob shows and reads the pieces it has, and is not a blob yet`, async (t) => {
    const { store } = await setUp(t);
    const blob = blobOf(4, 3 * leafSizeBytes + 5);
    await using partial = await store.openPartial(blob.metainfo);
    assert.ok(partial);
    await partial.writePiece(2, pieceOf(blob, 2));
    assert.deepEqual(
      [0, 1, 2, 3].map((index) => partial.have.has(index)),
      [false, false, true, false],
    );
    const bytes = Buffer.alloc(100);
    await partial.readInto(bytes, 2 * leafSizeBytes + 7);
    assert.deepEqual(bytes, blob.bytes.subarray(2 * leafSizeBytes + 7, 2 * leafSizeBytes + 107));
    await assert.rejects(partial.readInto(bytes, 2 * leafSizeBytes - 50), AssertionError);
    assert.equal(store.stat(blob.metainfo.digest), undefined);
    assert.equal(await store.open(blob.metainfo.digest), undefined);
    assert.deepEqual(store.list({ limit: 10 }), []);
    assert.deepEqual(
      store.partials().map((metainfo) => metainfo.digest),
      [blob.metainfo.digest],
    );
    assert.equal(store.usage().usedBytes, blob.bytes.byteLength);
  });

  test(`${name}: two who open the same partial blob share it and may both commit`, async (t) => {
    const { store } = await setUp(t);
    const blob = blobOf(5, 2 * leafSizeBytes);
    const [a, b] = await Promise.all([store.openPartial(blob.metainfo), store.openPartial(blob.metainfo)]);
    assert.ok(a && b);
    await a.writePiece(1, pieceOf(blob, 1));
    assert.ok(b.have.has(1));
    await b.writePiece(0, pieceOf(blob, 0));
    await Promise.all([a.commit({ fsync: false }), b.commit({ fsync: true })]);
    await a[Symbol.asyncDispose]();
    await a[Symbol.asyncDispose]();
    const bytes = Buffer.alloc(10);
    await b.readInto(bytes, leafSizeBytes - 5);
    assert.deepEqual(bytes, blob.bytes.subarray(leafSizeBytes - 5, leafSizeBytes + 5));
    await b[Symbol.asyncDispose]();
    assert.equal(await store.openPartial(blob.metainfo), undefined);
    assert.equal(store.usage().usedBytes, blob.bytes.byteLength);
  });

  test(`${name}: pieces that do not make the blob are discarded at the commit`, async (t) => {
    const { store } = await setUp(t);
    const blob = blobOf(6, 2 * leafSizeBytes);
    {
      await using partial = await store.openPartial(blob.metainfo);
      assert.ok(partial);
      await partial.writePiece(0, pieceOf(blob, 1));
      await partial.writePiece(1, pieceOf(blob, 1));
      await assert.rejects(partial.commit(fsync), code('digest-mismatch'));
      await assert.rejects(partial.commit(fsync), code('digest-mismatch'));
    }
    assert.equal(store.usage().usedBytes, 0);
    assert.deepEqual(store.partials(), []);
    await fill(store, blob);
  });

  test(`${name}: other metainfo for the same digest is refused while the blob is open and starts afresh when it is not`, async (t) => {
    const { store } = await setUp(t);
    const blob = blobOf(7, 3 * leafSizeBytes);
    const first = await store.openPartial(recut(blob));
    assert.ok(first);
    await assert.rejects(store.openPartial(blob.metainfo), code('failed-precondition'));
    await first[Symbol.asyncDispose]();
    await fill(store, blob, [2, 0, 1]);
    assert.equal(store.usage().usedBytes, blob.bytes.byteLength);
  });

  test(`${name}: racing puts, adoptions and commits of one blob all succeed and leave one`, async (t) => {
    const { store, root } = await setUp(t);
    const blob = blobOf(8, 2 * leafSizeBytes);
    const partial = await store.openPartial(blob.metainfo);
    assert.ok(partial);
    for (const index of [0, 1]) await partial.writePiece(index, pieceOf(blob, index));
    const path = join(root, 'upload');
    await writeFile(path, blob.bytes);
    const removed: Digest[] = [];
    store.onRemoved((digest) => removed.push(digest));
    await Promise.all([
      store.put(blob.metainfo.digest, blob.bytes, { fsync: true }),
      partial.commit({ fsync: true }),
      store.adopt(path, blob.metainfo, { fsync: true }),
      store.put(blob.metainfo.digest, blob.bytes, fsync),
    ]);
    await partial.readInto(Buffer.alloc(10), 0);
    await partial[Symbol.asyncDispose]();
    await assert.rejects(stat(path), { code: 'ENOENT' });
    assert.deepEqual(await readAll(store, blob.metainfo.digest), blob.bytes);
    assert.equal(store.usage().usedBytes, blob.bytes.byteLength);
    assert.deepEqual(removed, []);
    await store.adopt(path, blob.metainfo, fsync);
  });

  test(`${name}: a blob is stored pinned when asked, also one that is there, and is never unpinned by storing it`, async (t) => {
    const { store, root } = await setUp(t, 1000);
    const [put, adopted, later] = [1, 2, 3].map((seed) => blobOf(seed, 300)) as [TestBlob, TestBlob, TestBlob];
    const path = join(root, 'upload');
    await writeFile(path, adopted.bytes);
    await store.put(put.metainfo.digest, put.bytes, { fsync: false, pinned: true });
    await store.adopt(path, adopted.metainfo, { fsync: false, pinned: true });
    await store.put(later.metainfo.digest, later.bytes, fsync);
    assert.equal(store.stat(later.metainfo.digest)?.pinned, false);
    await writeFile(path, later.bytes);
    await store.adopt(path, later.metainfo, { fsync: false, pinned: true });
    await store.put(put.metainfo.digest, put.bytes, fsync);
    for (const { metainfo } of [put, adopted, later]) assert.equal(store.stat(metainfo.digest)?.pinned, true);
    const next = blobOf(4, 300);
    await assert.rejects(store.put(next.metainfo.digest, next.bytes, fsync), code('resource-exhausted'));
  });

  test(`${name}: an upload whose file is gone is not found, and costs nothing`, async (t) => {
    const { store, root } = await setUp(t);
    await assert.rejects(
      store.adopt(join(root, 'upload'), blobOf(9, 1000).metainfo, fsync),
      (error) => isAppError(error, 'not-found') && error.data['kind'] === 'upload',
    );
    assert.equal(store.usage().usedBytes, 0);
  });

  test(`${name}: a blob can be synced when it is complete here`, async (t) => {
    const { store } = await setUp(t);
    const { bytes, metainfo } = blobOf(1, 1000);
    await assert.rejects(store.sync(metainfo.digest), code('not-found'));
    await store.put(metainfo.digest, bytes, fsync);
    await store.sync(metainfo.digest);
    await store.sync(metainfo.digest);
    assert.deepEqual(await readAll(store, metainfo.digest), bytes);
  });

  test(`${name}: a file of the wrong size is not adopted`, async (t) => {
    const { store, root } = await setUp(t);
    const blob = blobOf(9, 1000);
    const path = join(root, 'upload');
    await writeFile(path, blob.bytes.subarray(1));
    await assert.rejects(store.adopt(path, blob.metainfo, fsync), code('data-loss'));
    assert.equal(store.usage().usedBytes, 0);
  });

  test(`${name}: a full store evicts the least recently used first, and tells`, async (t) => {
    const { store, clock } = await setUp(t, 1000);
    const blobs = [1, 2, 3, 4].map((seed) => blobOf(seed, 230));
    for (const blob of blobs) {
      await store.put(blob.metainfo.digest, blob.bytes, fsync);
      clock.advance(60_000);
    }
    const digests = blobs.map((blob) => blob.metainfo.digest);
    await readAll(store, digests[0] as Digest);
    const removed: Digest[] = [];
    const stop = store.onRemoved((digest) => removed.push(digest));
    const next = blobOf(5, 230);
    await store.put(next.metainfo.digest, next.bytes, fsync);
    assert.deepEqual(removed, [digests[1], digests[2]]);
    assert.ok(store.stat(digests[0] as Digest) && store.stat(digests[3] as Digest) && store.stat(next.metainfo.digest));
    assert.equal(store.usage().usedBytes, 690);
    stop();
    await store.delete(digests[0] as Digest);
    assert.equal(removed.length, 2);
  });

  test(`${name}: pinned and open blobs are never evicted, and the store says when it is full`, async (t) => {
    const { store } = await setUp(t, 1000);
    const [pinned, opened, wanted] = [1, 2, 3].map((seed) => blobOf(seed, 400)) as [TestBlob, TestBlob, TestBlob];
    await store.put(pinned.metainfo.digest, pinned.bytes, fsync);
    await store.setPinned(pinned.metainfo.digest, true);
    await store.put(opened.metainfo.digest, opened.bytes, fsync);
    const reader = await store.open(opened.metainfo.digest);
    await assert.rejects(store.put(wanted.metainfo.digest, wanted.bytes, fsync), (error) => {
      assert.ok(isAppError(error, 'resource-exhausted'));
      assert.match(error.message, /800 of 1000 bytes/);
      return true;
    });
    await assert.rejects(store.openPartial(wanted.metainfo), code('resource-exhausted'));
    assert.equal(store.usage().usedBytes, 800);
    await reader?.[Symbol.asyncDispose]();
    await fill(store, wanted);
    assert.equal(store.stat(opened.metainfo.digest), undefined);
    assert.equal(store.stat(pinned.metainfo.digest)?.pinned, true);
    await store.setPinned(pinned.metainfo.digest, false);
    assert.equal(store.stat(pinned.metainfo.digest)?.pinned, false);
    await assert.rejects(store.setPinned(opened.metainfo.digest, true), code('not-found'));
  });

  test(`${name}: an idle partial blob may be evicted, an open one not`, async (t) => {
    const { store } = await setUp(t, 4 * leafSizeBytes);
    const [idle, open, next] = [1, 2, 3].map((seed) => blobOf(seed, 1.5 * leafSizeBytes)) as [TestBlob, TestBlob, TestBlob];
    await (await store.openPartial(idle.metainfo))?.[Symbol.asyncDispose]();
    await using kept = await store.openPartial(open.metainfo);
    assert.ok(kept);
    await fill(store, next);
    assert.deepEqual(
      store.partials().map((metainfo) => metainfo.digest),
      [open.metainfo.digest],
    );
    await kept.writePiece(0, pieceOf(open, 0));
  });

  test(`${name}: a deleted blob stays readable to who has it open, and its bytes count until then`, async (t) => {
    const { store } = await setUp(t);
    const blob = blobOf(1, 5000);
    await store.put(blob.metainfo.digest, blob.bytes, fsync);
    const removed: Digest[] = [];
    store.onRemoved((digest) => removed.push(digest));
    const reader = await store.open(blob.metainfo.digest);
    assert.equal(await store.delete(blob.metainfo.digest), true);
    assert.equal(await store.delete(blob.metainfo.digest), false);
    assert.deepEqual(removed, [blob.metainfo.digest]);
    assert.equal(store.stat(blob.metainfo.digest), undefined);
    assert.equal(store.metainfo(blob.metainfo.digest), undefined);
    const bytes = Buffer.alloc(5000);
    await reader?.readInto(bytes, 0);
    assert.deepEqual(bytes, blob.bytes);
    assert.equal(store.usage().usedBytes, 5000);
    await reader?.[Symbol.asyncDispose]();
    assert.equal(store.usage().usedBytes, 0);
  });

  test(`${name}: a partial blob deleted while it is written cannot be committed, and can be fetched again meanwhile`, async (t) => {
    const { store } = await setUp(t);
    const blob = blobOf(1, leafSizeBytes + 1);
    const stale = await store.openPartial(blob.metainfo);
    assert.ok(stale);
    await stale.writePiece(1, pieceOf(blob, 1));
    await store.delete(blob.metainfo.digest);
    const fresh = await store.openPartial(blob.metainfo);
    assert.ok(fresh);
    assert.equal(fresh.have.count, 0);
    await stale.writePiece(0, pieceOf(blob, 0));
    await assert.rejects(stale.commit(fsync), code('aborted'));
    for (const index of [1, 0]) await fresh.writePiece(index, pieceOf(blob, index));
    await fresh.commit(fsync);
    await stale[Symbol.asyncDispose]();
    await fresh[Symbol.asyncDispose]();
    assert.deepEqual(await readAll(store, blob.metainfo.digest), blob.bytes);
    assert.equal(store.usage().usedBytes, blob.bytes.byteLength);
  });

  test(`${name}: the list is in digest order and goes on after a digest`, async (t) => {
    const { store } = await setUp(t);
    const blobs = Array.from({ length: 9 }, (_, seed) => blobOf(seed, 10 + seed));
    for (const { metainfo, bytes } of blobs) await store.put(metainfo.digest, bytes, fsync);
    const sorted = blobs.map((blob) => blob.metainfo.digest).sort();
    assert.deepEqual(
      store.list({ limit: 4 }).map((blob) => blob.digest),
      sorted.slice(0, 4),
    );
    assert.deepEqual(
      store.list({ limit: 100, after: sorted[3] as Digest }).map((blob) => blob.digest),
      sorted.slice(4),
    );
  });

  test(`${name}: opening counts as use, to the minute; looking up does not`, async (t) => {
    const { store, clock } = await setUp(t);
    const { metainfo, bytes } = blobOf(1, 10);
    await store.put(metainfo.digest, bytes, fsync);
    const putMs = store.stat(metainfo.digest)?.lastUsedMs ?? Number.NaN;
    clock.advance(90_000);
    assert.equal(store.stat(metainfo.digest)?.lastUsedMs, putMs);
    await readAll(store, metainfo.digest);
    assert.equal(store.stat(metainfo.digest)?.lastUsedMs, putMs + 60_000);
  });

  test(`${name}: a range is read in chunks of the size asked for, until the signal aborts`, async (t) => {
    const { store } = await setUp(t);
    const blob = blobOf(1, 10_000);
    await store.put(blob.metainfo.digest, blob.bytes, fsync);
    await using reader = await store.open(blob.metainfo.digest);
    assert.ok(reader);
    const chunks: Uint8Array[] = [];
    const range = { startByte: 5, endByte: 9_990 };
    for await (const chunk of readRange(reader, range, { signal: new AbortController().signal, chunkBytes: 4096 })) chunks.push(chunk);
    assert.deepEqual(
      chunks.map((chunk) => chunk.byteLength),
      [4096, 4096, 1793],
    );
    assert.deepEqual(Buffer.concat(chunks), blob.bytes.subarray(5, 9_990));
    await assert.rejects(readRange(reader, range, { signal: AbortSignal.abort() }).next(), { name: 'AbortError' });
  });

  test(`${name}: a range is read into lent memory, and a chunk stays until the second one after it is asked for`, async (t) => {
    const { store } = await setUp(t);
    const blob = blobOf(1, 100_000);
    await store.put(blob.metainfo.digest, blob.bytes, fsync);
    await using reader = await store.open(blob.metainfo.digest);
    assert.ok(reader);
    let latest: Promise<void> | undefined;
    const watched = {
      metainfo: reader.metainfo,
      readInto: (target: Uint8Array, positionBytes: number): Promise<void> => {
        latest = reader.readInto(target, positionBytes);
        return latest;
      },
      [Symbol.asyncDispose]: async () => undefined,
    };
    const memory = new Set<ArrayBufferLike>();
    let before: Uint8Array = Buffer.alloc(0);
    let sizeBytes = 0;
    const options = { signal: new AbortController().signal, chunkBytes: 4096, lend: true };
    for await (const chunk of readRange(watched, { startByte: 7, endByte: 100_000 }, options)) {
      // The one ahead has been read.
      await latest;
      assert.deepEqual(before, blob.bytes.subarray(7 + sizeBytes - before.byteLength, 7 + sizeBytes));
      assert.deepEqual(Buffer.from(chunk), blob.bytes.subarray(7 + sizeBytes, 7 + sizeBytes + chunk.byteLength));
      before = chunk;
      sizeBytes += chunk.byteLength;
      memory.add(chunk.buffer);
    }
    assert.deepEqual([sizeBytes, memory.size], [99_993, 3]);
  });
}
