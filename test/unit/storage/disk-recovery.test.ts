import assert from 'node:assert/strict';
import { appendFile, cp, mkdir, open, readdir, rm, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type Digest, hexOf, leafSizeBytes, nullMeter, silentLogger } from '#core';
import { DiskBlobStore } from '#storage';
import { ManualClock } from '../../support/manual-clock.ts';
import { until } from '../../support/processes.ts';
import { blobOf, pieceOf, type TestBlob, tempDir } from '../../support/storage-fixtures.ts';

const blobFile = (root: string, digest: Digest): string => join(root, 'blobs', 'sha256', hexOf(digest).slice(0, 2), hexOf(digest));
const partialFile = (root: string, digest: Digest): string => join(root, 'partial', `sha256-${hexOf(digest)}`);

async function openStore(t: TestContext, root: string, more: { bootId?: string; clock?: ManualClock } = {}): Promise<DiskBlobStore> {
  const { bootId = 'boot-1', clock = new ManualClock() } = more;
  const store = await DiskBlobStore.open({ root, capacityBytes: 1 << 30, bootId }, { clock, logger: silentLogger, meter: nullMeter });
  t.after(() => store[Symbol.asyncDispose]());
  return store;
}

/** What a crash at this moment would leave on disk. */
async function crashed(t: TestContext, root: string): Promise<string> {
  const copy = join(await tempDir(t), 'copy');
  await cp(root, copy, { recursive: true });
  await rm(join(copy, 'db', 'lock.mdb'));
  return copy;
}

async function haveOf(store: DiskBlobStore, blob: TestBlob): Promise<readonly number[]> {
  await using partial = await store.openPartial(blob.metainfo);
  assert.ok(partial);
  return Array.from({ length: blob.metainfo.pieceCount }, (_, index) => index).filter((index) => partial.have.has(index));
}

async function withPieces(store: DiskBlobStore, blob: TestBlob, indexes: readonly number[]): Promise<void> {
  await using partial = await store.openPartial(blob.metainfo);
  assert.ok(partial);
  for (const index of indexes) await partial.writePiece(index, pieceOf(blob, index));
}

async function spoil(path: string, positionBytes: number): Promise<void> {
  const file = await open(path, 'r+');
  await file.write(Buffer.alloc(100), 0, 100, positionBytes);
  await file.close();
}

test('a clean restart keeps blobs, pins, last uses and the progress of partial blobs, which then complete', async (t) => {
  const root = await tempDir(t);
  const clock = new ManualClock();
  const [small, large] = [blobOf(1, 100), blobOf(2, 3 * leafSizeBytes + 1)] as const;
  const first = await openStore(t, root, { clock });
  await first.put(small.metainfo.digest, small.bytes, { fsync: true });
  await first.setPinned(small.metainfo.digest, true);
  const before = first.stat(small.metainfo.digest);
  await withPieces(first, large, [3, 1, 0]);
  await first[Symbol.asyncDispose]();

  clock.advance(600_000);
  const second = await openStore(t, root, { clock, bootId: 'boot-2' });
  assert.deepEqual(second.stat(small.metainfo.digest), before);
  assert.deepEqual(second.usage().usedBytes, 100 + large.bytes.byteLength);
  assert.deepEqual(
    second.partials().map((metainfo) => metainfo.digest),
    [large.metainfo.digest],
  );
  assert.deepEqual(await haveOf(second, large), [0, 1, 3]);
  await using partial = await second.openPartial(large.metainfo);
  await partial?.writePiece(2, pieceOf(large, 2));
  await partial?.commit({ fsync: true });
  assert.equal(second.stat(large.metainfo.digest)?.sizeBytes, large.bytes.byteLength);
});

test('the folders for blobs are there before the first blob, and come back when they are removed', async (t) => {
  const root = await tempDir(t);
  const shards = async (): Promise<number> =>
    (await readdir(join(root, 'blobs', 'sha256'))).length + (await readdir(join(root, 'blobs', 'sha512'))).length;
  await (await openStore(t, root))[Symbol.asyncDispose]();
  assert.equal(await shards(), 512);
  await rm(join(root, 'blobs', 'sha256', '7f'), { recursive: true });
  await openStore(t, root);
  assert.equal(await shards(), 512);
});

