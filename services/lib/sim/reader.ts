/** A host that reads a blob from its start to its end while it comes. */
import type { Metainfo } from '#core';
import type { SwarmEvent } from '#swarm';
import type { SimHost } from './host.ts';
import { readAheadBytes } from './network-options.ts';

/** A host reads each blob once. */
const reader = 1;

/** Moves the reader on to the first piece from `firstPiece` that is not verified; what the engine is to hear of it. */
export function readOn(host: SimHost, { digest, pieceCount, pieceLengthBytes }: Metainfo, firstPiece: number): SwarmEvent {
  const counts = host.verifiedCounts.get(digest);
  let piece = firstPiece;
  while (piece < pieceCount && (counts?.[piece] ?? 0) > 0) piece += 1;
  host.readPieces.set(digest, piece);
  if (piece === pieceCount) return { type: 'reader-closed', digest, reader };
  const endPiece = Math.min(pieceCount, piece + Math.max(1, Math.floor(readAheadBytes / pieceLengthBytes)));
  return { type: 'reader-moved', digest, reader, firstPiece: piece, endPiece };
}
