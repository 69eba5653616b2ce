/**
 * Pushes, deletions, both collections of garbage and repairs of one origin from the other at once, with a grace that is about as long as a push among the names, and none at the origins:
 * whatever was acknowledged is whole, and in the end nothing is left
 * that nobody wants. Real index, real origins' stores, queues and storage; only the wire is left out, and every call to the index takes a while.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { BuildIndexClient, Member, OriginCluster } from '#cluster';
import {
  AppError,
  type Digest,
  digestOf,
  isAppError,
  type Metainfo,
  MetainfoBuilder,
  nullMeter,
  parseRepositoryName,
  parseTag,
  type RepositoryName,
  SeededRng,
  silentLogger,
  type Tag,
} from '#core';
import { placeAndPublish } from '#images';
import { type BlobBackend, type BlobStore, DiskBlobStore, DurableQueue, FileBackend, openDatabase } from '#storage';
import { NamesCollector } from '../../../services/build-index/collector.ts';
import { claimLifetimeMs } from '../../../services/build-index/fences.ts';
import { retentionRules } from '../../../services/build-index/retention.ts';
import { IndexStore } from '../../../services/build-index/store.ts';
import { BlobKeeper } from '../../../services/origin/blob-keeper.ts';
import { BlobsInUse } from '../../../services/origin/blobs-in-use.ts';
import { BytesCollector } from '../../../services/origin/collector.ts';
import { GarbageMarks } from '../../../services/origin/garbage-marks.ts';
import { Refill } from '../../../services/origin/refill.ts';
import { Pace } from '../../../services/origin/repair/pace.ts';
import { RepairRound } from '../../../services/origin/repair/round.ts';
import { decodeWriteBack, WriteBack } from '../../../services/origin/write-back.ts';
import { manifestEntry } from '../../support/manifest-entry.ts';
import { until } from '../../support/processes.ts';
import { tempDir } from '../../support/storage-fixtures.ts';
import { realClock } from '../wire/mesh.ts';

const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
const rng = new SeededRng(seed);
const { signal } = new AbortController();
const unused = async (): Promise<never> => assert.fail('not part of this test');
const repositories = ['a/one', 'a/two'].map(parseRepositoryName);
const layers = Array.from({ length: 10 }, (_, i) => Buffer.from(`layer ${i} `.repeat(50 + i)));

/** Lets a random number of others go first: mostly few, now and then so many that a whole collection fits in. */
async function jitter(): Promise<void> {
  const most = rng.below(4) === 0 ? 100 : 10;
  for (let turns = rng.below(most); turns > 0; turns -= 1) await new Promise<void>((resolve) => setImmediate(resolve));
}

async function slow<T>(call: () => T | Promise<T>): Promise<T> {
  await jitter();
  const result = await call();
  await jitter();
  return result;
}

function indexClient(store: IndexStore, origin: string) {
  const state = () => ({ id: 'index', version: store.rows.version() });
  return {
    fence: () => slow(() => store.fences.current()),
    findUnreferencedBlobs: (digests: readonly Digest[]) =>
      slow(() => ({ digests: digests.filter((digest) => !store.fences.isReferenced(digest)), index: state() })),
    claimBlobs: (digests: readonly Digest[]) =>
      slow(async () => ({
        digests: await store.write(() => store.fences.claim(digests, origin)),
        index: state(),
        lifetimeMs: claimLifetimeMs,
      })),
    releaseBlobs: (digests: readonly Digest[]) => slow(async () => void (await store.write(() => store.fences.release(digests, origin)))),
  } satisfies Partial<BuildIndexClient>;
}

