import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Digest, isAppError, parseRepositoryName, parseTag, peerIdOf, silentLogger } from '#core';
import { type ImageReaderDeps, type ImageWriterDeps, MeshImageReader, MeshImageWriter } from '#images';
import { MemoryBlobStore } from '#storage';
import { ManualClock } from '../../support/manual-clock.ts';
import { blobOf } from '../../support/storage-fixtures.ts';

const repository = parseRepositoryName('a');
const { bytes, metainfo } = blobOf(2, 100);
const { digest } = metainfo;
const options = { signal: new AbortController().signal };
const unused = async (): Promise<never> => assert.fail('not part of this test');

const entry = {
  digest,
  mediaType: 'm',
  sizeBytes: 100,
  subject: undefined,
  artifactType: undefined,
  annotations: {},
  blobs: [],
  manifests: [],
  either: [],
};

function reader(holds?: ImageReaderDeps['holds']): MeshImageReader {
  const index = {
    getBlobLink: async () => ({ digest, sizeBytes: 100 }),
    renewBlobLink: async () => ({ digest, sizeBytes: 100 }),
    getManifest: async () => ({ ...entry, pushedMs: 0 }),
    renewManifest: async () => ({ ...entry, pushedMs: 0 }),
    listTags: unused,
    listRepositories: unused,
    listReferrers: unused,
  };
  return new MeshImageReader({ index, blobs: { open: unused, bytes: unused }, ...(holds === undefined ? {} : { holds }) });
}

test('what is linked but lost is not found where pushes are taken', async () => {
  const lossy = reader(async () => false);
  const lost = (kind: string) => (error: unknown) => isAppError(error, 'not-found') && error.data['kind'] === kind;
  await assert.rejects(lossy.statBlob(repository, digest, options), lost('blob'));
  await assert.rejects(lossy.statManifest(repository, { tag: parseTag('v1') }, options), lost('manifest'));
  assert.equal((await reader(async () => true).statBlob(repository, digest, options)).sizeBytes, 100);
  assert.equal((await reader().statBlob(repository, digest, options)).sizeBytes, 100);
});

function writerDeps(store: MemoryBlobStore, parts: Partial<ImageWriterDeps> = {}): ImageWriterDeps {
  return {
    index: {
      fence: async () => 0n,
      linkBlob: unused,
      mountBlob: unused,
      unlinkBlob: unused,
      putManifest: async () => [],
      deleteManifest: unused,
    },
    origins: { ingest: async () => ({ acknowledged: [], settled: Promise.resolve() }) },
    uploads: { start: unused, stat: unused, append: unused, finish: unused, forget: unused, cancel: unused },
    store,
    self: { peer: peerIdOf({ role: 'proxy', id: 'p1' }), endpoint: ':1', complete: true },
    holds: async () => true,
    clock: new ManualClock(),
    logger: silentLogger,
    ...parts,
  };
}

test('a lost blob is not mounted', async () => {
  const store = new MemoryBlobStore({ capacityBytes: 1e6 }, { clock: new ManualClock() });
  const deps = writerDeps(store);
  const index = { ...deps.index, mountBlob: async () => ({ digest, sizeBytes: 100 }) };
  for (const held of [false, true]) {
    const writer = await MeshImageWriter.open({ ...deps, index, holds: async () => held });
    assert.equal(await writer.mountBlob(repository, digest, undefined, options), held);
  }
});

/** Its first pin fails. */
class StubbornStore extends MemoryBlobStore {
  #failures = 1;

  override async setPinned(pinnedDigest: Digest, pinned: boolean): Promise<void> {
    if (pinned && this.#failures > 0) {
      this.#failures -= 1;
      throw new Error('disk full');
    }
    await super.setPinned(pinnedDigest, pinned);
  }
}

test('a push that could not pin its blob does not keep later pushes from unpinning it', async () => {
  const store = new StubbornStore({ capacityBytes: 1e6 }, { clock: new ManualClock() });
  const writer = await MeshImageWriter.open(writerDeps(store));
  const manifest = { ...entry, bytes, tags: [] };
  await assert.rejects(writer.putManifest(repository, manifest, options), /disk full/);
  await writer.putManifest(repository, manifest, options);
  await new Promise(setImmediate);
  assert.equal(store.stat(digest)?.pinned, false);
});
