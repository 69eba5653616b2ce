/** Pushes each data set, finds it in lists, by HEAD, by GET and as referrers, and deletes it again. */
import assert from 'node:assert/strict';
import { type Content, digestOf, mediaTypes } from './content.ts';
import type { DataSet, PushedManifest } from './data-set.ts';
import { DataSetBuilder } from './data-set.ts';
import { deleteBlob, getBlob, headBlob, pushBlob, waysOfPushing } from './push-blob.ts';
import type { Check } from './recorder.ts';
import { checkReferrers } from './referrer-checks.ts';
import { checkHeader, jsonOf, locationOf, type Registry, type Reply } from './registry.ts';

export interface DataContext {
  readonly registry: Registry;
  readonly repository: string;
  readonly check: Check;
}

export const manifestPath = (repository: string, reference: string): string => `/v2/${repository}/manifests/${reference}`;

/** How a manifest is asked for: by its digest and by each of its tags. */
export function referencesOf({ digest, tag, tagParameters = [] }: PushedManifest): readonly { kind: string; reference: string }[] {
  const tags = [...(tag === undefined ? [] : [tag]), ...tagParameters];
  return [{ kind: 'by digest', reference: digest }, ...tags.map((reference) => ({ kind: `by tag ${reference}`, reference }))];
}

export async function checkDataSet(context: DataContext, set: DataSet): Promise<void> {
  await pushDataSet(context, set);
  await checkTagList(context, set);
  await readDataSet(context, set);
  await checkReferrers(context, set);
  await deleteDataSet(context, set);
}

export async function pushDataSet({ registry, repository, check }: DataContext, set: DataSet): Promise<void> {
  for (const [index, blob] of set.blobs.entries()) {
    const way = waysOfPushing[index % waysOfPushing.length] ?? 'post+put';
    await check(`${set.name}/push/blob ${index + 1} ${way}`, async () => pushBlob(registry, repository, way, blob));
  }
  for (const [index, manifest] of set.manifests.entries()) {
    const { digest, tag, tagParameters = [] } = manifest;
    await check(`${set.name}/push/manifest ${index + 1} by digest`, async () => {
      const reply = await putManifest(registry, repository, digest, manifest, tagParameters);
      const accepted = [reply.headers['oci-tag'] ?? []].flat().flatMap((value) => value.split(/\s*,\s*/));
      assert.deepEqual(accepted.sort(), [...tagParameters].sort(), 'OCI-Tag');
    });
    if (tag === undefined) continue;
    await check(`${set.name}/push/manifest ${index + 1} by tag`, async () => {
      await putManifest(registry, repository, tag, manifest);
    });
  }
}

/** Go's clients send each type they take in a line of its own. */
const manifestAccept = { accept: [mediaTypes.index, mediaTypes.manifest] };

/** Pushes a manifest without saying its length; its Location must return it exactly. */
async function putManifest(
  registry: Registry,
  repository: string,
  reference: string,
  manifest: PushedManifest,
  tagParameters: readonly string[] = [],
): Promise<Reply> {
  const { bytes, mediaType, subject } = manifest;
  const headers = { 'content-type': mediaType };
  const query = tagParameters.length === 0 ? {} : { tag: tagParameters };
  const reply = await registry.expect(201, 'PUT', manifestPath(repository, reference), { body: bytes, chunked: true, headers, query });
  checkHeader(reply, 'docker-content-digest', manifest.digest, true);
  assert.equal(reply.headers['oci-subject'], subject, 'OCI-Subject');
  const got = await registry.expect(200, 'GET', locationOf(reply), { headers: manifestAccept });
  checkManifest(got, manifest);
  return reply;
}

export function checkManifest(reply: Reply, { bytes, mediaType, digest }: PushedManifest): void {
  assert.ok(reply.body.equals(bytes), 'other bytes than were pushed');
  checkHeader(reply, 'content-type', mediaType, true);
  checkHeader(reply, 'content-length', String(bytes.byteLength), true);
  checkHeader(reply, 'docker-content-digest', digest, true);
}

