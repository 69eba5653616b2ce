/** What the older suites ask of a registry: lists of tags and referrers, and deletion. */
import assert from 'node:assert/strict';
import { descriptorOf, jsonContent, mediaTypes, randomContent } from './content.ts';
import { type DataContext, manifestPath, tagsOf } from './data-checks.ts';
import { legacyImage, putLegacy, tearDown } from './legacy-pull.ts';
import { blobPath, pushBlob } from './push-blob.ts';
import { referrersOf } from './referrer-checks.ts';
import { checkHeader, type Registry } from './registry.ts';

const tagNames = ['test0', 'test1', 'test2', 'test3', 'TEST0', 'TEST1', 'TEST2', 'TEST3'];

export async function checkLegacyDiscovery({ registry, repository, check }: DataContext): Promise<void> {
  const image = legacyImage();
  await check('setup tags', async () => {
    for (const blob of [image.config, image.layer]) await pushBlob(registry, repository, 'post+put', blob);
    for (const tag of tagNames) await putLegacy(registry, repository, tag, image.manifest);
  });
  await check('tags are listed, sorted and case-sensitive', async () => {
    assert.deepEqual(await tagsOf(registry, repository), [...tagNames].sort());
  });
  for (const n of [1, 4, 8]) {
    await check(`n=${n} gives exactly ${n}`, async () => {
      assert.deepEqual(await tagsOf(registry, repository, { n: String(n) }), [...tagNames].sort().slice(0, n));
    });
  }
  await check('last sets the start and is left out itself', async () => {
    const tags = await tagsOf(registry, repository, { n: '4', last: 'TEST1' });
    assert.deepEqual(tags, ['TEST2', 'TEST3', 'test0', 'test1']);
  });
  await check('a page names the next one', async () => {
    const reply = await registry.expect(200, 'GET', `/v2/${repository}/tags/list`, { query: { n: '3' } });
    const link = String(reply.headers['link']);
    const next = /^<([^>]+)>; rel="next"$/.exec(link)?.[1] ?? '';
    assert.ok(next.startsWith(`/v2/${repository}/tags/list?`), `link ${link}`);
    await registry.expect(200, 'GET', next);
  });
  await checkLegacyReferrers({ registry, repository, check });
  await check('teardown', async () => tearDown(registry, repository, image));
}

/** Four manifests and an index refer to one subject, some of them pushed before it. */
async function checkLegacyReferrers({ registry, repository, check }: DataContext): Promise<void> {
  const subject = legacyImage();
  const subjectDescriptor = descriptorOf(subject.manifest, mediaTypes.manifest);
  const empty = jsonContent({});
  const types = ['application/vnd.example.a', 'application/vnd.example.b'] as const;
  const refer = (index: number): ReturnType<typeof jsonContent> =>
    jsonContent({
      schemaVersion: 2,
      mediaType: mediaTypes.manifest,
      ...(index < 2 ? { artifactType: types[0] } : {}),
      config: descriptorOf(empty, index < 2 ? mediaTypes.empty : types[1]),
      layers: [descriptorOf(empty, mediaTypes.empty)],
      subject: subjectDescriptor,
      annotations: { 'org.example.name': `referrer-${index}` },
    });
  const index = jsonContent({
    schemaVersion: 2,
    mediaType: mediaTypes.index,
    artifactType: 'application/vnd.example.index',
    manifests: [],
    subject: subjectDescriptor,
    annotations: { 'org.example.name': 'referrer-index' },
  });
  const referrers = [0, 1, 2, 3].map(refer);
  const missing = descriptorOf(randomContent(20), mediaTypes.manifest);
  const orphan = jsonContent({
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    artifactType: types[0],
    config: descriptorOf(empty, mediaTypes.empty),
    layers: [descriptorOf(empty, mediaTypes.empty)],
    subject: missing,
  });
  await check('referrers: setup, some before their subject', async () => {
    for (const blob of [empty, subject.config, subject.layer]) await pushBlob(registry, repository, 'post+put', blob);
    for (const manifest of referrers.slice(0, 2)) await putReferrer(registry, repository, manifest, subject.manifest.digest);
    await putLegacy(registry, repository, 'subject', subject.manifest);
    for (const manifest of referrers.slice(2)) await putReferrer(registry, repository, manifest, subject.manifest.digest);
    await putReferrer(registry, repository, index, subject.manifest.digest, mediaTypes.index);
    await putReferrer(registry, repository, orphan, missing.digest);
  });
  await check('referrers: of a nonexistent manifest are none', async () => {
    assert.deepEqual((await referrersOf(registry, repository, randomContent(8).digest)).referrers, []);
  });
  await check('referrers: all of them, with one annotation each', async () => {
    const found = (await referrersOf(registry, repository, subject.manifest.digest)).referrers;
    assert.equal(found.length, 5);
    const names = found.map(({ annotations }) => annotations?.['org.example.name']).sort();
    assert.deepEqual(names, ['referrer-0', 'referrer-1', 'referrer-2', 'referrer-3', 'referrer-index']);
    for (const { annotations = {} } of found) assert.equal(Object.keys(annotations).length, 1);
  });
  await check('referrers: filtered', async () => {
    const found = await referrersOf(registry, repository, subject.manifest.digest, types[0]);
    assert.equal(found.filtersApplied, 'artifactType');
    assert.deepEqual(found.referrers.map(({ digest }) => digest).sort(), [referrers[0]?.digest, referrers[1]?.digest].sort());
  });
  await check('referrers: of a manifest that was never pushed', async () => {
    const found = (await referrersOf(registry, repository, missing.digest)).referrers;
    assert.deepEqual(
      found.map(({ digest }) => digest),
      [orphan.digest],
    );
  });
  await check('referrers: teardown', async () => {
    for (const { digest } of [...referrers, index, orphan]) await registry.expect(202, 'DELETE', manifestPath(repository, digest));
    assert.deepEqual((await referrersOf(registry, repository, subject.manifest.digest)).referrers, []);
    await tearDown(registry, repository, subject);
  });
}

