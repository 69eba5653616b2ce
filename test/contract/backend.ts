/** What every BlobBackend does. Run against each implementation by the *.test.ts files beside this one. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type ByteRange, type Digest, digestOf, isAppError } from '#core';
import type { BlobBackend } from '#storage';
import { blobOf, tempDir } from '../support/storage-fixtures.ts';

const { signal } = new AbortController();

/** Each chunk is lent: it stands in the same memory as the one before. */
async function* chunksOf(bytes: Uint8Array, chunkBytes = 70_000): AsyncGenerator<Uint8Array> {
  const lent = new Uint8Array(chunkBytes);
  for (let at = 0; at < bytes.byteLength; at += chunkBytes) {
    const chunk = bytes.subarray(at, at + chunkBytes);
    lent.set(chunk);
    yield lent.subarray(0, chunk.byteLength);
    lent.fill(0);
  }
}

async function readAll(backend: BlobBackend, digest: Digest, range?: ByteRange): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of backend.read(digest, range, { signal })) chunks.push(chunk);
  return Buffer.concat(chunks);
}

export function backendContract(name: string, make: (root: string) => Promise<BlobBackend>): void {
  const setUp = async (t: TestContext): Promise<BlobBackend> => {
    const backend = await make(await tempDir(t));
    t.after(() => backend[Symbol.asyncDispose]());
    return backend;
  };

  test(`${name}: what was written can be looked up and read, whole and in ranges`, async (t) => {
    const backend = await setUp(t);
    const { bytes, metainfo } = blobOf(1, 2_500_000);
    await backend.write(metainfo.digest, bytes.byteLength, chunksOf(bytes), { signal });
    assert.equal(await backend.stat(metainfo.digest, { signal }), bytes.byteLength);
    assert.deepEqual(await readAll(backend, metainfo.digest), bytes);
    const range = { startByte: 1_000_000, endByte: 2_400_001 };
    assert.deepEqual(await readAll(backend, metainfo.digest, range), bytes.subarray(range.startByte, range.endByte));
    assert.equal((await readAll(backend, metainfo.digest, { startByte: 5, endByte: 5 })).byteLength, 0);
    await assert.rejects(readAll(backend, metainfo.digest, { startByte: 0, endByte: 2_500_001 }), (e) => isAppError(e, 'out-of-range'));
  });

  test(`${name}: an empty blob and a SHA-512 blob are blobs`, async (t) => {
    const backend = await setUp(t);
    for (const bytes of [Buffer.alloc(0), Buffer.from('x')]) {
      const digest = digestOf(bytes, 'sha512');
      await backend.write(digest, bytes.byteLength, chunksOf(bytes), { signal });
      assert.equal(await backend.stat(digest, { signal }), bytes.byteLength);
      assert.deepEqual(await readAll(backend, digest), bytes);
    }
  });

  test(`${name}: an unknown blob has no size and cannot be read`, async (t) => {
    const backend = await setUp(t);
    const { digest } = blobOf(1, 1).metainfo;
    assert.equal(await backend.stat(digest, { signal }), undefined);
    await assert.rejects(readAll(backend, digest), (error) => isAppError(error, 'not-found'));
    await backend.delete(digest, { signal });
  });

  test(`${name}: a body that is short, long or breaks off stores nothing`, async (t) => {
    const backend = await setUp(t);
    const { bytes, metainfo } = blobOf(1, 100_000);
    for (const announced of [99_999, 100_001]) {
      const write = backend.write(metainfo.digest, announced, chunksOf(bytes), { signal });
      await assert.rejects(write, (error) => isAppError(error, 'data-loss'));
    }
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield bytes.subarray(0, 50_000);
      throw new Error('broke off');
    }
    await assert.rejects(backend.write(metainfo.digest, 100_000, broken(), { signal }), /broke off/);
    assert.equal(await backend.stat(metainfo.digest, { signal }), undefined);
    assert.deepEqual(await backend.list({ limit: 10 }, { signal }), []);
  });

  test(`${name}: the same blob may be written again, also at once, and is closed when not needed`, async (t) => {
    const backend = await setUp(t);
    const { bytes, metainfo } = blobOf(1, 200_000);
    const write = (): Promise<void> => backend.write(metainfo.digest, bytes.byteLength, chunksOf(bytes), { signal });
    await Promise.all([write(), write(), write()]);
    await write();
    assert.deepEqual(await readAll(backend, metainfo.digest), bytes);
  });

  test(`${name}: a deleted blob is gone`, async (t) => {
    const backend = await setUp(t);
    const { bytes, metainfo } = blobOf(1, 10);
    await backend.write(metainfo.digest, 10, chunksOf(bytes), { signal });
    await backend.delete(metainfo.digest, { signal });
    assert.equal(await backend.stat(metainfo.digest, { signal }), undefined);
  });

  test(`${name}: the list is in digest order and its pages join without gaps`, async (t) => {
    const backend = await setUp(t);
    const all: Digest[] = [];
    for (let seed = 0; seed < 40; seed += 1) {
      const bytes = Buffer.from(`blob ${seed}`);
      const digest = digestOf(bytes, seed % 4 === 0 ? 'sha512' : 'sha256');
      await backend.write(digest, bytes.byteLength, chunksOf(bytes), { signal });
      all.push(digest);
    }
    const listed: Digest[] = [];
    for (;;) {
      const after = listed.at(-1);
      const page = await backend.list(after === undefined ? { limit: 7 } : { limit: 7, after }, { signal });
      if (page.length === 0) break;
      listed.push(...page);
    }
    assert.deepEqual(listed, all.sort());
  });

  test(`${name}: an aborted call throws the signal's reason`, async (t) => {
    const backend = await setUp(t);
    const { bytes, metainfo } = blobOf(1, 10);
    const aborted = { signal: AbortSignal.abort(new Error('enough')) };
    await assert.rejects(backend.write(metainfo.digest, 10, chunksOf(bytes), aborted), /enough/);
    await assert.rejects(backend.stat(metainfo.digest, aborted), /enough/);
  });
}