test('a blob that was stored pinned is pinned after a crash', async (t) => {
  const root = await tempDir(t);
  const first = await openStore(t, root);
  const { metainfo, bytes } = blobOf(1, 100);
  await first.put(metainfo.digest, bytes, { fsync: true, pinned: true });
  const second = await openStore(t, await crashed(t, root));
  assert.equal(second.stat(metainfo.digest)?.pinned, true);
});

test('a killed process loses at most the pieces of the last second', async (t) => {
  const root = await tempDir(t);
  const clock = new ManualClock();
  const blob = blobOf(1, 4 * leafSizeBytes);
  const store = await openStore(t, root, { clock });
  const partial = await store.openPartial(blob.metainfo);
  assert.ok(partial);
  await partial.writePiece(2, pieceOf(blob, 2));
  clock.advance(1000);
  await using watcher = await openStore(t, await crashed(t, root));
  assert.ok((await haveOf(watcher, blob)).length <= 1);
  await partial.writePiece(0, pieceOf(blob, 0));
  await partial[Symbol.asyncDispose]();
  assert.deepEqual(await haveOf(await openStore(t, await crashed(t, root)), blob), [0, 2]);
});

test('after a power cut the pieces of a partial blob are checked before they are trusted, however often it restarts', async (t) => {
  const root = await tempDir(t);
  const blob = blobOf(1, 4 * leafSizeBytes);
  const store = await openStore(t, root);
  await withPieces(store, blob, [0, 1, 3]);

  const killed = await crashed(t, root);
  await spoil(partialFile(killed, blob.metainfo.digest), leafSizeBytes + 5);
  assert.deepEqual(await haveOf(await openStore(t, killed), blob), [0, 1, 3]);

  const cut = await crashed(t, root);
  await spoil(partialFile(cut, blob.metainfo.digest), leafSizeBytes + 5);
  await (await openStore(t, cut, { bootId: 'boot-2' }))[Symbol.asyncDispose]();
  assert.deepEqual(await haveOf(await openStore(t, cut, { bootId: 'boot-2' }), blob), [0, 3]);
});

test('after a power cut a complete blob is dropped unless it was synced', async (t) => {
  const root = await tempDir(t);
  const clock = new ManualClock();
  const [lazy, synced] = [blobOf(1, 100), blobOf(2, 100)] as const;
  const store = await openStore(t, root, { clock });
  await store.put(lazy.metainfo.digest, lazy.bytes, { fsync: false });
  await store.put(synced.metainfo.digest, synced.bytes, { fsync: true });
  const digestsOf = (of: DiskBlobStore): readonly Digest[] => of.list({ limit: 9 }).map((stored) => stored.digest);
  assert.equal(digestsOf(await openStore(t, await crashed(t, root))).length, 2);
  assert.deepEqual(digestsOf(await openStore(t, await crashed(t, root), { bootId: 'boot-2' })), [synced.metainfo.digest]);

  await store.put(lazy.metainfo.digest, lazy.bytes, { fsync: true });
  assert.equal(digestsOf(await openStore(t, await crashed(t, root), { bootId: 'boot-2' })).length, 2);
});

test('blobs that nobody waited for are synced seconds later, and not before', async (t) => {
  const root = await tempDir(t);
  const clock = new ManualClock();
  const blobs = Array.from({ length: 5 }, (_, seed) => blobOf(seed, 100));
  const store = await openStore(t, root, { clock });
  for (const { metainfo, bytes } of blobs) await store.put(metainfo.digest, bytes, { fsync: false });
  const syncedCount = async (): Promise<number> => {
    await using after = await openStore(t, await crashed(t, root), { bootId: 'boot-2' });
    return after.list({ limit: 9 }).length;
  };
  clock.advance(4999);
  assert.equal(await syncedCount(), 0);
  clock.advance(1);
  await until('all are synced', async () => ((await syncedCount()) === blobs.length ? true : undefined));
});