export async function tagsOf(registry: Registry, repository: string, query: Readonly<Record<string, string>> = {}): Promise<string[]> {
  const reply = await registry.expect(200, 'GET', `/v2/${repository}/tags/list`, { query });
  checkHeader(reply, 'content-type', 'application/json', true);
  const { name, tags } = jsonOf(reply) as { readonly name: string; readonly tags: string[] };
  assert.equal(name, repository);
  return tags;
}

export async function checkTagList({ registry, repository, check }: DataContext, set: DataSet): Promise<void> {
  const pushed = set.manifests.flatMap(({ tag, tagParameters = [] }) => [...(tag === undefined ? [] : [tag]), ...tagParameters]);
  await check(`${set.name}/tag-list`, async () => {
    const tags = await tagsOf(registry, repository);
    for (const tag of pushed) assert.ok(tags.includes(tag), `${tag} is not listed`);
    assert.deepEqual(tags, [...tags].sort(), 'in the order of their bytes');
    const middle = tags[Math.floor(tags.length / 2)];
    if (middle === undefined) return;
    const after = await tagsOf(registry, repository, { last: middle });
    assert.deepEqual(after, tags.slice(tags.indexOf(middle) + 1));
  });
}

/** Everything by HEAD and by GET. */
export async function readDataSet({ registry, repository, check }: DataContext, set: DataSet): Promise<void> {
  for (const [index, manifest] of set.manifests.entries()) {
    for (const { kind, reference } of referencesOf(manifest)) {
      const path = manifestPath(repository, reference);
      await check(`${set.name}/head/manifest ${index + 1} ${kind}`, async () => {
        const reply = await registry.expect(200, 'HEAD', path, { headers: manifestAccept });
        checkManifest({ ...reply, body: manifest.bytes }, manifest);
        assert.equal(reply.body.byteLength, 0);
      });
      await check(`${set.name}/pull/manifest ${index + 1} ${kind}`, async () => {
        // Clients accept one type or all of them; what is stored is served either way.
        for (const headers of [manifestAccept, ...[manifest.mediaType, '*/*', mediaTypes.config].map((accept) => ({ accept }))]) {
          checkManifest(await registry.expect(200, 'GET', path, { headers }), manifest);
        }
      });
    }
  }
  for (const [index, blob] of set.blobs.entries()) {
    await check(`${set.name}/head/blob ${index + 1}`, async () => headBlob(registry, repository, blob));
    await check(`${set.name}/pull/blob ${index + 1}`, async () => getBlob(registry, repository, blob));
  }
}

/** The tags first, then the manifests in the reverse order of their pushes; what is deleted is gone at once. */
async function deleteDataSet({ registry, repository, check }: DataContext, set: DataSet): Promise<void> {
  const reversed = [...set.manifests.entries()].reverse();
  const gone = async (path: string): Promise<void> => {
    await registry.expect(202, 'DELETE', path);
    await registry.expect(404, 'HEAD', path, { headers: manifestAccept });
    await registry.expect(404, 'DELETE', path);
  };
  for (const [index, manifest] of reversed) {
    for (const { kind, reference } of referencesOf(manifest).slice(1)) {
      await check(`${set.name}/delete/manifest ${index + 1} ${kind}`, async () => {
        await gone(manifestPath(repository, reference));
        await registry.expect(200, 'HEAD', manifestPath(repository, manifest.digest));
        assert.ok(!(await tagsOf(registry, repository)).includes(reference), 'the tag is still listed');
      });
    }
  }
  for (const [index, { digest }] of reversed) {
    await check(`${set.name}/delete/manifest ${index + 1} by digest`, async () => gone(manifestPath(repository, digest)));
  }
  for (const [index, blob] of set.blobs.entries()) {
    await check(`${set.name}/delete/blob ${index + 1}`, async () => deleteBlob(registry, repository, blob));
  }
}