async function openOrigin(t: TestContext, id: string, index: IndexStore, backend: BlobBackend, others: () => readonly Source[]) {
  const root = await tempDir(t);
  const deps = { clock: realClock, rng: new SeededRng(1), logger: silentLogger, meter: nullMeter };
  const store = await DiskBlobStore.open({ root: join(root, 'store'), capacityBytes: 1 << 30 }, deps);
  const db = await openDatabase(join(root, 'queue'));
  const queue = await DurableQueue.open({ db, name: 'write-back', decode: decodeWriteBack, backoffMinMs: 1, backoffMaxMs: 5 }, deps);
  const writeBack = new WriteBack(
    { concurrency: 2, staggerMs: 0 },
    { ...deps, queue, store, backend, rankOf: () => 0, fetchAgain: async () => undefined },
  );
  const gcDb = await openDatabase(join(root, 'gc'));
  const parts = { marks: new GarbageMarks(gcDb), inUse: new BlobsInUse() };
  const refill = await Refill.open({ root: join(root, 'refill') }, { ...deps, store, backend });
  // Pushed blobs are tiny and come inside the call; only a repair takes them from the other origin.
  const ingest = async ({ digest }: Metainfo): Promise<void> => slow(() => copyBlob(others(), store, digest));
  const peer = { open: unused, bytes: unused, fetch: unused, ingest, seed: unused, transfers: () => [] };
  const origins = { otherOwners: () => [] } as unknown as OriginCluster;
  const keeper = new BlobKeeper({ ...deps, ...parts, store, peer, origins, writeBack, refill });
  const collector = new BytesCollector(
    { intervalMs: 0, graceMs: 0 },
    // Its pauses are for the sake of others' work: here it shall get in the way.
    {
      ...deps,
      ...parts,
      clock: { ...realClock, sleep: jitter },
      index: indexClient(index, id),
      store,
      backend,
      writeBack,
      isFirstOwner: () => id === 'o1',
    },
  );
  const stop = new AbortController();
  const running = writeBack.run({ signal: stop.signal });
  t.after(async () => {
    stop.abort();
    await running;
    await Promise.all([db.close(), gcDb.close(), store[Symbol.asyncDispose]()]);
  });
  const repair = async (): Promise<number> => {
    const round = new RepairRound(
      { self: id, isPresent: () => true, isOver: () => false, pace: new Pace({ bytesPerSec: 0 }, deps) },
      // As if there were no storage: whatever the other one has is looked at.
      { ...deps, ...parts, origins: originsOf(others), index: indexClient(index, id), store, keeper, hasStorage: false },
    );
    await round.run({ signal });
    assert.equal(round.error, undefined, `seed ${seed}`);
    return round.broughtCount;
  };
  return { store, keeper, collector, queue, repair, inUse: parts.inUse };
}

interface Source {
  readonly store: BlobStore;
}

/** What a round of repair asks of the other origins, each of which owns every blob. */
function originsOf(others: () => readonly Source[]) {
  const storeOf = (id: string): BlobStore => others()[Number(id)]?.store ?? assert.fail();
  return {
    members: () => others().map((_, at) => ({ id: String(at), endpoint: '', healthy: true })),
    listBlobs: ({ id }: Member, page: { readonly limit: number; readonly after?: Digest }) =>
      slow(() => {
        const blobs = storeOf(id).list(page);
        return { blobs: blobs.map((blob) => ({ ...blob, writeBackPending: false })), next: undefined };
      }),
    findLost: (digest: Digest, [holder = '']: readonly string[]) =>
      slow(() => {
        const metainfo = storeOf(holder).metainfo(digest);
        return metainfo === undefined ? undefined : { metainfo, holders: [] };
      }),
    shouldTake: () => true,
  };
}

/** As a transfer does: it fails when the source has deleted the blob. */
async function copyBlob(sources: readonly Source[], target: BlobStore, digest: Digest): Promise<void> {
  for (const { store } of sources) {
    await using blob = await store.open(digest);
    if (blob === undefined) continue;
    const bytes = Buffer.alloc(blob.metainfo.sizeBytes);
    await blob.readInto(bytes, 0);
    await target.put(digest, bytes, { fsync: true });
    return;
  }
  throw new AppError('resource-exhausted', 'nobody has it any more');
}

type Origin = Awaited<ReturnType<typeof openOrigin>>;

