/** Who a download got its pieces from, for operators and logs; bounded, the first sources are kept. */
import type { PeerId } from '#core';
import type { SourceCount } from './types.ts';

type Counts = { -readonly [Key in keyof SourceCount]: SourceCount[Key] };

export class SourceCounts {
  readonly #counts = new Map<PeerId, Counts>();

  piece(peer: PeerId, sizeBytes: number, peersMax: number): void {
    const counts = this.#of(peer, peersMax);
    if (counts === undefined) return;
    counts.pieceCount += 1;
    counts.sizeBytes += sizeBytes;
  }

  corrupt(peer: PeerId, peersMax: number): void {
    const counts = this.#of(peer, peersMax);
    if (counts !== undefined) counts.corruptCount += 1;
  }

  duplicate(peer: PeerId, peersMax: number): void {
    const counts = this.#of(peer, peersMax);
    if (counts !== undefined) counts.duplicateCount += 1;
  }

  snapshot(): SourceCount[] {
    return Array.from(this.#counts.values(), (counts) => ({ ...counts }));
  }

  #of(peer: PeerId, peersMax: number): Counts | undefined {
    let counts = this.#counts.get(peer);
    if (counts === undefined && this.#counts.size < peersMax) {
      counts = { peer, pieceCount: 0, sizeBytes: 0, corruptCount: 0, duplicateCount: 0 };
      this.#counts.set(peer, counts);
    }
    return counts;
  }
}
