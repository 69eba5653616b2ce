import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { IndexState } from '#cluster';
import { AppError, type Clock, type Digest, isAppError, nullMeter, SeededRng, silentLogger } from '#core';
import { type BlobBackend, DiskBlobStore, DurableQueue, MemoryBackend, openDatabase } from '#storage';
import { BlobsInUse } from '../../../services/origin/blobs-in-use.ts';
import { BytesCollector, type BytesRequest, type CollectedBlob } from '../../../services/origin/collector.ts';
import { GarbageMarks } from '../../../services/origin/garbage-marks.ts';
import { decodeWriteBack, WriteBack } from '../../../services/origin/write-back.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { blobOf, type TestBlob, tempDir } from '../../support/storage-fixtures.ts';

const { signal } = new AbortController();
const graceMs = 3_600_000;
const [wanted, garbage] = [blobOf(1, 1000), blobOf(2, 2000)] as const;
const unwanted = garbage.metainfo.digest;

/** An index that shows `wanted` alone. */
class StubIndex {
  readonly shown = new Set<Digest>([wanted.metainfo.digest]);
  readonly claims = new Set<Digest>();
  index: IndexState = { id: 'i', version: 5n };
  failure: AppError | undefined;
  onClaim: () => void = () => undefined;

  async findUnreferencedBlobs(digests: readonly Digest[]) {
    if (this.failure !== undefined) throw this.failure;
    return { digests: digests.filter((digest) => !this.shown.has(digest)), index: this.index };
  }

  async claimBlobs(digests: readonly Digest[]) {
    this.onClaim();
    const free = digests.filter((digest) => !this.shown.has(digest));
    for (const digest of free) this.claims.add(digest);
    return { digests: free, index: this.index, lifetimeMs: 300_000 };
  }

  async releaseBlobs(digests: readonly Digest[]) {
    for (const digest of digests) this.claims.delete(digest);
  }
}

async function fill(backend: BlobBackend, { metainfo, bytes }: TestBlob): Promise<void> {
  const body = async function* (): AsyncGenerator<Uint8Array> {
    yield bytes;
  };
  await backend.write(metainfo.digest, bytes.byteLength, body(), { signal });
}

async function setUp(t: TestContext) {
  const root = await tempDir(t);
  const clock = new ManualClock();
  // Pauses between two pages are over at once; time goes on only when a test says so.
  const impatient: Clock = {
    nowMs: () => clock.nowMs(),
    wallMs: () => clock.wallMs(),
    after: (delayMs, fn) => clock.after(delayMs, fn),
    sleep: async () => undefined,
  };
  const deps = { clock, rng: new SeededRng(1), logger: silentLogger, meter: nullMeter };
  const store = await DiskBlobStore.open({ root: join(root, 'store'), capacityBytes: 1 << 30 }, deps);
  const backend = new MemoryBackend();
  const db = await openDatabase(join(root, 'db'));
  const queue = await DurableQueue.open({ db, name: 'write-back', decode: decodeWriteBack }, deps);
  const fetchAgain = async (): Promise<void> => undefined;
  const writeBack = new WriteBack({ concurrency: 1, staggerMs: 0 }, { ...deps, queue, store, backend, rankOf: () => 0, fetchAgain });
  const parts = { marks: new GarbageMarks(db), inUse: new BlobsInUse() };
  const index = new StubIndex();
  const place = { isFirst: true };
  const collector = new BytesCollector(
    { intervalMs: 0, graceMs },
    { ...deps, ...parts, clock: impatient, index, store, backend, writeBack, isFirstOwner: () => place.isFirst },
  );
  t.after(async () => {
    await db.close();
    await store[Symbol.asyncDispose]();
  });
  for (const { metainfo, bytes } of [wanted, garbage]) await store.put(metainfo.digest, bytes, { fsync: true });
  const collect = async (request: Partial<BytesRequest> = {}): Promise<readonly CollectedBlob[]> => {
    const blobs: CollectedBlob[] = [];
    for await (const progress of collector.run({ dryRun: false, ...request }, { signal })) blobs.push(...progress.blobs);
    return blobs;
  };
  const outcomes = async (request: Partial<BytesRequest> = {}): Promise<readonly string[]> =>
    (await collect(request)).map(({ digest, outcome }) => `${digest === unwanted ? 'garbage' : 'other'} ${outcome}`);
  return { ...parts, store, backend, writeBack, queue, clock, index, place, collector, collect, outcomes };
}

