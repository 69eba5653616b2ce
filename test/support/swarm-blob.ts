/** Metainfo for tests of the engine, which never looks at bytes. */
import type { Metainfo } from '#core';
import { simBlob } from '#sim';

/** A blob of `pieceCount` pieces of 256 KiB times `scale` (a power of two up to 16); the name makes the digest. */
export function blobOf(name: string, pieceCount: number, scale = 1): Metainfo {
  const pieceLengthBytes = 256 * 1024 * scale;
  return simBlob(name, pieceCount * pieceLengthBytes, pieceLengthBytes);
}
