/** All bytes of a tiny blob in the store. */
import { AppError, assert, type Digest, isTiny } from '#core';
import type { BlobStore } from '#storage';

/** Throws `not-found` (kind `blob`) when the blob is not here. The blob must be tiny. */
export async function readWhole(store: BlobStore, digest: Digest): Promise<Uint8Array> {
  await using blob = await store.open(digest);
  if (blob === undefined) throw new AppError('not-found', 'the blob is not on this node', { data: { kind: 'blob', digest } });
  assert(isTiny(blob.metainfo.sizeBytes), 'only a tiny blob is read whole');
  const bytes = Buffer.allocUnsafe(blob.metainfo.sizeBytes);
  await blob.readInto(bytes, 0);
  return bytes;
}
