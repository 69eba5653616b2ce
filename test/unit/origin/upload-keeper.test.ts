import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseRepositoryName } from '#core';
import { BlobsInUse } from '../../../services/origin/blobs-in-use.ts';
import { UploadKeeper, type UploadKeeperDeps } from '../../../services/origin/upload-keeper.ts';
import { blobOf } from '../../support/storage-fixtures.ts';

test('a blob that cannot be closed once its owners have it does no harm', async () => {
  const { metainfo } = blobOf(1, 300_000);
  let closedCount = 0;
  const open = async () => ({
    metainfo,
    [Symbol.asyncDispose]: async () => {
      closedCount += 1;
      throw new Error('EIO');
    },
  });
  const keeper = new UploadKeeper({
    uploads: { finish: async () => ({ path: '/nowhere', metainfo }) },
    store: { adopt: async () => undefined, open },
    peer: { seed: () => undefined },
    origins: { ingest: async () => ({ acknowledged: [], settled: Promise.resolve() }) },
    inUse: new BlobsInUse(),
  } as unknown as UploadKeeperDeps);
  const repository = parseRepositoryName('demo/app');
  assert.equal(
    await keeper.commit(repository, 'an-upload', metainfo.digest, { signal: new AbortController().signal, localOnly: false }),
    300_000,
  );
  // A rejection that nobody hears of would end the process, and here the test.
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(closedCount, 1);
});