test('a blob that no repository shows is marked, and deleted here and in storage after its grace', async (t) => {
  const { store, backend, clock, index, outcomes, collect } = await setUp(t);
  for (const blob of [wanted, garbage]) await fill(backend, blob);
  assert.deepEqual(await outcomes(), ['garbage waiting']);
  clock.advance(graceMs - 1);
  assert.deepEqual(await outcomes(), ['garbage waiting']);
  clock.advance(1);
  const [blob, ...rest] = await collect();
  assert.deepEqual(rest, []);
  assert.deepEqual([blob?.outcome, blob?.diskBytes, blob?.storageBytes], ['deleted', 2000, 2000]);
  assert.equal(store.stat(unwanted), undefined);
  assert.deepEqual(await backend.list({ limit: 10 }, { signal }), [wanted.metainfo.digest]);
  assert.ok(store.stat(wanted.metainfo.digest) !== undefined);
  assert.equal(index.claims.size, 0, 'claims are released');
  assert.deepEqual(await outcomes(), []);
});

test('a dry run marks and deletes nothing', async (t) => {
  const { store, marks, outcomes } = await setUp(t);
  assert.deepEqual(await outcomes({ dryRun: true }), ['garbage waiting']);
  assert.deepEqual(await outcomes({ dryRun: true, graceMs: 0 }), ['garbage deleted']);
  assert.equal(marks.sinceMs(unwanted), undefined);
  assert.ok(store.stat(unwanted) !== undefined);
});

test('a blob that is shown again loses its mark, and one that is pushed again begins its grace anew', async (t) => {
  const { marks, clock, index, outcomes } = await setUp(t);
  await outcomes();
  index.shown.add(unwanted);
  assert.deepEqual(await outcomes(), []);
  assert.equal(marks.sinceMs(unwanted), undefined);
  index.shown.delete(unwanted);
  clock.advance(2 * graceMs);
  assert.deepEqual(await outcomes(), ['garbage waiting']);
  clock.advance(2 * graceMs);
  await marks.clear(unwanted);
  assert.deepEqual(await outcomes(), ['garbage waiting']);
});

test('a blob that a repository shows by the time of the claim stays', async (t) => {
  const { store, index, outcomes } = await setUp(t);
  index.onClaim = () => index.shown.add(unwanted);
  assert.deepEqual(await outcomes({ graceMs: 0 }), ['garbage kept']);
  assert.ok(store.stat(unwanted) !== undefined);
});

test('a blob that is being taken in stays, and one that is being deleted is taken in after that', async (t) => {
  const { store, inUse, outcomes, index } = await setUp(t);
  await inUse.hold(unwanted, async () => assert.deepEqual(await outcomes({ graceMs: 0 }), ['garbage kept']));
  const order: string[] = [];
  let taken = Promise.resolve();
  const remove = store.delete.bind(store);
  store.delete = async (digest) => {
    taken = inUse.hold(digest, async () => void order.push('taken in'));
    await new Promise<void>((resolve) => setImmediate(resolve));
    order.push('deleted');
    return remove(digest);
  };
  assert.deepEqual(await outcomes({ graceMs: 0 }), ['garbage deleted']);
  await taken;
  assert.deepEqual(order, ['deleted', 'taken in']);
  assert.equal(index.claims.size, 0);
});