/** What must be refused: a manifest that is not what its digest says, references that are none, manifests that are not there. */
export async function checkInvalid({ registry, repository, check }: DataContext): Promise<void> {
  const set = new DataSetBuilder('bad-digest-image');
  set.image();
  const { blobs, manifests } = set.build();
  for (const [index, blob] of blobs.entries()) {
    await check(`bad-digest-image/push/blob ${index + 1}`, async () => pushBlob(registry, repository, 'post+put', blob));
  }
  for (const { digest, bytes, mediaType } of manifests) {
    const ask = { headers: { 'content-type': mediaType }, chunked: true };
    await check('bad-digest-image/push/manifest', async () => {
      const body = Buffer.concat([bytes, Buffer.from('  ')]);
      await registry.expect(400, 'PUT', manifestPath(repository, digest), { ...ask, body });
      for (const each of [digest, digestOf(body)]) await registry.expect(404, 'HEAD', manifestPath(repository, each));
    });
    await check('bad-digest-image/tag-list', async () => {
      await registry.expect([200, 404], 'GET', `/v2/${repository}/tags/list`);
    });
    await check('bad-digest-image/delete/manifest', async () => {
      await registry.expect(404, 'DELETE', manifestPath(repository, digest));
    });
    await check('invalid-digest-format/manifest-put', async () => {
      await registry.expect(400, 'PUT', manifestPath(repository, 'sha256:baddigeststring'), { ...ask, body: bytes });
    });
  }
  for (const [index, blob] of blobs.entries()) {
    await check(`bad-digest-image/head/blob ${index + 1}`, async () => headBlob(registry, repository, blob));
    await check(`bad-digest-image/pull/blob ${index + 1}`, async () => getBlob(registry, repository, blob));
    await check(`bad-digest-image/delete/blob ${index + 1}`, async () => deleteBlob(registry, repository, blob));
  }
  await checkMissing({ registry, repository, check });
}

/** A registry that is not set otherwise refuses manifests whose parts it does not have, and names each part. */
export async function checkSparseRefused({ registry, repository, check }: DataContext, set: DataSet): Promise<void> {
  for (const [index, blob] of set.blobs.entries()) {
    await check(`${set.name}/push/blob ${index + 1}`, async () => pushBlob(registry, repository, 'post+put', blob));
  }
  for (const { tag, digest, bytes, mediaType } of set.manifests) {
    const headers = { 'content-type': mediaType };
    await check(`${set.name}/push/${tag ?? 'a whole image'}`, async () => {
      const reply = await registry.expect(tag === undefined ? 201 : 400, 'PUT', manifestPath(repository, digest), { body: bytes, headers });
      if (tag === undefined) return;
      const { errors } = jsonOf(reply) as { readonly errors: readonly { readonly code: string; readonly detail?: { digest?: string } }[] };
      assert.deepEqual(
        errors.map(({ code, detail }) => [code, typeof detail?.digest]),
        [['MANIFEST_BLOB_UNKNOWN', 'string']],
      );
      await registry.expect(404, 'HEAD', manifestPath(repository, digest));
    });
  }
}

/** Reads of what is not there. */
export async function checkMissing({ registry, repository, check }: DataContext): Promise<void> {
  const missing: Content = { bytes: Buffer.alloc(0), digest: digestOf(Buffer.from(`missing in ${repository}`)) };
  await check('missing-manifest/by-digest', async () => {
    await registry.expect(404, 'GET', manifestPath(repository, missing.digest), { headers: manifestAccept });
  });
  await check('missing-manifest/by-tag', async () => {
    await registry.expect(404, 'GET', manifestPath(repository, 'no-such-tag'), { headers: manifestAccept });
  });
  await check('invalid-digest-format/manifest-get', async () => {
    await registry.expect([400, 404], 'GET', manifestPath(repository, 'sha256:baddigeststring'), { headers: manifestAccept });
  });
}
