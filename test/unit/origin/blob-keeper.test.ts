import assert from 'node:assert/strict';
import { cp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { OriginCluster } from '#cluster';
import { type Digest, nullMeter, silentLogger } from '#core';
import type { BlobFetcher } from '#peer';
import { DiskBlobStore } from '#storage';
import { BlobKeeper } from '../../../services/origin/blob-keeper.ts';
import { BlobsInUse } from '../../../services/origin/blobs-in-use.ts';
import { Refill } from '../../../services/origin/refill.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { blobOf, type TestBlob, tempDir } from '../../support/storage-fixtures.ts';

const forever = { signal: new AbortController().signal };

interface Setting {
  readonly root: string;
  readonly store: DiskBlobStore;
  /** An upload that is complete here: its blob is in the store, and nobody has waited for the disk. */
  readonly upload: (blob: TestBlob) => Promise<void>;
  /** A keeper whose downloads end as `fetch` does. */
  readonly keeper: (fetch: () => Promise<void>) => Promise<BlobKeeper>;
}

async function setUp(t: TestContext): Promise<Setting> {
  const root = await tempDir(t);
  const deps = { clock: new ManualClock(), logger: silentLogger, meter: nullMeter };
  const store = await DiskBlobStore.open({ root, capacityBytes: 1 << 30, bootId: 'boot-1' }, deps);
  t.after(() => store[Symbol.asyncDispose]());
  const upload = async ({ metainfo, bytes }: TestBlob): Promise<void> => {
    const path = join(root, 'uploaded');
    await writeFile(path, bytes);
    await store.adopt(path, metainfo, { fsync: false });
  };
  const keeper = async (fetch: () => Promise<void>): Promise<BlobKeeper> =>
    new BlobKeeper({
      ...deps,
      store,
      peer: { ingest: fetch } as unknown as BlobFetcher,
      origins: { otherOwners: () => [] } as unknown as OriginCluster,
      writeBack: { isDone: async () => false, enqueue: async () => undefined } as never,
      refill: await Refill.open({ root: join(root, 'refill') }, { ...deps, store, backend: undefined }),
      inUse: new BlobsInUse(),
      marks: { clear: async () => undefined },
    });
  return { root, store, upload, keeper };
}

/** What would be here after a power cut at this moment. */
async function afterPowerCut(t: TestContext, root: string): Promise<readonly Digest[]> {
  const copy = join(await tempDir(t), 'copy');
  await cp(root, copy, { recursive: true });
  await rm(join(copy, 'db', 'lock.mdb'));
  const deps = { clock: new ManualClock(), logger: silentLogger, meter: nullMeter };
  await using store = await DiskBlobStore.open({ root: copy, capacityBytes: 1 << 30, bootId: 'boot-2' }, deps);
  return store.list({ limit: 10 }).map(({ digest }) => digest);
}

test('an owner that has the blob from an upload of its own says so only when it is on the disk', async (t) => {
  const { root, upload, keeper } = await setUp(t);
  const blob = blobOf(1, 300_000);
  await upload(blob);
  assert.deepEqual(await afterPowerCut(t, root), []);
  const { metainfo } = blob;
  await (await keeper(async () => assert.fail('it is here'))).ingest({ metainfo, sources: [], inline: undefined }, forever);
  assert.deepEqual(await afterPowerCut(t, root), [metainfo.digest]);
});

test('the same when the upload ends while the owner fetches the blob', async (t) => {
  const { root, upload, keeper } = await setUp(t);
  const blob = blobOf(1, 300_000);
  const { metainfo } = blob;
  await (await keeper(() => upload(blob))).ingest({ metainfo, sources: [], inline: undefined }, forever);
  assert.deepEqual(await afterPowerCut(t, root), [metainfo.digest]);
});