test('without an answer of the index nothing is deleted, however old the marks are', async (t) => {
  const { store, clock, index, collector, outcomes } = await setUp(t);
  await outcomes();
  clock.advance(10 * graceMs);
  index.failure = new AppError('unavailable', 'no build-index answers; try again');
  await assert.rejects(outcomes(), (error) => isAppError(error, 'unavailable'));
  assert.ok(store.stat(unwanted) !== undefined);
  assert.equal(collector.state().healthy, false);
});

test('an index that was replaced or has gone back is not believed until somebody says so', async (t) => {
  const { store, index, outcomes } = await setUp(t);
  await outcomes();
  for (const changed of [
    { id: 'j', version: 9n },
    { id: 'i', version: 4n },
  ]) {
    index.index = changed;
    await assert.rejects(
      outcomes({ graceMs: 0 }),
      (error) => isAppError(error, 'failed-precondition') && error.data['kind'] === 'index-changed',
    );
    assert.ok(store.stat(unwanted) !== undefined);
  }
  assert.deepEqual(await outcomes({ trustIndex: true }), ['garbage waiting']);
  assert.deepEqual(await outcomes(), ['garbage waiting'], 'it is known from now on');
});

test('an index that changes between question and claim is not believed either', async (t) => {
  const { store, index, outcomes } = await setUp(t);
  index.onClaim = () => {
    index.index = { id: 'j', version: 9n };
  };
  await assert.rejects(outcomes({ graceMs: 0 }), (error) => isAppError(error, 'failed-precondition'));
  assert.ok(store.stat(unwanted) !== undefined);
  assert.equal(index.claims.size, 0);
});

test('a write-back of garbage is given up, also when its blob is gone from the disk', async (t) => {
  const { store, queue, writeBack, outcomes } = await setUp(t);
  await writeBack.enqueue(unwanted);
  await writeBack.enqueue(wanted.metainfo.digest);
  await store.delete(unwanted);
  assert.deepEqual(await outcomes({ graceMs: 0 }), ['garbage deleted']);
  assert.deepEqual([queue.has(unwanted), queue.has(wanted.metainfo.digest)], [false, true]);
});

test('what is in storage alone is looked after by its first owner', async (t) => {
  const { store, backend, place, outcomes } = await setUp(t);
  await fill(backend, garbage);
  await store.delete(unwanted);
  place.isFirst = false;
  assert.deepEqual(await outcomes({ graceMs: 0 }), []);
  place.isFirst = true;
  assert.deepEqual(await outcomes({ graceMs: 0 }), ['garbage deleted']);
  assert.equal(await backend.stat(unwanted, { signal }), undefined);
});

test('storage that refuses keeps the blob for the next collection', async (t) => {
  const { store, backend, outcomes, index } = await setUp(t);
  await fill(backend, garbage);
  const remove = backend.delete.bind(backend);
  backend.delete = async () => {
    throw new AppError('unavailable', 'durable storage does not answer');
  };
  assert.deepEqual(await outcomes({ graceMs: 0 }), ['garbage failed']);
  assert.ok(store.stat(unwanted) !== undefined);
  assert.equal(index.claims.size, 0);
  backend.delete = remove;
  assert.deepEqual(await outcomes({ graceMs: 0 }), ['garbage deleted']);
});

test('claims that are half used up are not used any more', async (t) => {
  const { store, clock, index, outcomes } = await setUp(t);
  index.onClaim = () => clock.advance(150_000);
  assert.deepEqual(await outcomes({ graceMs: 0 }), ['garbage kept']);
  assert.ok(store.stat(unwanted) !== undefined);
});

test('the mark of a blob that was evicted is forgotten', async (t) => {
  const { store, marks, outcomes } = await setUp(t);
  await outcomes();
  assert.notEqual(marks.sinceMs(unwanted), undefined);
  await store.delete(unwanted);
  await outcomes();
  assert.equal(marks.sinceMs(unwanted), undefined);
});
