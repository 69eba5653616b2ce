/** Small conversions that the blob stores share. */
import { AppError, algorithmOf, Bitfield, type Digest, digestOf, type Metainfo, MetainfoBuilder } from '#core';
import type { StoredBlob } from './blob-store.ts';
import type { Entry } from './catalog.ts';

export function storedBlobOf(entry: Entry<unknown>): StoredBlob {
  const { digest, sizeBytes, lastUsedMs, pinned } = entry;
  return { digest, sizeBytes, lastUsedMs, pinned };
}

export function sameMetainfo(a: Metainfo, b: Metainfo): boolean {
  return (
    a.digest === b.digest &&
    a.sizeBytes === b.sizeBytes &&
    a.pieceLengthBytes === b.pieceLengthBytes &&
    Buffer.compare(a.pieceHashes, b.pieceHashes) === 0
  );
}

/** The metainfo of bytes in memory. Throws `digest-mismatch` when they do not have the digest. */
export function metainfoOfBytes(digest: Digest, bytes: Uint8Array): Metainfo {
  const actual = digestOf(bytes, algorithmOf(digest));
  if (actual !== digest) throw digestMismatch(digest, actual);
  return new MetainfoBuilder().update(bytes).finish(digest);
}

export function digestMismatch(digest: Digest, actual: Digest): AppError {
  return new AppError('digest-mismatch', 'the bytes do not have the digest; send the blob again or correct the digest', {
    data: { digest, actual },
  });
}

/** Somebody ended the upload before its file was taken over. */
export function uploadGone(cause: unknown): AppError {
  return new AppError('not-found', 'the uploaded file is gone; start the upload again', { data: { kind: 'upload' }, cause });
}

/** A saved bitfield; empty when it does not fit the blob. */
export function savedBitfield(bytes: Uint8Array, pieceCount: number): Bitfield {
  try {
    return Bitfield.fromBytes(bytes, pieceCount);
  } catch (error) {
    if (error instanceof AppError) return new Bitfield(pieceCount);
    throw error;
  }
}
