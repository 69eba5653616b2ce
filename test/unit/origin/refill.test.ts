import assert from 'node:assert/strict';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { isAppError, nullMeter, silentLogger } from '#core';
import { DiskBlobStore, MemoryBackend } from '#storage';
import { Refill } from '../../../services/origin/refill.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { blobOf, type TestBlob, tempDir, until } from '../../support/storage-fixtures.ts';

const { signal } = new AbortController();

async function setUp(t: TestContext, blob: TestBlob, capacityBytes = 1 << 30) {
  const root = await tempDir(t);
  const folder = join(root, 'refill');
  await mkdir(folder);
  await writeFile(join(folder, 'leftover'), 'of a crash');
  const deps = { clock: new ManualClock(), logger: silentLogger, meter: nullMeter };
  const store = await DiskBlobStore.open({ root: join(root, 'store'), capacityBytes }, deps);
  t.after(() => store[Symbol.asyncDispose]());
  const backend = new MemoryBackend();
  await backend.write(
    blob.metainfo.digest,
    blob.bytes.byteLength,
    (async function* () {
      yield blob.bytes;
    })(),
    { signal },
  );
  const refill = await Refill.open({ root: folder }, { ...deps, store, backend });
  return { folder, store, backend, refill, clock: deps.clock };
}

test('a blob is brought back, and what an earlier run left behind is gone', async (t) => {
  const blob = blobOf(1, 5000);
  const { folder, store, refill } = await setUp(t, blob);
  assert.deepEqual(await readdir(folder), []);
  assert.deepEqual(await refill.get(blob.metainfo.digest, { signal }), blob.metainfo);
  assert.equal(store.stat(blob.metainfo.digest)?.sizeBytes, 5000);
  assert.deepEqual(await readdir(folder), []);
});

test('a blob that has no place here is not copied', async (t) => {
  const blob = blobOf(1, 5000);
  const { backend, refill } = await setUp(t, blob, 4000);
  let reads = 0;
  const read = backend.read.bind(backend);
  backend.read = (...call) => {
    reads += 1;
    return read(...call);
  };
  await assert.rejects(refill.get(blob.metainfo.digest, { signal }), (error) => isAppError(error, 'resource-exhausted'));
  assert.equal(reads, 0);
});

test('storage that stops in the middle of a blob fails the refill, and the next one may work', async (t) => {
  const blob = blobOf(1, 5000);
  const { backend, refill, clock } = await setUp(t, blob);
  const read = backend.read.bind(backend);
  let started = false;
  backend.read = async function* () {
    yield blob.bytes.subarray(0, 1000);
    started = true;
    await new Promise(() => undefined);
  };
  const first = refill.get(blob.metainfo.digest, { signal });
  first.catch(() => undefined);
  await until(() => started);
  clock.advance(60_005);
  await assert.rejects(first, (error) => isAppError(error, 'unavailable'));
  backend.read = read;
  assert.deepEqual(await refill.get(blob.metainfo.digest, { signal }), blob.metainfo);
});
