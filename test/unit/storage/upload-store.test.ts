import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { digestOf, isAppError, leafSizeBytes, MetainfoBuilder, nullMeter, parseRepositoryName, silentLogger } from '#core';
import { DiskBlobStore, HashThread, UploadStore, type UploadStoreOptions } from '#storage';
import { ManualClock } from '../../support/manual-clock.ts';
import { blobOf, tempDir, until } from '../../support/storage-fixtures.ts';

const repository = parseRepositoryName('library/nginx');
const other = parseRepositoryName('library/other');
const options = { signal: new AbortController().signal };

async function* chunks(bytes: Uint8Array, chunkBytes = 65_536): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
}

/** Yields the bytes, then does what `end` does. */
async function* then(bytes: Uint8Array, end: () => Promise<void>): AsyncGenerator<Uint8Array> {
  yield bytes;
  await end();
}

/** A body that waits to be let go. */
function gate(): { readonly opened: Promise<void>; readonly open: () => void } {
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { opened, open };
}

async function blobStore(t: TestContext, clock: ManualClock): Promise<DiskBlobStore> {
  const blobs = await DiskBlobStore.open({ root: await tempDir(t), capacityBytes: 1e9 }, { clock, logger: silentLogger, meter: nullMeter });
  t.after(() => blobs[Symbol.asyncDispose]());
  return blobs;
}

const thread = new HashThread({ sizeBytesMin: 1 });
after(async () => thread[Symbol.asyncDispose]());

uploadStoreTests('uploads', undefined);
uploadStoreTests('uploads, hashed on a thread', thread);

