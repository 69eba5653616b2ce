import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError, isAppError, parseRepositoryName, parseTag, silentLogger } from '#core';
import { type ImageReaderDeps, type ImageWriterDeps, MeshImageReader, MeshImageWriter } from '#images';
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

/** Notes what is asked of the uploads and the index, in order. */
function writerDeps(parts: Partial<ImageWriterDeps> = {}) {
  const asked: string[] = [];
  const inline: (Uint8Array | undefined)[] = [];
  const note = (what: string) => void asked.push(what);
  const deps: ImageWriterDeps = {
    index: {
      fence: async () => 0n,
      linkBlob: async () => note('link'),
      mountBlob: unused,
      unlinkBlob: unused,
      putManifest: async () => {
        note('index');
        return [];
      },
      deleteManifest: unused,
    },
    origins: {
      ingest: async (_metainfo, _sources, data) => {
        note('ingest');
        inline.push(data);
        return { acknowledged: [], settled: Promise.resolve() };
      },
    },
    uploads: {
      start: async () => {
        note('start');
        return { id: 'u', offsetBytes: 0 };
      },
      stat: unused,
      append: async (_repository, id, { body }) => {
        let offsetBytes = 0;
        for await (const chunk of body) offsetBytes += chunk.byteLength;
        note(`append ${offsetBytes}`);
        return { id, offsetBytes };
      },
      commit: async (_repository, _id, committed) => {
        note('commit');
        return { digest: committed, sizeBytes: 100 };
      },
      cancel: async () => note('cancel'),
    },
    holds: async () => true,
    clock: new ManualClock(),
    logger: silentLogger,
    ...parts,
  };
  return { deps, asked, inline };
}

test('a lost blob is not mounted', async () => {
  const { deps } = writerDeps();
  const index = { ...deps.index, mountBlob: async () => ({ digest, sizeBytes: 100 }) };
  for (const held of [false, true]) {
    const writer = new MeshImageWriter({ ...deps, index, holds: async () => held });
    assert.equal(await writer.mountBlob(repository, digest, undefined, options), held);
  }
});

test('a blob becomes visible after its commit, and then its session ends', async () => {
  const { deps, asked } = writerDeps();
  assert.deepEqual(await new MeshImageWriter(deps).commitUpload(repository, 'u', digest, options), { digest, sizeBytes: 100 });
  assert.deepEqual(asked, ['commit', 'link', 'cancel']);
});

test('a session whose blob could not be made visible stays, so that the client can commit it again', async () => {
  const { deps, asked } = writerDeps();
  const index = { ...deps.index, linkBlob: async () => Promise.reject(new AppError('unavailable', 'the index is down')) };
  await assert.rejects(new MeshImageWriter({ ...deps, index }).commitUpload(repository, 'u', digest, options), /the index is down/);
  assert.deepEqual(asked, ['commit']);
});

test('a push is acknowledged although its session cannot be ended', async () => {
  const { deps } = writerDeps();
  const uploads = { ...deps.uploads, cancel: async () => Promise.reject(new AppError('unavailable', 'the origin is gone')) };
  const stat = await new MeshImageWriter({ ...deps, uploads }).commitUpload(repository, 'u', digest, options);
  assert.equal(stat.digest, digest);
});

test('a tiny manifest goes to its owners inside the call, a larger one as an upload', async () => {
  const { deps, asked, inline } = writerDeps();
  const writer = new MeshImageWriter(deps);
  await writer.putManifest(repository, { ...entry, bytes, tags: [] }, options);
  assert.deepEqual(asked.splice(0), ['ingest', 'index']);
  assert.deepEqual(inline, [bytes]);
  const large = blobOf(3, 256 * 1024 + 1);
  await writer.putManifest(repository, { ...entry, digest: large.metainfo.digest, bytes: large.bytes, tags: [] }, options);
  assert.deepEqual(asked, ['start', 'append 262145', 'commit', 'cancel', 'index']);
});

test('a blob that was collected between its commit and its link is committed again', async () => {
  const { deps, asked } = writerDeps();
  let collected = 1;
  const linkBlob = async () => {
    asked.push('link');
    collected -= 1;
    if (collected >= 0) throw new AppError('aborted', 'collected', { data: { kind: 'collected' } });
  };
  const clock = { sleep: async () => undefined };
  await new MeshImageWriter({ ...deps, clock, index: { ...deps.index, linkBlob } }).commitUpload(repository, 'u', digest, options);
  assert.deepEqual(asked, ['commit', 'link', 'commit', 'link', 'cancel']);
});
