/** What both ends of an exchange know of its frames besides pieces: refusals and lists of indexes. */

import { AppError } from '#core';
import { RefusalReason } from '#gen/shoal/peer/v1/exchange';
import { indexCountMax } from './limits.ts';
import type { ExchangeRefusal } from './types.ts';

const numbers: Readonly<Record<ExchangeRefusal, RefusalReason>> = {
  busy: RefusalReason.BUSY,
  crowded: RefusalReason.CROWDED,
  'not-have': RefusalReason.NOT_HAVE,
  draining: RefusalReason.DRAINING,
  'unknown-blob': RefusalReason.UNKNOWN_BLOB,
};

const names: Readonly<Record<RefusalReason, ExchangeRefusal>> = {
  // A reason that a later version invents is an answer too: ask somewhere else.
  [RefusalReason.UNSPECIFIED]: 'busy',
  [RefusalReason.BUSY]: 'busy',
  [RefusalReason.CROWDED]: 'crowded',
  [RefusalReason.NOT_HAVE]: 'not-have',
  [RefusalReason.DRAINING]: 'draining',
  [RefusalReason.UNKNOWN_BLOB]: 'unknown-blob',
};

export function refusalToProto(reason: ExchangeRefusal): RefusalReason {
  return numbers[reason];
}

/** An unknown reason counts as `busy`. */
export function refusalFromProto(reason: RefusalReason): ExchangeRefusal {
  const known: Readonly<Record<number, ExchangeRefusal | undefined>> = names;
  return known[reason] ?? 'busy';
}

/** Cuts a list into frames of at most 256 indexes; none for an empty list. */
export function indexChunks(pieces: readonly number[]): readonly (readonly number[])[] {
  const chunks: (readonly number[])[] = [];
  for (let at = 0; at < pieces.length; at += indexCountMax) chunks.push(pieces.slice(at, at + indexCountMax));
  return chunks;
}

/** The indexes of a received frame. Throws `invalid-argument` for more than 256. */
export function checkedIndexes(pieces: readonly number[]): readonly number[] {
  if (pieces.length > indexCountMax) throw new AppError('invalid-argument', `exchange: more than ${indexCountMax} indexes in a frame`);
  return pieces;
}