function uploadStoreTests(kind: string, hashing: HashThread | undefined): void {
  async function setUp(
    t: TestContext,
    more: Partial<UploadStoreOptions> = {},
  ): Promise<{ store: UploadStore; clock: ManualClock; root: string }> {
    const root = more.root ?? (await tempDir(t));
    const clock = new ManualClock();
    const store = await UploadStore.open({ root, ...more }, { clock, logger: silentLogger, hashing });
    t.after(() => store[Symbol.asyncDispose]());
    return { store, clock, root };
  }

  describe(kind, () => {
    test('an upload in chunks of any size is handed over with its metainfo', async (t) => {
      const { store } = await setUp(t);
      const size = fc.integer({ min: 0, max: 3_000_000 });
      await fc.assert(
        fc.asyncProperty(
          size,
          fc.array(size, { maxLength: 4 }),
          fc.integer({ min: 1000, max: 2_000_000 }),
          async (sizeBytes, cuts, chunkBytes) => {
            const { bytes, metainfo } = blobOf(sizeBytes, sizeBytes);
            const { id } = await store.start(repository, {}, options);
            const ends = [...cuts.filter((cut) => cut < sizeBytes), sizeBytes].sort((a, b) => a - b);
            let startByte = 0;
            for (const end of ends) {
              const body = chunks(bytes.subarray(startByte, end), chunkBytes);
              const { offsetBytes } = await store.append(repository, id, { body, startByte, lengthBytes: end - startByte }, options);
              assert.equal(offsetBytes, end);
              startByte = end;
            }
            const upload = await store.finish(repository, id, metainfo.digest, options);
            assert.deepEqual({ ...upload.metainfo }, { ...metainfo });
            assert.deepEqual(await readFile(upload.path), bytes);
            assert.deepEqual(await store.finish(repository, id, metainfo.digest, options), upload);
            await store.cancel(repository, id, options);
          },
        ),
        { numRuns: 25 },
      );
      assert.deepEqual(store.usage().usedBytes, 0);
    });

    test('a finished upload moves into a blob store, and the commit can be asked for again', async (t) => {
      const { store, root, clock } = await setUp(t);
      const blobs = await blobStore(t, clock);
      const { bytes, metainfo } = blobOf(1, 400_000);
      const { id } = await store.start(repository, {}, options);
      await store.append(repository, id, { body: chunks(bytes) }, options);
      for (let attempt = 0; attempt < 2; attempt += 1) {
        const upload = await store.finish(repository, id, metainfo.digest, options);
        await blobs.adopt(upload.path, upload.metainfo, { fsync: true });
      }
      await store.cancel(repository, id, options);
      assert.equal(blobs.stat(metainfo.digest)?.sizeBytes, 400_000);
      assert.deepEqual(await readdir(root), []);
    });

    test('a commit can be asked for again although the blob was deleted meanwhile and the process restarted, and the bytes stay what they are', async (t) => {
      const { store, root, clock } = await setUp(t);
      const blobs = await blobStore(t, clock);
      const { bytes, metainfo } = blobOf(1, 400_000);
      const { id } = await store.start(repository, {}, options);
      await store.append(repository, id, { body: chunks(bytes) }, options);
      const commit = async (uploads: UploadStore): Promise<void> => {
        const upload = await uploads.finish(repository, id, metainfo.digest, options);
        await blobs.adopt(upload.path, upload.metainfo, { fsync: true });
      };
      await commit(store);
      await blobs.delete(metainfo.digest);
      await commit(store);
      await store[Symbol.asyncDispose]();
      const again = await UploadStore.open({ root }, { clock, logger: silentLogger, hashing });
      t.after(() => again[Symbol.asyncDispose]());
      await assert.rejects(again.append(repository, id, { body: chunks(Buffer.alloc(1)) }, options), { code: 'failed-precondition' });
      await commit(again);
      await again.cancel(repository, id, options);
      assert.equal(blobs.metainfo(metainfo.digest)?.digest, metainfo.digest);
      assert.deepEqual(await readdir(root), []);
    });

    test('a SHA-512 digest is checked with the hint and without', async (t) => {
      const { store } = await setUp(t);
      const { bytes } = blobOf(1, leafSizeBytes + 9);
      const digest = digestOf(bytes, 'sha512');
      for (const hint of [{}, { algorithm: 'sha512' }] as const) {
        const { id } = await store.start(repository, hint, options);
        await store.append(repository, id, { body: chunks(bytes) }, options);
        const { metainfo } = await store.finish(repository, id, digest, options);
        assert.deepEqual({ ...metainfo }, { ...new MetainfoBuilder().update(bytes).finish(digest) });
      }
    });

    test('a wrong digest ends the session', async (t) => {
      const { store, root } = await setUp(t);
      const { id } = await store.start(repository, {}, options);
      await store.append(repository, id, { body: chunks(Buffer.from('abc')) }, options);
      await assert.rejects(store.finish(repository, id, digestOf(Buffer.from('abd')), options), { code: 'digest-mismatch' });
      await assert.rejects(store.stat(repository, id, options), { code: 'not-found' });
      assert.deepEqual(await readdir(root), []);
      assert.equal(store.usage().usedBytes, 0);
    });

    test('only the own offset is accepted as start, and sessions are of one repository', async (t) => {
      const { store } = await setUp(t);
      const { id } = await store.start(repository, {}, options);
      await store.append(repository, id, { body: chunks(Buffer.alloc(10)) }, options);
      for (const startByte of [0, 9, 11]) {
        const append = store.append(repository, id, { body: chunks(Buffer.alloc(1)), startByte }, options);
        await assert.rejects(append, (error) => isAppError(error, 'out-of-range') && error.data['offsetBytes'] === 10);
      }
      for (const [where, which] of [
        [other, id],
        [repository, 'no-such-id'],
        [repository, '../../etc/passwd'],
      ] as const) {
        await assert.rejects(
          store.stat(where, which, options),
          (error) => isAppError(error, 'not-found') && error.data['kind'] === 'upload',
        );
      }
      await assert.rejects(store.cancel(other, id, options), { code: 'not-found' });
      assert.equal((await store.stat(repository, id, options)).offsetBytes, 10);
    });

    test('a chunk of another length than declared is rolled back, and the upload goes on from there', async (t) => {
      const { store } = await setUp(t);
      const { bytes, metainfo } = blobOf(1, 3_000_000);
      const { id } = await store.start(repository, {}, options);
      await store.append(repository, id, { body: chunks(bytes.subarray(0, 1_000_000)) }, options);
      for (const lengthBytes of [1_999_999, 2_000_001]) {
        const append = store.append(repository, id, { body: chunks(bytes.subarray(1_000_000)), lengthBytes }, options);
        await assert.rejects(append, (error) => isAppError(error, 'invalid-argument') && error.data['reason'] === 'size');
        assert.equal((await store.stat(repository, id, options)).offsetBytes, 1_000_000);
        assert.equal(store.usage().usedBytes, 1_000_000);
      }
      await store.append(repository, id, { body: chunks(bytes.subarray(1_000_000)), lengthBytes: 2_000_000 }, options);
      assert.deepEqual({ ...(await store.finish(repository, id, metainfo.digest, options)).metainfo }, { ...metainfo });
    });

    test('what arrived before a body broke off is kept', async (t) => {
      const { store } = await setUp(t);
      const { bytes, metainfo } = blobOf(1, 1_500_000);
      const { id } = await store.start(repository, {}, options);
      const broken = then(bytes.subarray(0, 1_200_000), () => Promise.reject(new Error('ECONNRESET')));
      await assert.rejects(store.append(repository, id, { body: broken, lengthBytes: 1_500_000 }, options), { code: 'aborted' });
      assert.equal((await store.stat(repository, id, options)).offsetBytes, 1_200_000);
      await store.append(repository, id, { body: chunks(bytes.subarray(1_200_000)), startByte: 1_200_000 }, options);
      await store.finish(repository, id, metainfo.digest, options);
    });

    test('an abort ends a chunk that is waiting for its body and keeps what arrived', async (t) => {
      const { store } = await setUp(t);
      const { id } = await store.start(repository, {}, options);
      const abort = new AbortController();
      const hung = then(Buffer.alloc(100), () => {
        abort.abort();
        return new Promise(() => undefined);
      });
      await assert.rejects(store.append(repository, id, { body: hung }, { signal: abort.signal }), { code: 'cancelled' });
      assert.equal((await store.stat(repository, id, options)).offsetBytes, 100);
    });

    test('a second chunk at the same time is turned away, and a cancel stops the first', async (t) => {
      const { store, root } = await setUp(t);
      const { id } = await store.start(repository, {}, options);
      const { opened, open } = gate();
      const hung = then(Buffer.alloc(100), () => {
        open();
        return new Promise(() => undefined);
      });
      const first = store.append(repository, id, { body: hung }, options);
      first.catch(() => undefined);
      await opened;
      await assert.rejects(store.append(repository, id, { body: chunks(Buffer.alloc(1)) }, options), { code: 'aborted' });
      await assert.rejects(store.finish(repository, id, digestOf(Buffer.alloc(100)), options), { code: 'aborted' });
      await store.cancel(repository, id, options);
      await assert.rejects(first, { code: 'not-found' });
      await assert.rejects(store.cancel(repository, id, options), { code: 'not-found' });
      assert.deepEqual(await readdir(root), []);
      assert.equal(store.usage().usedBytes, 0);
    });

    test('a session goes on after a restart; leftovers without their other half go', async (t) => {
      const { store, root } = await setUp(t);
      const { bytes, metainfo } = blobOf(1, 2_000_000);
      const { id } = await store.start(repository, {}, options);
      await store.append(repository, id, { body: chunks(bytes.subarray(0, 1_100_000)) }, options);
      await store[Symbol.asyncDispose]();
      await writeFile(join(root, 'a.data'), 'x');
      await writeFile(join(root, 'b.json'), '{}');
      await writeFile(join(root, 'c.json'), '{"repos');
      await writeFile(join(root, 'c.data'), 'x');
      const again = await setUp(t, { root });
      assert.deepEqual((await readdir(root)).sort(), [`${id}.data`, `${id}.json`]);
      assert.deepEqual(await again.store.stat(repository, id, options), { id, offsetBytes: 1_100_000 });
      assert.equal(again.store.usage().usedBytes, 1_100_000);
      await again.store.append(repository, id, { body: chunks(bytes.subarray(1_100_000)) }, options);
      assert.deepEqual({ ...(await again.store.finish(repository, id, metainfo.digest, options)).metainfo }, { ...metainfo });
    });

    test('a session nobody touches expires, one in use does not', async (t) => {
      const { store, clock, root } = await setUp(t, { expiryMs: 10_000 });
      const [idle, used] = [await store.start(repository, {}, options), await store.start(repository, {}, options)] as const;
      clock.advance(9_000);
      await store.stat(repository, used.id, options);
      clock.advance(1_000);
      await until(() => store.usage().sessionCount === 1);
      await assert.rejects(store.stat(repository, idle.id, options), { code: 'not-found' });
      assert.equal((await store.stat(repository, used.id, options)).offsetBytes, 0);
      await until(() => !existsSync(join(root, `${idle.id}.data`)));
    });

    test('sessions and their bytes are bounded', async (t) => {
      const { store } = await setUp(t, { sessionsMax: 2, capacityBytes: 1000 });
      const { id } = await store.start(repository, {}, options);
      const second = await store.start(repository, {}, options);
      await assert.rejects(store.start(repository, {}, options), { code: 'resource-exhausted' });
      await store.append(repository, id, { body: chunks(Buffer.alloc(600)) }, options);
      await assert.rejects(store.append(repository, second.id, { body: chunks(Buffer.alloc(800), 300) }, options), {
        code: 'resource-exhausted',
      });
      assert.equal((await store.stat(repository, second.id, options)).offsetBytes, 300);
      assert.equal(store.usage().usedBytes, 900);
      await store.cancel(repository, id, options);
      await store.append(repository, second.id, { body: chunks(Buffer.alloc(500)) }, options);
    });
  });
}
