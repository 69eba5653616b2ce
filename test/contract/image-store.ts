/** What every ImageStore must do, whatever holds its images. Run it with {@link imageStoreContract} from a test file of the implementation. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { digestOf, type ImageStore, isAppError, parseRepositoryName } from '#core';
import { breaksOff, chunksOf, collect, here, options, push, readAll, rejects, sessionIsGone, type Test, there } from './image-store-kit.ts';
import { deleteTests, listTests, manifestTests, referrerTests } from './image-store-manifests.ts';

export interface StoreUnderTest {
  readonly store: ImageStore;
  dispose(): Promise<void>;
}

/** Registers the suite. `make` gives an empty store with a writer; `dispose` frees it. */
export function imageStoreContract(name: string, make: () => Promise<StoreUnderTest>): void {
  const test: Test = (title, body) => {
    it(title, async () => {
      const made = await make();
      try {
        assert.ok(made.store.writer, 'the contract needs a writer');
        await body(made.store, made.store.writer);
      } finally {
        await made.dispose();
      }
    });
  };
  describe(`${name}: blobs`, () => blobTests(test));
  describe(`${name}: uploads`, () => uploadTests(test));
  describe(`${name}: broken uploads`, () => brokenUploadTests(test));
  describe(`${name}: manifests`, () => manifestTests(test));
  describe(`${name}: deletes`, () => deleteTests(test));
  describe(`${name}: lists`, () => listTests(test));
  describe(`${name}: referrers`, () => referrerTests(test));
}

function blobTests(test: Test): void {
  test('a blob reads back whole and in part', async (store, writer) => {
    const bytes = randomBytes(700_000);
    const digest = await push(writer, here, bytes);
    assert.deepEqual(await store.reader.statBlob(here, digest, options), { digest, sizeBytes: bytes.byteLength });
    await using reader = await store.reader.openBlob(here, digest, options);
    assert.equal(reader.sizeBytes, bytes.byteLength);
    assert.ok((await collect(reader.read({ startByte: 0, endByte: bytes.byteLength }, options))).equals(bytes));
    assert.ok((await collect(reader.read({ startByte: 262_100, endByte: 300_001 }, options))).equals(bytes.subarray(262_100, 300_001)));
    assert.ok((await collect(reader.read({ startByte: 699_999, endByte: 700_000 }, options))).equals(bytes.subarray(699_999)));
  });

  test('two reads of one reader run at once', async (store, writer) => {
    const bytes = randomBytes(600_000);
    const digest = await push(writer, here, bytes);
    await using reader = await store.reader.openBlob(here, digest, options);
    const [first, second] = await Promise.all([
      collect(reader.read({ startByte: 0, endByte: 400_000 }, options)),
      collect(reader.read({ startByte: 200_000, endByte: 600_000 }, options)),
    ]);
    assert.ok(first.equals(bytes.subarray(0, 400_000)));
    assert.ok(second.equals(bytes.subarray(200_000)));
  });

  test('a read ends when its signal aborts', async (store, writer) => {
    const digest = await push(writer, here, randomBytes(2_000_000));
    await using reader = await store.reader.openBlob(here, digest, options);
    const controller = new AbortController();
    const chunks = reader.read({ startByte: 0, endByte: 2_000_000 }, { signal: controller.signal })[Symbol.asyncIterator]();
    await chunks.next();
    controller.abort();
    await assert.rejects(async () => {
      while ((await chunks.next()).done !== true);
    });
  });

  test('an unknown blob is not found', async (store) => {
    const digest = digestOf(randomBytes(8));
    await rejects(store.reader.statBlob(here, digest, options), 'not-found', 'blob');
    await rejects(store.reader.openBlob(here, digest, options), 'not-found', 'blob');
  });

  test('a blob is visible only in its repository until it is mounted', async (store, writer) => {
    const digest = await push(writer, there, randomBytes(64));
    await rejects(store.reader.statBlob(here, digest, options), 'not-found', 'blob');
    assert.equal(await writer.mountBlob(here, digest, there, options), true);
    assert.equal((await store.reader.statBlob(here, digest, options)).sizeBytes, 64);
  });

  test('a mount without a source finds the blob anywhere', async (store, writer) => {
    const digest = await push(writer, there, randomBytes(64));
    assert.equal(await writer.mountBlob(here, digest, undefined, options), true);
    assert.equal((await store.reader.statBlob(here, digest, options)).digest, digest);
  });

  test('a mount of what the source does not hold is declined', async (store, writer) => {
    const digest = await push(writer, there, randomBytes(64));
    const elsewhere = parseRepositoryName('contract/elsewhere');
    assert.equal(await writer.mountBlob(here, digest, elsewhere, options), false);
    assert.equal(await writer.mountBlob(here, digestOf(randomBytes(8)), undefined, options), false);
    await rejects(store.reader.statBlob(here, digest, options), 'not-found', 'blob');
  });
}

