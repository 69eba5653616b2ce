/** Blobs of a simulation: real geometry, no bytes. */
import { digestOf, type Metainfo, metainfoOf, pieceCountOf, pieceLengthFor } from '#core';

/** Metainfo of a blob of `sizeBytes`; the name makes the digest. The piece length is the one the product would choose, unless given. */
export function simBlob(name: string, sizeBytes: number, pieceLengthBytes: number = pieceLengthFor(sizeBytes)): Metainfo {
  const pieceHashes = new Uint8Array(32 * pieceCountOf(sizeBytes, pieceLengthBytes));
  return metainfoOf({ digest: digestOf(Buffer.from(name)), sizeBytes, pieceLengthBytes, pieceHashes });
}
