import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type Digest, hexOf, nullMeter, SeededRng, silentLogger } from '#core';
import { type BlobBackend, DiskBlobStore, DurableQueue, MemoryBackend, openDatabase } from '#storage';
import { decodeWriteBack, WriteBack } from '../../../services/origin/write-back.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { blobOf, tempDir, until } from '../../support/storage-fixtures.ts';

const { signal } = new AbortController();

interface Setting {
  readonly root: string;
  readonly store: DiskBlobStore;
  readonly writeBack: WriteBack;
  readonly clock: ManualClock;
  /** Blobs that were asked for again. */
  readonly fetched: Digest[];
  readonly run: () => void;
  /** This origin's place among the owners. */
  readonly place: { rank: number };
}

async function setUp(t: TestContext, backend: BlobBackend): Promise<Setting> {
  const root = await tempDir(t);
  const clock = new ManualClock();
  const deps = { clock, rng: new SeededRng(1), logger: silentLogger, meter: nullMeter };
  const store = await DiskBlobStore.open({ root: join(root, 'store'), capacityBytes: 1 << 30 }, deps);
  const db = await openDatabase(join(root, 'queue'));
  const queue = await DurableQueue.open({ db, name: 'write-back', decode: decodeWriteBack }, deps);
  const fetched: Digest[] = [];
  const fetchAgain = async (digest: Digest): Promise<void> => void fetched.push(digest);
  const place = { rank: 0 };
  const writeBack = new WriteBack(
    { concurrency: 2, staggerMs: 60_000 },
    { ...deps, queue, store, backend, rankOf: () => place.rank, fetchAgain },
  );
  const abort = new AbortController();
  let running = Promise.resolve();
  t.after(async () => {
    abort.abort();
    await running;
    await db.close();
    await store[Symbol.asyncDispose]();
  });
  const run = (): void => {
    running = writeBack.run({ signal: abort.signal });
  };
  return { root, store, writeBack, clock, fetched, run, place };
}

test('a blob that the disk has damaged never gets to durable storage, is discarded and asked for again', async (t) => {
  const backend = new MemoryBackend();
  const { root, store, writeBack, clock, fetched, run } = await setUp(t, backend);
  const [good, bad] = [blobOf(1, 3000), blobOf(2, 3000)] as const;
  for (const { metainfo, bytes } of [good, bad]) {
    await store.put(metainfo.digest, bytes, { fsync: true });
    await writeBack.enqueue(metainfo.digest);
  }
  const { digest } = bad.metainfo;
  const file = await open(join(root, 'store', 'blobs', 'sha256', hexOf(digest).slice(0, 2), hexOf(digest)), 'r+');
  await file.write(Buffer.alloc(100), 0, 100, 1000);
  await file.close();
  run();
  await until(() => writeBack.list({ limit: 10 })[0]?.attemptCount === 1 && !writeBack.isPending(good.metainfo.digest));
  assert.equal(await backend.stat(digest, { signal }), undefined);
  assert.equal(await backend.stat(good.metainfo.digest, { signal }), 3000);
  assert.equal(store.stat(digest), undefined);
  assert.deepEqual(fetched, []);
  clock.advance(10_000);
  await until(() => writeBack.list({ limit: 10 })[0]?.attemptCount === 2);
  assert.deepEqual(fetched, [digest]);
  await store.put(digest, bad.bytes, { fsync: true, pinned: true });
  clock.advance(10_000);
  await until(() => !writeBack.isPending(digest));
  assert.equal(await backend.stat(digest, { signal }), 3000);
  assert.equal(store.stat(digest)?.pinned, false);
});

test('a large blob is written when the other owners have had time to fetch it', async (t) => {
  const backend = new MemoryBackend();
  const { store, writeBack, clock, run } = await setUp(t, backend);
  const [large, small] = [blobOf(1, 2_000_000), blobOf(2, 50_000)] as const;
  for (const { metainfo, bytes } of [large, small]) {
    await store.put(metainfo.digest, bytes, { fsync: true });
    await writeBack.enqueue(metainfo.digest);
  }
  run();
  await until(() => !writeBack.isPending(small.metainfo.digest));
  clock.advance(19);
  assert.equal(await backend.stat(large.metainfo.digest, { signal }), undefined);
  clock.advance(1);
  await until(() => !writeBack.isPending(large.metainfo.digest));
});