function uploadTests(test: Test): void {
  test('an upload grows chunk by chunk and commits', async (store, writer) => {
    const bytes = randomBytes(300_000);
    const { id, offsetBytes } = await writer.startUpload(here, {}, options);
    assert.equal(offsetBytes, 0);
    const first = { body: chunksOf(bytes.subarray(0, 100_000)), startByte: 0, lengthBytes: 100_000 };
    assert.deepEqual(await writer.appendUpload(here, id, first, options), { id, offsetBytes: 100_000 });
    const second = { body: chunksOf(bytes.subarray(100_000)) };
    assert.deepEqual(await writer.appendUpload(here, id, second, options), { id, offsetBytes: 300_000 });
    assert.deepEqual(await writer.statUpload(here, id, options), { id, offsetBytes: 300_000 });
    const digest = digestOf(bytes);
    assert.deepEqual(await writer.commitUpload(here, id, digest, options), { digest, sizeBytes: 300_000 });
    assert.ok((await readAll(store, here, digest)).equals(bytes));
  });

  test('an empty blob can be uploaded', async (store, writer) => {
    const digest = await push(writer, here, Buffer.alloc(0));
    assert.equal((await store.reader.statBlob(here, digest, options)).sizeBytes, 0);
  });

  test('a blob can be committed by SHA-512 without a hint', async (store, writer) => {
    const bytes = randomBytes(1000);
    const digest = await push(writer, here, bytes, 'sha512');
    assert.ok((await readAll(store, here, digest)).equals(bytes));
  });

  test('the hint of an algorithm does not bind the commit', async (store, writer) => {
    const bytes = randomBytes(1000);
    const { id } = await writer.startUpload(here, { algorithm: 'sha512' }, options);
    await writer.appendUpload(here, id, { body: chunksOf(bytes) }, options);
    await writer.commitUpload(here, id, digestOf(bytes), options);
    assert.equal((await store.reader.statBlob(here, digestOf(bytes), options)).sizeBytes, 1000);
  });

  test('the same blob can be uploaded twice, also at once', async (store, writer) => {
    const bytes = randomBytes(100_000);
    const [first, second] = await Promise.all([push(writer, here, bytes), push(writer, here, bytes)]);
    assert.equal(first, second);
    assert.ok((await readAll(store, here, await push(writer, here, bytes))).equals(bytes));
  });

  test('a session is unknown after its commit', async (_store, writer) => {
    const { id } = await writer.startUpload(here, {}, options);
    await writer.commitUpload(here, id, digestOf(Buffer.alloc(0)), options);
    await sessionIsGone(writer, id);
  });

  test('a session is unknown after its cancellation', async (_store, writer) => {
    const { id } = await writer.startUpload(here, {}, options);
    await writer.cancelUpload(here, id, options);
    await sessionIsGone(writer, id);
  });

  test('a session is unknown in another repository', async (_store, writer) => {
    const { id } = await writer.startUpload(here, {}, options);
    await rejects(writer.statUpload(there, id, options), 'not-found', 'upload');
    await rejects(writer.commitUpload(there, id, digestOf(Buffer.alloc(0)), options), 'not-found', 'upload');
    await rejects(writer.cancelUpload(there, id, options), 'not-found', 'upload');
    assert.equal((await writer.statUpload(here, id, options)).offsetBytes, 0);
  });
}

