import assert from 'node:assert/strict';
import { type FileHandle, open, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { digestOf } from '#core';
import { HashThread } from '#storage';
import { ThreadHasher, type ThreadHasherDeps } from '../../../services/lib/storage/hash-thread.ts';
import { blobOf, tempDir } from '../../support/storage-fixtures.ts';

async function fileOf(t: TestContext, bytes: Uint8Array): Promise<FileHandle> {
  const path = join(await tempDir(t), 'file');
  await writeFile(path, bytes);
  const file = await open(path, 'r');
  t.after(() => file.close());
  return file;
}

test('several files at a time, read in steps of any size, have the digests and metainfo of their bytes', async (t) => {
  await using hashing = new HashThread();
  const root = await tempDir(t);
  const sizes = fc.array(fc.integer({ min: 0, max: 2_000_000 }), { minLength: 1, maxLength: 3 });
  let count = 0;
  await fc.assert(
    fc.asyncProperty(
      sizes,
      fc.constantFrom('sha256' as const, 'sha512' as const),
      fc.integer({ min: 1, max: 5 }),
      async (all, algorithm, steps) => {
        const hashed = all.map(async (sizeBytes, index) => {
          const { bytes, metainfo } = blobOf(index, sizeBytes);
          count += 1;
          const path = join(root, `${count}`);
          await writeFile(path, bytes);
          const file = await open(path, 'r');
          const hasher = hashing.open({ algorithm, leaves: true });
          try {
            for (let step = 1; step <= steps; step += 1) await hasher.readTo(file, Math.floor((sizeBytes * step) / steps));
            assert.equal(await hasher.digest(), digestOf(bytes, algorithm));
            assert.deepEqual({ ...(await hasher.metainfo(metainfo.digest)) }, { ...metainfo });
          } finally {
            hasher.end();
            await file.close();
          }
        });
        await Promise.all(hashed);
      },
    ),
    { numRuns: 15 },
  );
});

test('after an error a file is hashed from its first byte again', async (t) => {
  await using hashing = new HashThread();
  const { bytes } = blobOf(1, 300_000);
  const path = join(await tempDir(t), 'file');
  await writeFile(path, bytes);
  await truncate(path, 100_000);
  const file = await open(path, 'r');
  t.after(() => file.close());
  const hasher = hashing.open({ algorithm: 'sha256', leaves: false });
  await assert.rejects(hasher.readTo(file, 300_000), /ends at byte 100000/);
  assert.equal(hasher.hashedBytes, 0);
  await writeFile(path, bytes);
  await hasher.readTo(file, 300_000);
  assert.equal(await hasher.digest(), digestOf(bytes));
});

test('the thread forgets a file that nobody hashes any more, also one whose hashes were given up, and is told once', async (t) => {
  const path = join(await tempDir(t), 'file');
  await writeFile(path, Buffer.alloc(1000));
  const file = await open(path, 'r');
  t.after(() => file.close());
  const told: string[] = [];
  const deps: ThreadHasherDeps = {
    ask: async ({ what }) => {
      told.push(what);
      return undefined;
    },
    forget: () => {
      told.push('forget');
    },
    endedCount: () => 0,
  };
  const hasher = new ThreadHasher({ file: 1, algorithm: 'sha256', leaves: true }, deps);
  hasher.end();
  await hasher.readTo(file, 1000);
  hasher.restart();
  hasher.end();
  hasher.end();
  assert.deepEqual(told, ['start', 'read', 'forget']);
});

test('a file that is half hashed when the thread ends is hashed from its first byte by the next one, without an error', async (t) => {
  const hashing = new HashThread();
  t.after(() => hashing[Symbol.asyncDispose]());
  const { bytes } = blobOf(1, 300_000);
  const file = await fileOf(t, bytes);
  const hasher = hashing.open({ algorithm: 'sha256', leaves: false });
  await hasher.readTo(file, 100_000);
  await hashing[Symbol.asyncDispose]();
  assert.equal(hasher.hashedBytes, 0);
  await hasher.readTo(file, bytes.byteLength);
  assert.equal(await hasher.digest(), digestOf(bytes));
});

test('when the thread has ended, what waits for it fails and the next file starts another', async (t) => {
  const hashing = new HashThread();
  const { bytes } = blobOf(1, 300_000);
  const file = await fileOf(t, bytes);
  const hasher = hashing.open({ algorithm: 'sha256', leaves: false });
  const reading = assert.rejects(hasher.readTo(file, bytes.byteLength), { code: 'cancelled' });
  await hashing[Symbol.asyncDispose]();
  await reading;
  await hasher.readTo(file, bytes.byteLength);
  assert.equal(await hasher.digest(), digestOf(bytes));
  await hashing[Symbol.asyncDispose]();
});