async function putReferrer(
  registry: Registry,
  repository: string,
  { digest, bytes }: ReturnType<typeof jsonContent>,
  subject: string,
  mediaType: string = mediaTypes.manifest,
): Promise<void> {
  const headers = { 'content-type': mediaType };
  const reply = await registry.expect(201, 'PUT', manifestPath(repository, digest), { body: bytes, headers });
  checkHeader(reply, 'oci-subject', subject, true);
}

export async function checkLegacyManagement({ registry, repository, check }: DataContext): Promise<void> {
  const [image, other] = [legacyImage(), legacyImage()];
  await check('setup config, layer and tags', async () => {
    for (const { config, layer } of [image, other]) {
      for (const blob of [config, layer]) await pushBlob(registry, repository, 'post+put', blob);
    }
    for (const tag of ['first', 'second']) await putLegacy(registry, repository, tag, image.manifest);
    await putLegacy(registry, repository, 'stays', other.manifest);
  });
  await check('DELETE of a tag is 202', async () => {
    await registry.expect(202, 'DELETE', manifestPath(repository, 'first'));
    await registry.expect(404, 'GET', manifestPath(repository, 'first'));
    await registry.expect(200, 'GET', manifestPath(repository, image.manifest.digest));
  });
  await check('DELETE of a manifest is 202', async () => {
    await registry.expect(202, 'DELETE', manifestPath(repository, image.manifest.digest));
  });
  await check('GET of a deleted manifest is 404', async () => {
    await registry.expect(404, 'GET', manifestPath(repository, image.manifest.digest));
    await registry.expect(404, 'GET', manifestPath(repository, 'second'));
  });
  await check('the tags of a deleted manifest are gone from the list', async () => {
    assert.deepEqual(await tagsOf(registry, repository), ['stays']);
  });
  for (const [kind, { digest }] of [
    ['config', image.config],
    ['layer', image.layer],
  ] as const) {
    await check(`DELETE of the ${kind} blob is 202`, async () => {
      await registry.expect(202, 'DELETE', blobPath(repository, digest));
    });
    await check(`GET of the deleted ${kind} blob is 404`, async () => {
      await registry.expect(404, 'GET', blobPath(repository, digest));
    });
  }
  await check('after the last tag the list is empty, and no error, while blobs are there', async () => {
    await registry.expect(202, 'DELETE', manifestPath(repository, 'stays'));
    assert.deepEqual(await tagsOf(registry, repository), []);
    await registry.expect(202, 'DELETE', manifestPath(repository, other.manifest.digest));
    assert.deepEqual(await tagsOf(registry, repository), []);
  });
  await check('teardown', async () => {
    for (const { digest } of [other.config, other.layer]) await registry.expect(202, 'DELETE', blobPath(repository, digest));
  });
}