function brokenUploadTests(test: Test): void {
  test('a chunk in the wrong place is refused and the session lives on', async (store, writer) => {
    const bytes = randomBytes(200);
    const { id } = await writer.startUpload(here, {}, options);
    const chunk = (startByte: number) => ({ body: chunksOf(bytes.subarray(0, 100)), startByte, lengthBytes: 100 });
    await rejects(writer.appendUpload(here, id, chunk(100), options), 'out-of-range');
    await writer.appendUpload(here, id, chunk(0), options);
    await rejects(writer.appendUpload(here, id, chunk(0), options), 'out-of-range');
    await rejects(writer.appendUpload(here, id, chunk(101), options), 'out-of-range');
    assert.equal((await writer.statUpload(here, id, options)).offsetBytes, 100);
    await writer.appendUpload(here, id, { body: chunksOf(bytes.subarray(100)), startByte: 100, lengthBytes: 100 }, options);
    await writer.commitUpload(here, id, digestOf(bytes), options);
    assert.ok((await readAll(store, here, digestOf(bytes))).equals(bytes));
  });

  for (const [kind, declaredBytes] of [
    ['shorter', 150],
    ['longer', 50],
  ] as const) {
    test(`a body ${kind} than declared rolls the session back`, async (_store, writer) => {
      const bytes = randomBytes(180);
      const { id } = await writer.startUpload(here, {}, options);
      await writer.appendUpload(here, id, { body: chunksOf(bytes.subarray(0, 80)) }, options);
      const chunk = { body: chunksOf(bytes.subarray(80)), startByte: 80, lengthBytes: declaredBytes };
      await assert.rejects(writer.appendUpload(here, id, chunk, options), (error) => {
        return isAppError(error, 'invalid-argument') && error.data['reason'] === 'size';
      });
      assert.equal((await writer.statUpload(here, id, options)).offsetBytes, 80);
      await writer.appendUpload(here, id, { body: chunksOf(bytes.subarray(80)), startByte: 80, lengthBytes: 100 }, options);
      await writer.commitUpload(here, id, digestOf(bytes), options);
    });
  }

  test('what arrived of a broken body is kept and the upload resumes there', async (store, writer) => {
    const bytes = randomBytes(500_000);
    const { id } = await writer.startUpload(here, {}, options);
    await assert.rejects(writer.appendUpload(here, id, { body: breaksOff(bytes.subarray(0, 300_000)) }, options));
    const { offsetBytes } = await writer.statUpload(here, id, options);
    assert.ok(offsetBytes <= 300_000);
    await writer.appendUpload(here, id, { body: chunksOf(bytes.subarray(offsetBytes)), startByte: offsetBytes }, options);
    await writer.commitUpload(here, id, digestOf(bytes), options);
    assert.ok((await readAll(store, here, digestOf(bytes))).equals(bytes));
  });

  test('a commit by a wrong digest is refused and ends the session', async (store, writer) => {
    const { id } = await writer.startUpload(here, {}, options);
    await writer.appendUpload(here, id, { body: chunksOf(randomBytes(100)) }, options);
    const digest = digestOf(randomBytes(100));
    await rejects(writer.commitUpload(here, id, digest, options), 'digest-mismatch');
    await rejects(writer.statUpload(here, id, options), 'not-found', 'upload');
    await rejects(store.reader.statBlob(here, digest, options), 'not-found', 'blob');
  });

  test('chunks of one session never interleave', async (_store, writer) => {
    const bytes = randomBytes(1000);
    const { id } = await writer.startUpload(here, {}, options);
    let open: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const slow = async function* (): AsyncGenerator<Uint8Array> {
      yield bytes.subarray(0, 500);
      await gate;
      yield bytes.subarray(500);
    };
    const first = writer.appendUpload(here, id, { body: slow(), startByte: 0 }, options);
    const second = writer.appendUpload(here, id, { body: chunksOf(randomBytes(10)), startByte: 0 }, options);
    open();
    await assert.rejects(second);
    assert.equal((await first).offsetBytes, 1000);
    await writer.commitUpload(here, id, digestOf(bytes), options);
  });
}