test('blobs that nobody waited for are listed at once and in order, and their rows follow', async (t) => {
  const root = await tempDir(t);
  const store = await openStore(t, root);
  const blobs = Array.from({ length: 40 }, (_, seed) => blobOf(seed, 100));
  const sorted = blobs.map(({ metainfo }) => metainfo.digest).sort();
  const listed = (of: DiskBlobStore): readonly Digest[] => {
    const found: Digest[] = [];
    for (let after: Digest | undefined; ; after = found.at(-1)) {
      const page = of.list({ limit: 7, ...(after === undefined ? {} : { after }) });
      if (page.length === 0) return found;
      found.push(...page.map(({ digest }) => digest));
    }
  };
  await Promise.all(blobs.map(({ metainfo, bytes }, index) => store.put(metainfo.digest, bytes, { fsync: index % 4 === 0 })));
  assert.deepEqual(listed(store), sorted);
  for (const { metainfo } of blobs) assert.equal(store.metainfo(metainfo.digest)?.sizeBytes, metainfo.sizeBytes);
  const gone = sorted[3] as Digest;
  assert.equal(await store.delete(gone), true);
  await store[Symbol.asyncDispose]();
  assert.deepEqual(
    listed(await openStore(t, root)),
    sorted.filter((digest) => digest !== gone),
  );
});

test('files and rows that do not agree are dropped at the start', async (t) => {
  const root = await tempDir(t);
  const [good, torn, gone, tornPartial, gonePartial] = [1, 2, 3, 4, 5].map((seed) => blobOf(seed, 1000)) as [
    TestBlob,
    TestBlob,
    TestBlob,
    TestBlob,
    TestBlob,
  ];
  const first = await openStore(t, root);
  for (const blob of [good, torn, gone]) await first.put(blob.metainfo.digest, blob.bytes, { fsync: true });
  for (const blob of [tornPartial, gonePartial]) await withPieces(first, blob, []);
  await first[Symbol.asyncDispose]();

  await appendFile(blobFile(root, torn.metainfo.digest), 'x');
  await unlink(blobFile(root, gone.metainfo.digest));
  await appendFile(partialFile(root, tornPartial.metainfo.digest), 'x');
  await unlink(partialFile(root, gonePartial.metainfo.digest));
  const stray = blobOf(6, 1000).metainfo.digest;
  await mkdir(join(blobFile(root, stray), '..'), { recursive: true });
  await writeFile(blobFile(root, stray), 'x');
  await writeFile(partialFile(root, stray), 'x');
  await writeFile(join(root, 'partial', '7.tmp'), 'x');

  for (let start = 0; start < 2; start += 1) {
    const store = await openStore(t, root);
    assert.deepEqual(
      store.list({ limit: 9 }).map((blob) => blob.digest),
      [good.metainfo.digest],
    );
    assert.deepEqual(store.partials(), []);
    assert.equal(store.usage().usedBytes, 1000);
    assert.deepEqual(await readdir(join(root, 'partial')), []);
    await assert.rejects(open(blobFile(root, stray)), { code: 'ENOENT' });
    await assert.rejects(open(blobFile(root, torn.metainfo.digest)), { code: 'ENOENT' });
    await store[Symbol.asyncDispose]();
  }
});

test('the order of eviction survives a restart', async (t) => {
  const root = await tempDir(t);
  const clock = new ManualClock();
  const blobs = [1, 2, 3].map((seed) => blobOf(seed, 300));
  const open = (): Promise<DiskBlobStore> =>
    DiskBlobStore.open({ root, capacityBytes: 1000, bootId: 'b' }, { clock, logger: silentLogger, meter: nullMeter });
  const first = await open();
  for (const blob of blobs) {
    await first.put(blob.metainfo.digest, blob.bytes, { fsync: false });
    clock.advance(60_000);
  }
  await (await first.open((blobs[0] as TestBlob).metainfo.digest))?.[Symbol.asyncDispose]();
  await first[Symbol.asyncDispose]();
  await using second = await open();
  const removed: Digest[] = [];
  second.onRemoved((digest) => removed.push(digest));
  const next = blobOf(4, 300);
  await second.put(next.metainfo.digest, next.bytes, { fsync: false });
  assert.deepEqual(removed, [blobs[1]?.metainfo.digest, blobs[2]?.metainfo.digest]);
});

