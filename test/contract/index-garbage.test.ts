/** What the index promises to pushes and to the collection of garbage, against the embedded database. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type Digest, digestOf, isAppError, nullMeter, parseRepositoryName, parseTag, SeededRng, silentLogger } from '#core';
import { type NameItem, NamesCollector, type NamesRequest } from '../../services/build-index/collector.ts';
import { claimLifetimeMs } from '../../services/build-index/fences.ts';
import { type RetentionConfig, retentionRules } from '../../services/build-index/retention.ts';
import { IndexStore } from '../../services/build-index/store.ts';
import { manifestEntry as entry } from '../support/manifest-entry.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { tempDir } from '../support/temp.ts';

const repo = parseRepositoryName('library/app');
const other = parseRepositoryName('library/app-2');
const digest = (text: string): Digest => digestOf(Buffer.from(text));
const hourMs = 3_600_000;
const graceMs = 24 * hourMs;
const { signal } = new AbortController();
const collected = (error: unknown) => isAppError(error, 'aborted') && error.data['kind'] === 'collected';

interface Setting {
  readonly store: IndexStore;
  readonly clock: ManualClock;
  readonly collector: NamesCollector;
  readonly link: (name: string, repository?: typeof repo) => Promise<void>;
  readonly collect: (request?: Partial<NamesRequest>) => Promise<readonly NameItem[]>;
}

async function open(t: TestContext, retention: readonly Partial<RetentionConfig>[] = []): Promise<Setting> {
  const clock = new ManualClock();
  const store = await IndexStore.open({ path: tempDir('index') }, { clock });
  t.after(async () => store[Symbol.asyncDispose]());
  const rules = retention.map((rule) => ({ repositories: ['**'], tags: ['**'], protect: [], ...rule }));
  const collector = new NamesCollector(
    { intervalMs: 0, graceMs, tombstoneMs: 30 * graceMs, ruleOf: retentionRules(rules) },
    { store, clock, rng: new SeededRng(1), logger: silentLogger, meter: nullMeter },
  );
  const collect = async (request: Partial<NamesRequest> = {}): Promise<readonly NameItem[]> => {
    const items: NameItem[] = [];
    for await (const progress of collector.run({ dryRun: false, ...request }, { signal })) items.push(...progress.items);
    return items;
  };
  const link: Setting['link'] = async (name, repository = repo) =>
    store.linkBlob(repository, { digest: digest(name), sizeBytes: name.length }, store.fences.current());
  return { store, clock, collector, link, collect };
}

const shows = (store: IndexStore, name: string, repository = repo): boolean => {
  try {
    store.blobLink(repository, digest(name));
    return true;
  } catch {
    return false;
  }
};

test('a link that no manifest reaches goes once nobody has wanted it for the grace', async (t) => {
  const { store, clock, link, collect } = await open(t);
  await link('layer');
  await link('stray');
  await store.putManifest(repo, entry('m', { blobs: [digest('layer')] }), [], 0n);
  clock.advance(graceMs);
  assert.deepEqual(await collect(), []);
  clock.advance(hourMs);
  const [item, ...rest] = await collect();
  assert.deepEqual(rest, []);
  assert.deepEqual(item, { kind: 'blob', repository: repo, digest: digest('stray'), tag: '', sizeBytes: 5, freesBytes: true });
  assert.ok(shows(store, 'layer') && !shows(store, 'stray'));
  assert.deepEqual(await collect(), []);
});

test('a question of a push and a mount begin the grace anew', async (t) => {
  const { store, clock, link, collect } = await open(t);
  for (const name of ['asked', 'mounted', 'old']) await link(name);
  clock.advance(graceMs);
  await store.renewBlobLink(repo, digest('asked'));
  await store.mountBlob(repo, digest('mounted'), undefined);
  clock.advance(graceMs);
  assert.deepEqual(
    (await collect()).map((item) => item.digest),
    [digest('old')],
  );
  await assert.rejects(store.renewBlobLink(repo, digest('old')), (error) => isAppError(error, 'not-found'));
});

test('questions in quick succession cost no further write, and still protect for the whole grace', async (t) => {
  const { store, clock, link, collect } = await open(t);
  await link('asked');
  const before = store.rows.tables.leases.get([repo, digest('asked')]);
  clock.advance(9 * 60_000);
  await store.renewBlobLink(repo, digest('asked'));
  assert.equal(store.rows.tables.leases.get([repo, digest('asked')]), before);
  clock.advance(graceMs);
  assert.deepEqual(await collect(), []);
});

test('a dry run says what goes and leaves everything', async (t) => {
  const { store, clock, link, collect } = await open(t, [{ keepLast: 1, untaggedFor: 0 }]);
  await link('layer');
  await link('layer', other);
  for (const tag of ['v1', 'v2']) await store.putManifest(repo, entry(tag, { blobs: [digest('layer')] }), [parseTag(tag)], 0n);
  clock.advance(2 * graceMs);
  const planned = await collect({ dryRun: true });
  assert.deepEqual(
    planned.map(({ kind, tag, freesBytes }) => [kind, tag, freesBytes]),
    [
      ['tag', 'v1', false],
      ['blob', '', false],
    ],
  );
  assert.equal(store.manifest(repo, { tag: parseTag('v1') }).manifest.digest, digest('v1'));
  assert.ok(shows(store, 'layer', other));
});

test('of tags that a rule covers the latest stay, and those that are young or protected', async (t) => {
  const rule = { repositories: ['library/*'], tags: ['pr-*', 'v*'], protect: ['v1'], keepLast: 2, keepFor: graceMs };
  const { store, clock, collect } = await open(t, [rule]);
  const put = async (tag: string): Promise<void> => {
    await store.putManifest(repo, entry(tag), [parseTag(tag)], 0n);
    clock.advance(1000);
  };
  for (const tag of ['v1', 'main', 'pr-1', 'pr-2', 'pr-3']) await put(tag);
  clock.advance(2 * graceMs);
  await put('pr-4');
  await put('pr-5');
  await put('pr-6');
  const gone = await collect();
  assert.deepEqual(gone.map(({ kind, tag }) => `${kind} ${tag}`).sort(), ['tag pr-1', 'tag pr-2', 'tag pr-3']);
  assert.equal(store.manifest(repo, { digest: digest('pr-1') }).manifest.digest, digest('pr-1'), 'its manifest stays');
});

test('an untagged manifest goes with its blobs, its children and its referrers, after the time since it lost its tag', async (t) => {
  const { store, clock, link, collect } = await open(t, [{ untaggedFor: 48 * hourMs }]);
  for (const name of ['l1', 'l2', 'shared', 'signature']) await link(name);
  await store.putManifest(repo, entry('child', { blobs: [digest('l1'), digest('shared')] }), [], 0n);
  await store.putManifest(repo, entry('index', { manifests: [digest('child')] }), [parseTag('v1')], 0n);
  await store.putManifest(repo, entry('sig', { subject: digest('index'), blobs: [digest('signature')] }), [], 0n);
  await store.putManifest(repo, entry('kept', { blobs: [digest('l2'), digest('shared')] }), [parseTag('v2')], 0n);
  clock.advance(100 * hourMs);
  assert.deepEqual(await collect(), [], 'all of it is reached from tags');
  await store.deleteManifest(repo, { tag: parseTag('v1') });
  clock.advance(47 * hourMs);
  assert.deepEqual(await collect(), []);
  clock.advance(2 * hourMs);
  const gone = await collect();
  const expected = [
    ...['index', 'child', 'sig'].map((name) => `manifest ${digest(name)}`),
    ...['l1', 'signature'].map((name) => `blob ${digest(name)}`),
  ];
  assert.deepEqual(gone.map((item) => `${item.kind} ${item.digest}`).sort(), expected.sort());
  assert.ok(gone.every(({ freesBytes }) => freesBytes));
  assert.ok(shows(store, 'shared') && shows(store, 'l2'));
});

test('an untagged manifest stays without a rule, and a manifest that a push asked for stays for the grace', async (t) => {
  const { store, clock, collect } = await open(t, [{ repositories: ['library/app-2'], untaggedFor: 0 }]);
  await store.putManifest(repo, entry('m'), [], 0n);
  await store.putManifest(other, entry('m'), [], 0n);
  clock.advance(2 * graceMs);
  await store.renewManifest(other, { digest: digest('m') });
  assert.deepEqual(await collect(), []);
  clock.advance(2 * graceMs);
  const gone = await collect();
  assert.deepEqual(
    gone.map(({ repository, freesBytes }) => [repository, freesBytes]),
    [[other, false]],
  );
  assert.deepEqual(store.listRepositories({ limit: 10 }).items, [repo]);
});

test('tombstones go when they are old, live tags never', async (t) => {
  const { store, clock, collect } = await open(t);
  await store.putManifest(repo, entry('m'), ['a', 'b'].map(parseTag), 0n);
  await store.deleteManifest(repo, { tag: parseTag('a') });
  clock.advance(29 * graceMs);
  assert.deepEqual(await collect(), []);
  clock.advance(graceMs);
  assert.deepEqual(
    (await collect()).map(({ kind, tag }) => [kind, tag]),
    [['tombstone', 'a']],
  );
  assert.equal(store.rows.tables.tags.get([repo, 'a']), undefined);
  assert.deepEqual(
    store.listTags(repo, { limit: 10 }).items.map(({ tag }) => tag),
    ['b'],
  );
});

test('only one collection runs at a time, and one that is left can be followed by another', async (t) => {
  const { collector, link, collect } = await open(t);
  await link('a');
  const first = collector.run({ dryRun: false }, { signal });
  await first.next();
  await assert.rejects(collect(), (error) => isAppError(error, 'aborted'));
  await first.return();
  assert.deepEqual(await collect(), []);
});

test('what is claimed cannot be linked; after the release only what was placed since', async (t) => {
  const { store, link } = await open(t);
  await link('shown', other);
  const before = store.fences.current();
  const blob = { digest: digest('layer'), sizeBytes: 5 };
  const claimed = await store.write(() => store.fences.claim([blob.digest, digest('shown')], 'o1'));
  assert.deepEqual(claimed, [blob.digest]);
  await assert.rejects(store.linkBlob(repo, blob, store.fences.current()), collected);
  await assert.rejects(store.putManifest(repo, entry('layer'), [], store.fences.current()), collected);
  await store.write(() => store.fences.release([blob.digest], 'o1'));
  await assert.rejects(store.linkBlob(repo, blob, before), collected);
  await store.linkBlob(repo, blob, store.fences.current());
  assert.deepEqual(await store.write(() => store.fences.claim([blob.digest], 'o1')), []);
});

test('a refused push is told the fence with which it can go on', async (t) => {
  const { store } = await open(t);
  const blob = { digest: digest('layer'), sizeBytes: 5 };
  await store.write(() => store.fences.claim([blob.digest], 'o1'));
  await store.write(() => store.fences.release([blob.digest], 'o1'));
  let fence = 0n;
  await assert.rejects(store.linkBlob(repo, blob, 0n), (error) => {
    assert.ok(isAppError(error, 'aborted'));
    fence = BigInt(String(error.data['fence']));
    return true;
  });
  await store.linkBlob(repo, blob, fence);
});

test('the claims of one origin do not end those of another, and those of a dead one end with their time', async (t) => {
  const { store, clock } = await open(t);
  const blob = { digest: digest('layer'), sizeBytes: 5 };
  for (const origin of ['o1', 'o2']) await store.write(() => store.fences.claim([blob.digest], origin));
  await store.write(() => store.fences.release([blob.digest], 'o1'));
  await assert.rejects(store.linkBlob(repo, blob, store.fences.current()), collected);
  clock.advance(claimLifetimeMs + 1);
  await assert.rejects(store.linkBlob(repo, blob, store.fences.current()), collected, 'it was placed before the time was over');
  await store.linkBlob(repo, blob, store.fences.current());
});

test('old fences go, and a push that is as old has to place its bytes again', async (t) => {
  const { store, clock, collect } = await open(t);
  const before = store.fences.current();
  await store.write(() => store.fences.claim([digest('gone')], 'o1'));
  await store.write(() => store.fences.release([digest('gone')], 'o1'));
  clock.advance(25 * hourMs);
  await collect();
  assert.equal(store.rows.tables.fences.getKeysCount(), 0);
  const blob = { digest: digest('other'), sizeBytes: 5 };
  await assert.rejects(store.linkBlob(repo, blob, before), collected);
  await store.linkBlob(repo, blob, store.fences.current());
});
