import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { digestOf, isAppError, parseRepositoryName, silentLogger } from '#core';
import { type CallContext, digestFromProto, digestToProto, required } from '#wire';
import { buildIndexHandlers } from '../../../services/build-index/handlers.ts';
import { IndexStore } from '../../../services/build-index/store.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { tempDir } from '../../support/temp.ts';

const context: CallContext = {
  caller: { role: 'proxy', id: 'p1' },
  callerAddress: '127.0.0.1:1',
  signal: new AbortController().signal,
  logger: silentLogger,
};
const digest = digestToProto(digestOf(Buffer.from('x')));
const malformed = (error: unknown): boolean => isAppError(error, 'invalid-argument');

/** A manifest of 1.5 MiB in the index. */
const bare = {
  mediaType: 'application/vnd.oci.image.manifest.v1+json',
  sizeBytes: 1,
  artifactType: undefined,
  annotations: { note: 'x'.repeat(1.5 * 1024 * 1024) },
  blobs: [],
  manifests: [],
  either: [],
  pushedMs: 0,
};

async function open(t: TestContext): Promise<{ store: IndexStore; handlers: ReturnType<typeof buildIndexHandlers> }> {
  const store = await IndexStore.open({ path: tempDir('index') }, { clock: new ManualClock() });
  t.after(async () => store[Symbol.asyncDispose]());
  return { store, handlers: buildIndexHandlers(store) };
}

test('names, digests, page sizes and references are checked', async (t) => {
  const { handlers } = await open(t);
  await assert.rejects(handlers.linkBlob({ repository: 'UPPER', link: { digest, sizeBytes: 1n }, fence: 0n }, context), malformed);
  await assert.rejects(handlers.linkBlob({ repository: 'a', link: undefined, fence: 0n }, context), malformed);
  await assert.rejects(handlers.getBlobLink({ repository: 'a', digest: { algorithm: 1, value: new Uint8Array(3) } }, context), malformed);
  await assert.rejects(handlers.listTags({ repository: 'a', pageSize: 1001, pageToken: '' }, context), malformed);
  await assert.rejects(handlers.getManifest({ repository: 'a', reference: undefined }, context), malformed);
  await assert.rejects(handlers.getManifest({ repository: 'a', reference: { $case: 'tag', tag: '-' } }, context), malformed);
});

test('the next page token is the last name of the page and is empty on the last page', async (t) => {
  const { store, handlers } = await open(t);
  for (const name of ['a', 'b', 'c'])
    await store.linkBlob(parseRepositoryName(name), { digest: digestOf(Buffer.from('x')), sizeBytes: 1 }, 0n);
  const first = await handlers.listRepositories({ pageSize: 2, pageToken: '' }, context);
  assert.deepEqual(first, { repositories: ['a', 'b'], nextPageToken: 'b' });
  assert.deepEqual(await handlers.listRepositories({ pageSize: 2, pageToken: 'b' }, context), { repositories: ['c'], nextPageToken: '' });
});

test('a page token may be any text of any length', async (t) => {
  const { store, handlers } = await open(t);
  await store.linkBlob(parseRepositoryName('zz'), { digest: digestOf(Buffer.from('x')), sizeBytes: 1 }, 0n);
  const answer = await handlers.listRepositories({ pageSize: 2, pageToken: 'z'.repeat(100_000) }, context);
  assert.deepEqual(answer.repositories, []);
  assert.deepEqual((await handlers.listRepositories({ pageSize: 2, pageToken: 'y'.repeat(5000) }, context)).repositories, ['zz']);
});

test('a page of referrers ends at 4 MiB, and the next one goes on behind it', async (t) => {
  const { store, handlers } = await open(t);
  const subject = digestOf(Buffer.from('subject'));
  const pushed = ['a', 'b', 'c', 'd', 'e'].map((name) => digestOf(Buffer.from(name)));
  for (const each of pushed) await store.putManifest(parseRepositoryName('r'), { ...bare, digest: each, subject }, [], 0n);
  const seen: string[] = [];
  const counts: number[] = [];
  let pageToken = '';
  do {
    const request = { repository: 'r', subject: digestToProto(subject), artifactType: '', pageSize: 10, pageToken };
    const answer = await handlers.listReferrers(request, context);
    seen.push(...answer.manifests.map((record) => digestFromProto(required(record.digest, 'digest'))));
    counts.push(answer.manifests.length);
    pageToken = answer.nextPageToken;
  } while (pageToken !== '');
  assert.deepEqual(counts, [2, 2, 1]);
  assert.deepEqual(seen, [...pushed].sort());
});

test('a record beyond the size of a page is a page of its own', async (t) => {
  const { store, handlers } = await open(t);
  const subject = digestOf(Buffer.from('subject'));
  const large = { ...bare, annotations: { note: 'x'.repeat(5 * 1024 * 1024) } };
  for (const name of ['a', 'b'])
    await store.putManifest(parseRepositoryName('r'), { ...large, digest: digestOf(Buffer.from(name)), subject }, [], 0n);
  const request = { repository: 'r', subject: digestToProto(subject), artifactType: '', pageSize: 10, pageToken: '' };
  const first = await handlers.listReferrers(request, context);
  const second = await handlers.listReferrers({ ...request, pageToken: first.nextPageToken }, context);
  assert.deepEqual([first.manifests.length, second.manifests.length, second.nextPageToken], [1, 1, '']);
});
