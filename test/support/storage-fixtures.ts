/** Blobs made from a seed, and folders that go with their test. */
import { randomFillSync } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { digestOf, leafSizeBytes, type Metainfo, MetainfoBuilder, metainfoOf, pieceSize, SeededRng } from '#core';

export interface TestBlob {
  readonly bytes: Buffer;
  readonly metainfo: Metainfo;
}

/** The same seed and size give the same bytes. */
export function blobOf(seed: number, sizeBytes: number): TestBlob {
  const rng = new SeededRng(seed);
  const bytes = Buffer.allocUnsafe(sizeBytes);
  for (let at = 0; at < sizeBytes; at += 1) bytes[at] = rng.below(256);
  return withMetainfo(bytes);
}

/** Fast and different each time: for blobs whose size matters and whose bytes do not. */
export function bigBlob(sizeBytes: number): TestBlob {
  return withMetainfo(randomFillSync(Buffer.allocUnsafe(sizeBytes)));
}

export function pieceOf(blob: TestBlob, index: number): Buffer {
  const start = index * blob.metainfo.pieceLengthBytes;
  return blob.bytes.subarray(start, start + pieceSize(blob.metainfo, index));
}

/** The same blob cut into pieces of one leaf more or less: other metainfo of the same digest. */
export function recut(blob: TestBlob): Metainfo {
  const { digest, sizeBytes } = blob.metainfo;
  const pieceLengthBytes = 2 * leafSizeBytes;
  const pieceHashes = new Uint8Array(Math.ceil(sizeBytes / pieceLengthBytes) * 32);
  return metainfoOf({ digest, sizeBytes, pieceLengthBytes, pieceHashes });
}

/** A folder that is removed when the test ends. */
export async function tempDir(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'shoal-test-'));
  t.after(() => rm(path, { recursive: true, force: true }));
  return path;
}

/** Gives I/O that a timer of a ManualClock has started the chance to finish: waits until `done` holds. */
export async function until(done: () => boolean): Promise<void> {
  while (!done()) await new Promise<void>((resolve) => setImmediate(resolve));
}

function withMetainfo(bytes: Buffer): TestBlob {
  return { bytes, metainfo: new MetainfoBuilder().update(bytes).finish(digestOf(bytes)) };
}