test('a blob whose file someone else removed is not here, and can be stored again', async (t) => {
  const root = await tempDir(t);
  const blob = blobOf(1, 1000);
  const store = await openStore(t, root);
  await store.put(blob.metainfo.digest, blob.bytes, { fsync: true });
  await unlink(blobFile(root, blob.metainfo.digest));
  assert.deepEqual(await Promise.all([store.open(blob.metainfo.digest), store.open(blob.metainfo.digest)]), [undefined, undefined]);
  assert.equal(store.usage().usedBytes, 0);
  await store.put(blob.metainfo.digest, blob.bytes, { fsync: true });
  assert.ok(store.stat(blob.metainfo.digest));
});

test('a file that was cut short while it is open is data loss', async (t) => {
  const root = await tempDir(t);
  const blob = blobOf(1, 1000);
  const store = await openStore(t, root);
  await store.put(blob.metainfo.digest, blob.bytes, { fsync: true });
  await using reader = await store.open(blob.metainfo.digest);
  const file = await open(blobFile(root, blob.metainfo.digest), 'r+');
  await file.truncate(500);
  await file.close();
  await assert.rejects(Promise.resolve(reader?.readInto(Buffer.alloc(1000), 0)), { code: 'data-loss' });
});

test('evictions of blobs that are wanted again at once leave files and rows in agreement', async (t) => {
  const root = await tempDir(t);
  const clock = new ManualClock();
  const blobs = Array.from({ length: 6 }, (_, seed) => blobOf(seed, 300));
  const options = { root, capacityBytes: 1000, bootId: 'b' };
  const deps = { clock, logger: silentLogger, meter: nullMeter };
  const store = await DiskBlobStore.open(options, deps);
  for (let round = 0; round < 20; round += 1) {
    await Promise.allSettled(
      blobs.map(async (blob, index) => {
        if ((index + round) % 3 > 0) return void (await store.put(blob.metainfo.digest, blob.bytes, { fsync: false }));
        await using partial = await store.openPartial(blob.metainfo);
        await partial?.writePiece(0, blob.bytes);
        await partial?.commit({ fsync: false });
      }),
    );
    assert.ok(store.usage().usedBytes <= 1000);
  }
  const held = store.list({ limit: 9 });
  assert.ok(held.length > 0);
  for (const { digest } of held) await (await store.open(digest))?.[Symbol.asyncDispose]();
  await store[Symbol.asyncDispose]();
  let warned = 0;
  const logger = { ...silentLogger, child: () => logger, warn: () => (warned += 1) };
  await using again = await DiskBlobStore.open(options, { ...deps, logger });
  assert.deepEqual(again.list({ limit: 9 }), held);
  assert.equal(warned, 0);
});

test('a blob stored again before its eviction has cleared the disk stays', async (t) => {
  const root = await tempDir(t);
  const deps = { clock: new ManualClock(), logger: silentLogger, meter: nullMeter };
  await using store = await DiskBlobStore.open({ root, capacityBytes: 1000, bootId: 'b' }, deps);
  const [victim, pinned, wanted] = [blobOf(1, 400), blobOf(2, 300), blobOf(3, 300)] as const;
  for (const { metainfo, bytes } of [victim, pinned]) {
    await store.put(metainfo.digest, bytes, { fsync: false });
    await store.setPinned(metainfo.digest, true);
  }
  // Unpinning holds the digest's lock for a while: the put comes next in line, the removal of what was evicted after it.
  await Promise.all([
    store.setPinned(victim.metainfo.digest, false),
    store.put(victim.metainfo.digest, victim.bytes, { fsync: false }),
    store.put(wanted.metainfo.digest, wanted.bytes, { fsync: false }),
  ]);
  assert.equal(store.usage().usedBytes, 1000);
  await using reader = await store.open(victim.metainfo.digest);
  await reader?.readInto(Buffer.alloc(400), 0);
  assert.ok(reader);
});