async function setUp(t: TestContext) {
  const root = await tempDir(t);
  const index = await IndexStore.open({ path: join(root, 'index'), leaseResolutionMs: 0 }, { clock: realClock });
  t.after(async () => index[Symbol.asyncDispose]());
  const backend = await FileBackend.open({ root: join(root, 'storage') }, { clock: realClock });
  const origins: Origin[] = [];
  for (const [at, id] of ['o1', 'o2'].entries())
    origins.push(await openOrigin(t, id, index, backend, () => origins.filter((_, other) => other !== at)));
  const names = new NamesCollector(
    {
      intervalMs: 0,
      graceMs: 0,
      tombstoneMs: 0,
      ruleOf: retentionRules([{ repositories: ['**'], tags: ['**'], protect: [], untaggedFor: 0 }]),
    },
    { store: index, clock: realClock, rng: new SeededRng(1), logger: silentLogger, meter: nullMeter },
  );
  return { index, backend, origins, names };
}

type Cluster = Awaited<ReturnType<typeof setUp>>;

async function publish<T>({ origins, index }: Cluster, bytes: Buffer, link: (digest: Digest, fence: bigint) => Promise<T>): Promise<T> {
  const metainfo = new MetainfoBuilder().update(bytes).finish(digestOf(bytes));
  const place = async (): Promise<void> => {
    await Promise.all(origins.map(async ({ keeper }) => slow(() => keeper.ingest({ metainfo, sources: [], inline: bytes }, { signal }))));
  };
  return placeAndPublish(
    { place, publish: (fence) => slow(() => link(metainfo.digest, fence)) },
    { index: indexClient(index, 'proxy'), clock: realClock },
    { signal },
  );
}

/** As docker does it: a layer that is there is not sent, one that another repository has is mounted. */
async function pushBlob(cluster: Cluster, repository: RepositoryName, bytes: Buffer): Promise<void> {
  const { index } = cluster;
  const digest = digestOf(bytes);
  try {
    if (rng.below(2) === 0) await slow(() => index.renewBlobLink(repository, digest));
    else await slow(() => index.mountBlob(repository, digest, undefined));
  } catch (error) {
    if (!isAppError(error, 'not-found')) throw error;
    await publish(cluster, bytes, (found, fence) => index.linkBlob(repository, { digest: found, sizeBytes: bytes.byteLength }, fence));
  }
}

/** True when the push was acknowledged. */
async function pushImage(cluster: Cluster, repository: RepositoryName, tag: Tag, parts: readonly Buffer[]): Promise<boolean> {
  try {
    for (const part of parts) await pushBlob(cluster, repository, part);
    const manifest = Buffer.from(JSON.stringify({ tag, layers: parts.map((part) => digestOf(part)) }));
    await publish(cluster, manifest, (digest, fence) => {
      const entry = { ...manifestEntry('', { blobs: parts.map((part) => digestOf(part)) }), digest };
      return cluster.index.putManifest(repository, { ...entry, sizeBytes: manifest.byteLength }, [tag], fence);
    });
    return true;
  } catch (error) {
    // Without a grace a layer may be collected before the manifest names it: the client is told, and pushes again.
    if (isAppError(error, 'failed-precondition', 'unavailable')) return false;
    throw error;
  }
}

async function collectNames({ names }: Cluster, graceMs: number): Promise<void> {
  for await (const _progress of names.run({ dryRun: false, graceMs }, { signal }));
}

async function collectBytes({ collector }: Origin): Promise<void> {
  for await (const _progress of collector.run({ dryRun: false }, { signal }));
}

/** One of the origins loses a blob that the other has. */
async function loseOne(origins: readonly Origin[]): Promise<void> {
  const at = rng.below(origins.length);
  const [loser, other] = [origins[at], origins[1 - at]];
  const lost = loser?.store.list({ limit: 100 }).find(({ digest }) => rng.below(10) === 0 && other?.store.stat(digest) !== undefined);
  // One that is being deleted at the other, or taken in here, has no second copy to be relied on.
  if (lost === undefined || loser?.inUse.has(lost.digest) || other?.inUse.has(lost.digest)) return;
  await loser?.store.delete(lost.digest);
}

