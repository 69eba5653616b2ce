/** What every ImageStore must do, whatever holds its images. Run it with {@link imageStoreContract} from a test file of the implementation. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import {
  type CallOptions,
  type Digest,
  type DigestAlgorithm,
  digestOf,
  type ErrorCode,
  type ImageStore,
  type ImageWriter,
  isAppError,
  type ManifestUpload,
  parseRepositoryName,
  parseTag,
  type RepositoryName,
} from '#core';

export interface StoreUnderTest {
  readonly store: ImageStore;
  dispose(): Promise<void>;
}

type Body = (store: ImageStore, writer: ImageWriter) => Promise<void>;

const options: CallOptions = { signal: new AbortController().signal };
const here = parseRepositoryName('contract/here');
const there = parseRepositoryName('contract/there');
const imageType = 'application/vnd.oci.image.manifest.v1+json';

/** Registers the suite. `make` gives an empty store with a writer; `dispose` frees it. */
export function imageStoreContract(name: string, make: () => Promise<StoreUnderTest>): void {
  const test = (title: string, body: Body): void => {
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

type Test = (title: string, body: Body) => void;

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

function manifestTests(test: Test): void {
  test('a manifest reads back by digest and by each of its tags', async (store, writer) => {
    const upload = await image(writer, here, { tags: ['v1', 'V1', 'latest'] });
    await writer.putManifest(here, upload, options);
    for (const reference of [{ digest: upload.digest }, ...upload.tags.map((tag) => ({ tag }))]) {
      const manifest = await store.reader.getManifest(here, reference, options);
      assert.equal(manifest.digest, upload.digest);
      assert.equal(manifest.mediaType, upload.mediaType);
      assert.ok(Buffer.from(manifest.bytes).equals(upload.bytes));
      const { digest, mediaType, sizeBytes } = await store.reader.statManifest(here, reference, options);
      assert.deepEqual(
        { digest, mediaType, sizeBytes },
        { digest: upload.digest, mediaType: imageType, sizeBytes: upload.bytes.byteLength },
      );
    }
  });

  test('an unknown manifest is not found', async (store) => {
    for (const reference of [{ digest: digestOf(randomBytes(8)) }, { tag: parseTag('none') }]) {
      await rejects(store.reader.statManifest(here, reference, options), 'not-found', 'manifest');
      await rejects(store.reader.getManifest(here, reference, options), 'not-found', 'manifest');
    }
  });

  test('a manifest can be stored by SHA-512', async (store, writer) => {
    const upload = await image(writer, here, { algorithm: 'sha512' });
    await writer.putManifest(here, upload, options);
    assert.equal((await store.reader.statManifest(here, { digest: upload.digest }, options)).digest, upload.digest);
  });

  test('a tag moves to the manifest that was put last', async (store, writer) => {
    const first = await image(writer, here, { tags: ['v1'] });
    const second = await image(writer, here, { tags: ['v1'] });
    await writer.putManifest(here, first, options);
    await writer.putManifest(here, second, options);
    assert.equal((await store.reader.statManifest(here, { tag: parseTag('v1') }, options)).digest, second.digest);
    assert.equal((await store.reader.statManifest(here, { digest: first.digest }, options)).digest, first.digest);
  });

  test('putting the same manifest again changes nothing', async (store, writer) => {
    const upload = await image(writer, here, { tags: ['v1'] });
    await writer.putManifest(here, upload, options);
    await writer.putManifest(here, upload, options);
    assert.deepEqual((await store.reader.listTags(here, { limit: 10 }, options)).items, ['v1']);
  });

  test('a manifest of another repository is not found', async (store, writer) => {
    const upload = await image(writer, there, { tags: ['v1'] });
    await writer.putManifest(there, upload, options);
    await rejects(store.reader.statManifest(here, { digest: upload.digest }, options), 'not-found', 'manifest');
  });

  test('missing references are refused, each by name, and no tag appears', async (store, writer) => {
    const blob = digestOf(randomBytes(8));
    const manifest = digestOf(randomBytes(8));
    const either = digestOf(randomBytes(8));
    const elsewhere = await push(writer, there, randomBytes(64));
    const upload = manifestOf({ tags: ['v1'], blobs: [blob, elsewhere], manifests: [manifest], either: [either] });
    await assert.rejects(writer.putManifest(here, upload, options), (error) => {
      assert.ok(isAppError(error, 'failed-precondition'));
      assert.equal(error.data['kind'], 'missing');
      assert.deepEqual(String(error.data['digests']).split(',').toSorted(), [blob, elsewhere, manifest, either].toSorted());
      return true;
    });
    await rejects(store.reader.statManifest(here, { tag: parseTag('v1') }, options), 'not-found', 'manifest');
  });

  test('a child of an unknown type may be a blob or a manifest', async (store, writer) => {
    const child = await image(writer, here, {});
    await writer.putManifest(here, child, options);
    const blob = await push(writer, here, randomBytes(64));
    const index = manifestOf({ either: [blob, child.digest], manifests: [child.digest] });
    await writer.putManifest(here, index, options);
    assert.equal((await store.reader.statManifest(here, { digest: index.digest }, options)).digest, index.digest);
  });
}

function deleteTests(test: Test): void {
  test('a deleted blob is gone at once, in its repository alone, and can be uploaded again', async (store, writer) => {
    const bytes = randomBytes(64);
    const digest = await push(writer, here, bytes);
    await writer.mountBlob(there, digest, here, options);
    await writer.deleteBlob(here, digest, options);
    await rejects(store.reader.statBlob(here, digest, options), 'not-found', 'blob');
    assert.ok((await readAll(store, there, digest)).equals(bytes));
    await push(writer, here, bytes);
    assert.ok((await readAll(store, here, digest)).equals(bytes));
  });

  test('a blob that a manifest refers to can be deleted', async (store, writer) => {
    const upload = await image(writer, here, {});
    await writer.putManifest(here, upload, options);
    for (const digest of upload.blobs) await writer.deleteBlob(here, digest, options);
    assert.equal((await store.reader.statManifest(here, { digest: upload.digest }, options)).digest, upload.digest);
  });

  test('deleting by digest takes the manifest and every tag on it', async (store, writer) => {
    const kept = await image(writer, here, { tags: ['kept'] });
    const upload = await image(writer, here, { tags: ['v1', 'v2'] });
    await writer.putManifest(here, kept, options);
    await writer.putManifest(here, upload, options);
    await writer.deleteManifest(here, { digest: upload.digest }, options);
    await rejects(store.reader.statManifest(here, { digest: upload.digest }, options), 'not-found', 'manifest');
    await rejects(store.reader.getManifest(here, { tag: parseTag('v2') }, options), 'not-found', 'manifest');
    assert.deepEqual((await store.reader.listTags(here, { limit: 10 }, options)).items, ['kept']);
  });

  test('deleting by tag takes the tag alone', async (store, writer) => {
    const upload = await image(writer, here, { tags: ['v1', 'v2'] });
    await writer.putManifest(here, upload, options);
    await writer.deleteManifest(here, { tag: parseTag('v1') }, options);
    await rejects(store.reader.statManifest(here, { tag: parseTag('v1') }, options), 'not-found', 'manifest');
    assert.equal((await store.reader.statManifest(here, { digest: upload.digest }, options)).digest, upload.digest);
    assert.deepEqual((await store.reader.listTags(here, { limit: 10 }, options)).items, ['v2']);
  });

  test('what is not there cannot be deleted', async (_store, writer) => {
    await rejects(writer.deleteBlob(here, digestOf(randomBytes(8)), options), 'not-found', 'blob');
    await rejects(writer.deleteManifest(here, { digest: digestOf(randomBytes(8)) }, options), 'not-found', 'manifest');
    await rejects(writer.deleteManifest(here, { tag: parseTag('none') }, options), 'not-found', 'manifest');
  });
}

function listTests(test: Test): void {
  test('tags come in bytewise order, in pages', async (store, writer) => {
    const upload = await image(writer, here, { tags: ['b', 'B', 'a', '_x', '1', 'a.1', 'a-1', 'A'] });
    await writer.putManifest(here, upload, options);
    const sorted = ['1', 'A', 'B', '_x', 'a', 'a-1', 'a.1', 'b'];
    assert.deepEqual(await store.reader.listTags(here, { limit: 8 }, options), { items: sorted, more: false });
    assert.deepEqual(await store.reader.listTags(here, { limit: 3 }, options), { items: sorted.slice(0, 3), more: true });
    assert.deepEqual(await store.reader.listTags(here, { limit: 3, after: 'B' }, options), { items: sorted.slice(3, 6), more: true });
    assert.deepEqual(await store.reader.listTags(here, { limit: 2, after: 'a-1' }, options), { items: ['a.1', 'b'], more: false });
    assert.deepEqual(await store.reader.listTags(here, { limit: 9, after: 'aZ-gone' }, options), { items: ['b'], more: false });
    assert.deepEqual(await store.reader.listTags(here, { limit: 9, after: 'b' }, options), { items: [], more: false });
  });

  test('the tags of an unknown repository are not found', async (store) => {
    await rejects(store.reader.listTags(here, { limit: 10 }, options), 'not-found', 'repository');
  });

  test('repositories come in bytewise order, in pages', async (store, writer) => {
    const names = ['contract/b', 'contract/a', 'contract/a-b', 'zed'].map(parseRepositoryName);
    for (const name of names) await writer.putManifest(name, await image(writer, name, { tags: ['v1'] }), options);
    const sorted = ['contract/a', 'contract/a-b', 'contract/b', 'zed'];
    assert.deepEqual(await store.reader.listRepositories({ limit: 10 }, options), { items: sorted, more: false });
    const page = await store.reader.listRepositories({ limit: 2, after: 'contract/a' }, options);
    assert.deepEqual(page, { items: sorted.slice(1, 3), more: true });
  });
}

function referrerTests(test: Test): void {
  test('nothing refers to an unknown subject', async (store) => {
    const page = await store.reader.listReferrers(here, digestOf(randomBytes(8)), { limit: 10 }, options);
    assert.deepEqual(page, { items: [], more: false });
  });

  test('referrers are listed in digest order, filtered and in pages, also for a subject that does not exist', async (store, writer) => {
    const subject = digestOf(randomBytes(8));
    const uploads = ['a/x', 'a/y', 'a/x'].map((artifactType, index) => {
      return manifestOf({ subject, artifactType, annotations: { index: String(index) } });
    });
    for (const upload of uploads) await writer.putManifest(here, upload, options);
    await writer.putManifest(there, manifestOf({ subject }), options);
    const expected = uploads.toSorted((a, b) => (a.digest < b.digest ? -1 : 1));
    const all = await store.reader.listReferrers(here, subject, { limit: 10 }, options);
    assert.equal(all.more, false);
    assert.deepEqual(
      all.items.map((item) => ({ ...item, annotations: { ...item.annotations } })),
      expected.map(({ mediaType, digest, bytes, artifactType, annotations }) => {
        return { mediaType, digest, sizeBytes: bytes.byteLength, artifactType, annotations };
      }),
    );
    const xs = await store.reader.listReferrers(here, subject, { limit: 10, artifactType: 'a/x' }, options);
    assert.deepEqual(new Set(xs.items.map(({ artifactType }) => artifactType)), new Set(['a/x']));
    assert.equal(xs.items.length, 2);
    const page = await store.reader.listReferrers(here, subject, { limit: 1, after: expected[0]?.digest ?? '' }, options);
    assert.deepEqual([page.items.map(({ digest }) => digest), page.more], [[expected[1]?.digest], true]);
  });

  test('a deleted manifest refers to nothing, and a deleted subject keeps its referrers', async (store, writer) => {
    const subject = await image(writer, here, {});
    await writer.putManifest(here, subject, options);
    const [first, second] = [manifestOf({ subject: subject.digest }), manifestOf({ subject: subject.digest })];
    await writer.putManifest(here, first, options);
    await writer.putManifest(here, second, options);
    await writer.deleteManifest(here, { digest: first.digest }, options);
    await writer.deleteManifest(here, { digest: subject.digest }, options);
    const { items } = await store.reader.listReferrers(here, subject.digest, { limit: 10 }, options);
    assert.deepEqual(
      items.map(({ digest }) => digest),
      [second.digest],
    );
  });
}

interface ManifestParts {
  readonly tags?: readonly string[];
  readonly blobs?: readonly Digest[];
  readonly manifests?: readonly Digest[];
  readonly either?: readonly Digest[];
  readonly subject?: Digest;
  readonly artifactType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly algorithm?: DigestAlgorithm;
}

/** The store does not read manifests, so their bytes need no meaning here, only to differ. */
function manifestOf(parts: ManifestParts): ManifestUpload {
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, unique: randomBytes(8).toString('hex') }));
  return {
    digest: digestOf(bytes, parts.algorithm ?? 'sha256'),
    mediaType: imageType,
    bytes,
    tags: (parts.tags ?? []).map(parseTag),
    blobs: parts.blobs ?? [],
    manifests: parts.manifests ?? [],
    either: parts.either ?? [],
    subject: parts.subject,
    artifactType: parts.artifactType,
    annotations: parts.annotations ?? {},
  };
}