test('the second owner waits for the first, but not once that is down', async (t) => {
  const backend = new MemoryBackend();
  const { store, writeBack, clock, run, place } = await setUp(t, backend);
  const [early, late] = [blobOf(1, 2_000_000), blobOf(2, 50_000)] as const;
  place.rank = 2;
  for (const { metainfo, bytes } of [early, late]) {
    await store.put(metainfo.digest, bytes, { fsync: true });
    await writeBack.enqueue(metainfo.digest);
  }
  run();
  await writeBack.takeOver({ signal });
  clock.advance(60_019);
  assert.equal(writeBack.list({ limit: 3 }).length, 2);
  // One of the two before it is gone: as the second it has waited long enough for the small blob, and a moment later for the large one.
  place.rank = 1;
  await writeBack.takeOver({ signal });
  await until(() => !writeBack.isPending(late.metainfo.digest));
  assert.equal(await backend.stat(early.metainfo.digest, { signal }), undefined);
  clock.advance(1);
  await until(() => !writeBack.isPending(early.metainfo.digest));
});

test('a blob that another owner has lost is written at once, the others when it is their turn', async (t) => {
  const backend = new MemoryBackend();
  const { store, writeBack, clock, run, place } = await setUp(t, backend);
  const [lost, safe] = [blobOf(1, 2_000_000), blobOf(2, 500)] as const;
  place.rank = 1;
  for (const { metainfo, bytes } of [lost, safe]) {
    await store.put(metainfo.digest, bytes, { fsync: true });
    await writeBack.enqueue(metainfo.digest);
  }
  run();
  assert.deepEqual(
    writeBack.pendingHere({ limit: 10 }).blobs.map(({ digest }) => digest),
    [lost.metainfo.digest, safe.metainfo.digest].sort(),
  );
  await writeBack.writeNow(lost.metainfo.digest);
  await until(() => !writeBack.isPending(lost.metainfo.digest));
  assert.deepEqual(await backend.list({ limit: 10 }, { signal }), [lost.metainfo.digest]);
  const { blobs, next } = writeBack.pendingHere({ limit: 1 });
  assert.deepEqual([blobs.map(({ digest }) => digest), next], [[safe.metainfo.digest], safe.metainfo.digest]);
  assert.deepEqual(writeBack.pendingHere({ limit: 1, after: safe.metainfo.digest }), { blobs: [], next: undefined });
  clock.advance(60_000);
  await until(() => !writeBack.isPending(safe.metainfo.digest));
});

test('blobs that were pinned but never queued are written after the next start, and unpinned', async (t) => {
  const backend = new MemoryBackend();
  const { store, run } = await setUp(t, backend);
  const [forgotten, loose] = [blobOf(1, 500), blobOf(2, 500)] as const;
  await store.put(forgotten.metainfo.digest, forgotten.bytes, { fsync: true, pinned: true });
  await store.put(loose.metainfo.digest, loose.bytes, { fsync: true });
  run();
  await until(() => store.stat(forgotten.metainfo.digest)?.pinned === false);
  assert.deepEqual(await backend.list({ limit: 10 }, { signal }), [forgotten.metainfo.digest]);
});

test('storage that does not answer ends an attempt, which is made again', async (t) => {
  const backend = new MemoryBackend();
  let hanging = true;
  const stat = backend.stat.bind(backend);
  let asked = 0;
  backend.stat = (digest, options) => {
    asked += 1;
    return hanging ? new Promise(() => undefined) : stat(digest, options);
  };
  const { store, writeBack, clock, run } = await setUp(t, backend);
  const { metainfo, bytes } = blobOf(1, 500);
  await store.put(metainfo.digest, bytes, { fsync: true });
  await writeBack.enqueue(metainfo.digest);
  run();
  await until(() => asked === 1);
  clock.advance(10_000);
  await until(() => writeBack.list({ limit: 1 })[0]?.attemptCount === 1);
  assert.match(writeBack.list({ limit: 1 })[0]?.lastError ?? '', /^unavailable: .*10 s/);
  hanging = false;
  clock.advance(2_000);
  await until(() => !writeBack.isPending(metainfo.digest));
});
