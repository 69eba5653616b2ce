/** What the index promises, against the embedded database. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type Digest, digestOf, isAppError, parseRepositoryName, parseTag, type RepositoryName } from '#core';
import { IndexStore } from '../../services/build-index/store.ts';
import { manifestEntry as entry } from '../support/manifest-entry.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { tempDir } from '../support/temp.ts';

const repo = parseRepositoryName('library/app');
const other = parseRepositoryName('library/app-2');
const digest = (text: string): Digest => digestOf(Buffer.from(text));
const tags = (...list: readonly string[]) => list.map(parseTag);
const all = { limit: 1000 };

async function open(t: TestContext, path = tempDir('index'), clock = new ManualClock()): Promise<IndexStore> {
  const store = await IndexStore.open({ path }, { clock });
  t.after(async () => store[Symbol.asyncDispose]());
  return store;
}

const notFound = (kind: string) => (error: unknown) => isAppError(error, 'not-found') && error.data['kind'] === kind;
const tagNames = (store: IndexStore, repository: RepositoryName = repo): string[] =>
  store.listTags(repository, all).items.map(({ tag }) => tag);

test('a blob is visible only in repositories that link it', async (t) => {
  const store = await open(t);
  await store.linkBlob(repo, { digest: digest('b'), sizeBytes: 7 }, 0n);
  assert.deepEqual(store.blobLink(repo, digest('b')), { digest: digest('b'), sizeBytes: 7 });
  assert.throws(() => store.blobLink(other, digest('b')), notFound('blob'));
});

test('a mount needs a source that shows the blob; without one any repository will do', async (t) => {
  const store = await open(t);
  await store.linkBlob(repo, { digest: digest('b'), sizeBytes: 7 }, 0n);
  const third = parseRepositoryName('third');
  await assert.rejects(store.mountBlob(other, digest('b'), third), notFound('blob'));
  assert.deepEqual(await store.mountBlob(other, digest('b'), undefined), { digest: digest('b'), sizeBytes: 7 });
  assert.deepEqual(await store.mountBlob(third, digest('b'), other), { digest: digest('b'), sizeBytes: 7 });
  await store.unlinkBlob(repo, digest('b'));
  assert.equal(store.blobLink(third, digest('b')).sizeBytes, 7);
  await assert.rejects(store.unlinkBlob(repo, digest('b')), notFound('blob'));
});

test('a manifest is refused while something it refers to is missing, and nothing of it stays', async (t) => {
  const store = await open(t);
  await store.linkBlob(repo, { digest: digest('config'), sizeBytes: 1 }, 0n);
  const parts = { blobs: [digest('config'), digest('layer')], manifests: [digest('child')], either: [digest('odd')] };
  await assert.rejects(store.putManifest(repo, entry('m', parts), tags('v1'), 0n), (error) => {
    assert.ok(isAppError(error, 'failed-precondition'));
    assert.equal(error.data['kind'], 'missing');
    assert.equal(error.data['digests'], [digest('layer'), digest('child'), digest('odd')].join(','));
    return true;
  });
  assert.throws(() => store.manifest(repo, { digest: digest('m') }), notFound('manifest'));
  assert.deepEqual(tagNames(store), []);
});

test('a sparse manifest may come before what it refers to', async (t) => {
  const store = await open(t);
  await store.putManifest(repo, entry('m', { blobs: [digest('layer')], manifests: [digest('child')] }), tags('v1'), 0n, { sparse: true });
  assert.deepEqual(store.manifest(repo, { digest: digest('m') }).manifest.manifests, [digest('child')]);
  assert.deepEqual(tagNames(store), ['v1']);
});

test('references to blobs, manifests and either of them are found in the same repository; the subject need not exist', async (t) => {
  const store = await open(t);
  await store.linkBlob(repo, { digest: digest('layer'), sizeBytes: 1 }, 0n);
  await store.putManifest(repo, entry('child'), [], 0n);
  const parts = {
    blobs: [digest('layer')],
    manifests: [digest('child')],
    either: [digest('child'), digest('layer')],
    subject: digest('absent'),
  };
  await store.putManifest(repo, entry('m', parts), [], 0n);
  await assert.rejects(store.putManifest(other, entry('m', parts), [], 0n), (error) => isAppError(error, 'failed-precondition'));
  await assert.rejects(store.putManifest(repo, entry('n', { blobs: [digest('child')] }), [], 0n), (error) =>
    isAppError(error, 'failed-precondition'),
  );
});

test('a manifest is found by its tags and its digest, exactly as it was put', async (t) => {
  const clock = new ManualClock({ wallMs: 1_800_000_000_000 });
  const store = await open(t, tempDir('index'), clock);
  const manifest = entry('m', { artifactType: 'application/x', annotations: { a: 'ü' }, subject: digest('s') });
  const put = await store.putManifest(repo, manifest, tags('v1', 'latest'), 0n);
  assert.deepEqual(
    put.map(({ tag }) => tag),
    ['v1', 'latest'],
  );
  const stored = { ...manifest, pushedMs: 1_800_000_000_000 };
  assert.deepEqual(store.manifest(repo, { digest: digest('m') }), { manifest: stored, tag: undefined });
  assert.deepEqual(store.manifest(repo, { tag: parseTag('latest') }), { manifest: stored, tag: put[1] });
  assert.throws(() => store.manifest(other, { digest: digest('m') }), notFound('manifest'));
});

test('a tag that moves gets a higher version, also when the wall clock goes back and over a restart', async (t) => {
  const path = tempDir('index');
  const first = await IndexStore.open({ path }, { clock: new ManualClock({ wallMs: 2_000_000 }) });
  const [before] = await first.putManifest(repo, entry('a'), tags('v1'), 0n);
  await first[Symbol.asyncDispose]();
  const store = await open(t, path, new ManualClock({ wallMs: 1_000_000 }));
  const [after] = await store.putManifest(repo, entry('b'), tags('v1'), 0n);
  assert.ok(before !== undefined && after !== undefined && after.version > before.version);
  assert.equal(store.manifest(repo, { tag: parseTag('v1') }).manifest.digest, digest('b'));
  assert.equal(store.manifest(repo, { digest: digest('a') }).manifest.digest, digest('a'));
});

test('deleting a manifest takes its tags and its referrer entry along, and only those', async (t) => {
  const store = await open(t);
  await store.putManifest(repo, entry('a', { subject: digest('s') }), tags('v1', 'v2', 'moved'), 0n);
  await store.putManifest(repo, entry('b', { subject: digest('s') }), tags('moved', 'v3'), 0n);
  await store.deleteManifest(repo, { digest: digest('a') });
  assert.deepEqual(tagNames(store), ['moved', 'v3']);
  assert.deepEqual(
    store.listReferrers(repo, digest('s'), all).items.map((one) => one.digest),
    [digest('b')],
  );
  assert.throws(() => store.manifest(repo, { tag: parseTag('v1') }), notFound('manifest'));
  await assert.rejects(store.deleteManifest(repo, { digest: digest('a') }), notFound('manifest'));
});

test('deleting a tag leaves the manifest and its other tags; the tag can be set again with a higher version', async (t) => {
  const store = await open(t);
  const [v1] = await store.putManifest(repo, entry('a'), tags('v1', 'v2'), 0n);
  await store.deleteManifest(repo, { tag: parseTag('v1') });
  assert.deepEqual(tagNames(store), ['v2']);
  await assert.rejects(store.deleteManifest(repo, { tag: parseTag('v1') }), notFound('manifest'));
  assert.equal(store.manifest(repo, { digest: digest('a') }).manifest.digest, digest('a'));
  const [again] = await store.putManifest(repo, entry('a'), tags('v1'), 0n);
  assert.ok(v1 !== undefined && again !== undefined && again.version > v1.version + 1n, 'the tombstone had a version of its own');
});

test('tags come in bytewise order, page by page, after any name', async (t) => {
  const store = await open(t);
  const names = ['10', '9', 'A', '_x', 'a', 'a-b', 'a.b', 'a0', 'aa', 'b'];
  await store.putManifest(repo, entry('m'), tags(...[...names].reverse()), 0n);
  await store.putManifest(other, entry('m'), tags('elsewhere'), 0n);
  const expected = [...names].sort((x, y) => Buffer.compare(Buffer.from(x), Buffer.from(y)));
  assert.deepEqual(tagNames(store), expected);
  const collected: string[] = [];
  for (let after: string | undefined; ; ) {
    const page = store.listTags(repo, { limit: 3, ...(after === undefined ? {} : { after }) });
    collected.push(...page.items.map(({ tag }) => tag));
    after = collected.at(-1);
    if (!page.more) break;
  }
  assert.deepEqual(collected, expected);
  assert.deepEqual(
    store.listTags(repo, { limit: 1, after: 'a/' }).items.map(({ tag }) => tag),
    ['a0'],
  );
  assert.throws(() => store.listTags(parseRepositoryName('nowhere'), all), notFound('repository'));
});

test('repositories come in bytewise order and exist while they have anything', async (t) => {
  const store = await open(t);
  for (const name of ['b', 'a/b', 'a', 'a-b', 'a/b/c'])
    await store.linkBlob(parseRepositoryName(name), { digest: digest('x'), sizeBytes: 1 }, 0n);
  assert.deepEqual(store.listRepositories(all).items, ['a', 'a-b', 'a/b', 'a/b/c', 'b']);
  assert.deepEqual(store.listRepositories({ limit: 2, after: 'a' }), { items: ['a-b', 'a/b'], more: true });
  const a = parseRepositoryName('a');
  await store.putManifest(a, entry('m'), tags('v1'), 0n);
  await store.unlinkBlob(a, digest('x'));
  assert.equal(store.listRepositories(all).items[0], 'a');
  await store.deleteManifest(a, { digest: digest('m') });
  assert.equal(store.listRepositories(all).items[0], 'a-b');
  assert.throws(() => store.listTags(a, all), notFound('repository'));
});

test('referrers come in digest order and can be filtered by artifact type', async (t) => {
  const store = await open(t);
  const signature = { subject: digest('s'), artifactType: 'application/signature' };
  for (const name of ['1', '2', '3']) await store.putManifest(repo, entry(name, signature), [], 0n);
  await store.putManifest(repo, entry('sbom', { subject: digest('s'), artifactType: 'application/sbom' }), [], 0n);
  const signatures = ['1', '2', '3'].map(digest).sort();
  const filter = { artifactType: 'application/signature' };
  assert.deepEqual(
    store.listReferrers(repo, digest('s'), { ...filter, limit: 10 }).items.map((one) => one.digest),
    signatures,
  );
  const page = store.listReferrers(repo, digest('s'), { ...filter, limit: 2 });
  assert.deepEqual([page.items.length, page.more], [2, true]);
  const rest = store.listReferrers(repo, digest('s'), { ...filter, limit: 2, after: signatures[1] ?? '' });
  assert.deepEqual([rest.items.map((one) => one.digest), rest.more], [signatures.slice(2), false]);
  assert.deepEqual(store.listReferrers(other, digest('s'), all), { items: [], more: false });
});

test('what was written is there after a restart', async (t) => {
  const path = tempDir('index');
  const first = await IndexStore.open({ path }, { clock: new ManualClock() });
  await first.linkBlob(repo, { digest: digest('layer'), sizeBytes: 3 }, 0n);
  await first.putManifest(repo, entry('m', { blobs: [digest('layer')] }), tags('v1'), 0n);
  await first[Symbol.asyncDispose]();
  const store = await open(t, path);
  assert.equal(store.manifest(repo, { tag: parseTag('v1') }).manifest.digest, digest('m'));
  assert.equal(store.blobLink(repo, digest('layer')).sizeBytes, 3);
});

test('concurrent writes to one tag leave one winner with the highest version', async (t) => {
  const store = await open(t);
  const puts = await Promise.all(Array.from({ length: 20 }, (_, i) => store.putManifest(repo, entry(`m${i}`), tags('latest'), 0n)));
  const winner = puts.flat().reduce((best, one) => (one.version > best.version ? one : best));
  assert.equal(new Set(puts.flat().map(({ version }) => version)).size, 20);
  assert.deepEqual(store.manifest(repo, { tag: parseTag('latest') }).tag, winner);
  assert.deepEqual(tagNames(store), ['latest']);
});
