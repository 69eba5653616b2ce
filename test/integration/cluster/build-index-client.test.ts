/** The client of the build-index against the real service over real sockets. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { BuildIndexClient } from '#cluster';
import { digestOf, isAppError, type ManifestUpload, parseRepositoryName, parseTag, SeededRng, silentLogger } from '#core';
import { BuildIndexServiceService } from '#gen/shoal/buildindex/v1/build_index_service';
import { buildIndexHandlers } from '../../../services/build-index/handlers.ts';
import { IndexStore } from '../../../services/build-index/store.ts';
import { tempDir } from '../../support/temp.ts';
import { Mesh, realClock, type TestServer } from '../wire/mesh.ts';

const options = { signal: new AbortController().signal };
const repo = parseRepositoryName('library/app');
const digest = digestOf(Buffer.from('manifest'));
const manifest: ManifestUpload & { readonly sizeBytes: number } = {
  digest,
  mediaType: 'application/vnd.oci.image.manifest.v1+json',
  bytes: Buffer.from('manifest'),
  sizeBytes: 8,
  tags: [],
  blobs: [],
  manifests: [],
  either: [],
  subject: undefined,
  artifactType: undefined,
  annotations: {},
};

/** Two instances of one index. */
async function open(t: TestContext): Promise<{ client: BuildIndexClient; servers: readonly TestServer[] }> {
  const mesh = await Mesh.open(t);
  const store = await IndexStore.open({ path: tempDir('index') }, { clock: realClock });
  t.after(async () => store[Symbol.asyncDispose]());
  const serve = (id: string): Promise<TestServer> =>
    mesh.serve({ role: 'build-index', id }, (server) =>
      server.addService('shoal.buildindex.v1.BuildIndexService', BuildIndexServiceService, buildIndexHandlers(store)),
    );
  const servers = [await serve('b1'), await serve('b2')];
  const members = servers.map(({ target }, i) => ({ id: `b${i + 1}`, endpoint: target.endpoint }));
  const deps = { channels: await mesh.pool('proxy'), clock: realClock, rng: new SeededRng(1), logger: silentLogger };
  const client = new BuildIndexClient({ members }, deps);
  t.after(async () => client[Symbol.asyncDispose]());
  return { client, servers };
}

test('what is put comes back in the types of core', async (t) => {
  const { client } = await open(t);
  const layer = { digest: digestOf(Buffer.from('layer')), sizeBytes: 5 };
  await client.linkBlob(repo, layer, 0n, options);
  assert.deepEqual(await client.getBlobLink(repo, layer.digest, options), layer);
  const [tag] = await client.putManifest(repo, { ...manifest, blobs: [layer.digest], tags: [parseTag('v1')] }, 0n, options);
  assert.deepEqual([tag?.tag, tag?.digest], ['v1', digest]);
  const found = await client.getManifest(repo, { tag: parseTag('v1') }, options);
  assert.deepEqual([found.digest, found.mediaType, found.sizeBytes, found.blobs], [digest, manifest.mediaType, 8, [layer.digest]]);
  const other = parseRepositoryName('other');
  assert.deepEqual(await client.mountBlob(other, layer.digest, repo, options), layer);
  await client.unlinkBlob(other, layer.digest, options);
  assert.deepEqual((await client.listRepositories({ limit: 10 }, options)).items, [repo]);
  await client.deleteManifest(repo, { digest }, options);
  await assert.rejects(
    client.getManifest(repo, { digest }, options),
    (error) => isAppError(error, 'not-found') && error.data['kind'] === 'manifest',
  );
});

test('a missing reference arrives with its digests', async (t) => {
  const { client } = await open(t);
  const missing = digestOf(Buffer.from('layer'));
  await assert.rejects(client.putManifest(repo, { ...manifest, blobs: [missing] }, 0n, options), (error) => {
    assert.ok(isAppError(error, 'failed-precondition'));
    assert.deepEqual([error.data['kind'], error.data['digests']], ['missing', missing]);
    return true;
  });
});

test('a page may be larger than what the service gives at a time, and may be empty', async (t) => {
  const { client } = await open(t);
  const names = Array.from({ length: 1100 }, (_, i) => parseTag(`t${String(i).padStart(4, '0')}`));
  for (let at = 0; at < names.length; at += 100)
    await client.putManifest(repo, { ...manifest, tags: names.slice(at, at + 100) }, 0n, options);
  const page = await client.listTags(repo, { limit: 1050 }, options);
  assert.deepEqual([page.items.length, page.items.at(-1), page.more], [1050, 't1049', true]);
  assert.deepEqual((await client.listTags(repo, { limit: 1050, after: 't1049' }, options)).items, names.slice(1050));
  assert.deepEqual(await client.listTags(repo, { limit: 0 }, options), { items: [], more: false });
  await assert.rejects(client.listTags(parseRepositoryName('none'), { limit: 0 }, options), (error) => isAppError(error, 'not-found'));
});

test('another instance answers when the first is dead, for reads and writes', async (t) => {
  const { client, servers } = await open(t);
  await client.putManifest(repo, { ...manifest, tags: [parseTag('v1')] }, 0n, options);
  await servers[0]?.server.drain({ graceMs: 0 });
  assert.equal((await client.getManifest(repo, { tag: parseTag('v1') }, options)).digest, digest);
  await client.putManifest(repo, { ...manifest, tags: [parseTag('v2')] }, 0n, options);
  await servers[1]?.server.drain({ graceMs: 0 });
  await assert.rejects(client.getManifest(repo, { tag: parseTag('v2') }, options), (error) => isAppError(error, 'unavailable'));
});