/** Origins collect one after the other, and repair in between: what one has deleted the other still has. */
async function collectAll(cluster: Cluster): Promise<void> {
  await collectNames(cluster, 0);
  for (const origin of cluster.origins) {
    await collectBytes(origin);
    for (const { repair } of cluster.origins) await repair();
  }
}

async function assertWhole({ index, origins, backend }: Cluster, repository: RepositoryName, tag: Tag): Promise<void> {
  const { manifest } = index.manifest(repository, { tag });
  for (const digest of manifest.blobs) index.blobLink(repository, digest);
  for (const digest of [manifest.digest, ...manifest.blobs]) {
    for (const { store } of origins)
      assert.ok(store.stat(digest) !== undefined, `seed ${seed}: ${repository}:${tag} lost ${digest} at an origin`);
    assert.ok((await backend.stat(digest, { signal })) !== undefined, `seed ${seed}: ${repository}:${tag} lost ${digest} in storage`);
  }
}

test('next to collections without a pause every acknowledged image stays whole, and in the end nothing else is left', async (t) => {
  const cluster = await setUp(t);
  const { index, origins, backend } = cluster;
  const acknowledged = new Map<string, { readonly repository: RepositoryName; readonly tag: Tag }>();
  let [ackCount, failCount, repairCount, pushing] = [0, 0, 0, true];
  const pusher = async (id: number): Promise<void> => {
    for (let round = 0; round < 25; round += 1) {
      const repository = repositories[rng.below(2)] ?? assert.fail();
      const tag = parseTag(`p${id}-${rng.below(3)}`);
      const key = `${repository}:${tag}`;
      if (rng.below(2) === 0 && acknowledged.delete(key)) {
        const { digest } = index.manifest(repository, { tag }).manifest;
        await index.deleteManifest(repository, { digest });
        continue;
      }
      // A tag that is moved by a push that fails still points to the image before.
      const ok = await pushImage(
        cluster,
        repository,
        tag,
        [0, 1, 2].map(() => layers[rng.below(layers.length)] ?? assert.fail()),
      );
      if (ok) acknowledged.set(key, { repository, tag });
      if (ok) ackCount += 1;
      else failCount += 1;
    }
  };
  const whilePushing = async (work: () => Promise<void>): Promise<void> => {
    while (pushing) {
      await work();
      await jitter();
    }
  };
  const collecting = Promise.all([
    whilePushing(() => collectNames(cluster, 200)),
    ...origins.map((origin) => whilePushing(() => collectBytes(origin))),
    ...origins.map(({ repair }) =>
      whilePushing(async () => {
        repairCount += await repair();
      }),
    ),
    whilePushing(async () => loseOne(origins)),
  ]);
  await Promise.all([0, 1, 2, 3, 4].map(pusher)).finally(() => {
    pushing = false;
  });
  await collecting;
  const drained = async (): Promise<true | undefined> => (origins.every(({ queue }) => queue.size() === 0) ? true : undefined);
  for (const { repair } of origins) repairCount += await repair();
  await until('write-backs are done', drained);
  t.diagnostic(
    `seed ${seed}: ${ackCount} pushes acknowledged, ${failCount} to be repeated, ${acknowledged.size} images in the end, ${repairCount} blobs repaired`,
  );
  assert.ok(ackCount > 20, `seed ${seed}: only ${ackCount} pushes were acknowledged`);
  for (const { repository, tag } of acknowledged.values()) await assertWhole(cluster, repository, tag);

  for (const { repository, tag } of acknowledged.values()) await index.deleteManifest(repository, { tag });
  await collectAll(cluster);
  await until('write-backs are done', drained);
  await collectAll(cluster);
  assert.deepEqual(index.listRepositories({ limit: 10 }).items, []);
  for (const { store } of origins) assert.deepEqual(store.list({ limit: 10 }), [], `seed ${seed}`);
  assert.deepEqual(await backend.list({ limit: 10 }, { signal }), [], `seed ${seed}`);
});
