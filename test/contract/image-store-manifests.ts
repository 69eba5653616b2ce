/** The part of the ImageStore contract about manifests, tags, lists and referrers. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { digestOf, isAppError, parseRepositoryName, parseTag } from '#core';
import { here, image, imageType, manifestOf, options, push, readAll, rejects, type Test, there } from './image-store-kit.ts';

export function manifestTests(test: Test): void {
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

  test('a sparse manifest may come without what it refers to', async (store, writer) => {
    const manifest = await image(writer, here, { tags: ['v1'] });
    const sparse = { ...manifest, blobs: [digestOf(randomBytes(8))], manifests: [digestOf(randomBytes(8))], sparse: true };
    await writer.putManifest(here, sparse, options);
    assert.equal((await store.reader.statManifest(here, { tag: parseTag('v1') }, options)).digest, manifest.digest);
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

export function deleteTests(test: Test): void {
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

export function listTests(test: Test): void {
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

export function referrerTests(test: Test): void {
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