async function image(writer: ImageWriter, repository: RepositoryName, parts: ManifestParts): Promise<ManifestUpload> {
  const blobs = [await push(writer, repository, randomBytes(32)), await push(writer, repository, randomBytes(64))];
  return manifestOf({ ...parts, blobs });
}

async function push(
  writer: ImageWriter,
  repository: RepositoryName,
  bytes: Buffer,
  algorithm: DigestAlgorithm = 'sha256',
): Promise<Digest> {
  const { id } = await writer.startUpload(repository, {}, options);
  if (bytes.byteLength > 0) await writer.appendUpload(repository, id, { body: chunksOf(bytes) }, options);
  return (await writer.commitUpload(repository, id, digestOf(bytes, algorithm), options)).digest;
}

async function readAll(store: ImageStore, repository: RepositoryName, digest: Digest): Promise<Buffer> {
  await using reader = await store.reader.openBlob(repository, digest, options);
  return collect(reader.read({ startByte: 0, endByte: reader.sizeBytes }, options));
}

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(Uint8Array.from(chunk));
  return Buffer.concat(parts);
}

async function* chunksOf(bytes: Buffer): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += 65_536) yield bytes.subarray(at, at + 65_536);
}

async function* breaksOff(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield* chunksOf(bytes);
  throw new Error('the client went away');
}

async function sessionIsGone(writer: ImageWriter, id: string): Promise<void> {
  await rejects(writer.statUpload(here, id, options), 'not-found', 'upload');
  await rejects(writer.appendUpload(here, id, { body: chunksOf(Buffer.from('x')) }, options), 'not-found', 'upload');
  await rejects(writer.commitUpload(here, id, digestOf(Buffer.alloc(0)), options), 'not-found', 'upload');
  await rejects(writer.cancelUpload(here, id, options), 'not-found', 'upload');
}

async function rejects(promise: Promise<unknown>, code: ErrorCode, kind?: string): Promise<void> {
  await assert.rejects(promise, (error) => isAppError(error, code) && (kind === undefined || error.data['kind'] === kind));
}
