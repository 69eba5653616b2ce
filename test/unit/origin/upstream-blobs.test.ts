import assert from 'node:assert/strict';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { AppError, hexOf, nullMeter, parseRepositoryName, silentLogger } from '#core';
import { UpstreamBlobs, type UpstreamBlobsDeps } from '../../../services/origin/upstream/blobs.ts';
import type { UpstreamTarget } from '../../../services/origin/upstream/upstreams.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { blobOf, tempDir } from '../../support/storage-fixtures.ts';

test('a reply of an upstream that the disk does not take is given up, so that its connection is free again', async (t) => {
  const { metainfo, bytes } = blobOf(1, 300_000);
  const root = await tempDir(t);
  const none = async (): Promise<never> => {
    throw new AppError('not-found', 'it is not here', { data: { kind: 'blob' } });
  };
  const blobs = await UpstreamBlobs.open({ root }, {
    access: { require: async () => undefined },
    index: { getBlobLink: none, fence: async () => 1n, linkBlob: none },
    keeper: { metainfo: none },
    store: { usage: () => ({ usedBytes: 0, capacityBytes: 1e9 }) },
    clock: new ManualClock(),
    logger: silentLogger,
    meter: nullMeter,
  } as unknown as UpstreamBlobsDeps);
  // In the way of the file.
  await mkdir(join(root, `${hexOf(metainfo.digest)}-1`));
  let droppedCount = 0;
  const openBlob = async () => ({
    sizeBytes: bytes.byteLength,
    chunks: (async function* () {
      yield bytes;
    })(),
    drop: () => {
      droppedCount += 1;
    },
  });
  const target = {
    upstream: { client: { openBlob }, namespace: 'example.com' },
    repository: parseRepositoryName('example.com/app'),
    name: 'app',
    credentials: { type: 'anonymous' },
  } as unknown as UpstreamTarget;
  const fetch = await blobs.ensure(target, metainfo.digest, { signal: new AbortController().signal });
  await assert.rejects(fetch.done);
  assert.equal(droppedCount, 1);
});
