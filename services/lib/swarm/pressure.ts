/**
 * How long a download holds much larger ones back: while pieces of it come, and until the others have received as many bytes beside it as it
 * has in all, since its sources may be slow.
 */
import type { Metainfo } from '#core';
import type { SwarmContext } from './context.ts';
import type { PiecePicker } from './piece-picker.ts';

export class Pressure {
  readonly #metainfo: Metainfo;
  readonly #picker: PiecePicker;
  readonly #context: Pick<SwarmContext, 'intake' | 'options'>;
  readonly #besideBefore: number;

  /** Begins now. `picker` is that of the download, `context` that of the process. */
  constructor(metainfo: Metainfo, picker: PiecePicker, context: Pick<SwarmContext, 'intake' | 'options'>) {
    this.#metainfo = metainfo;
    this.#picker = picker;
    this.#context = context;
    this.#besideBefore = this.#besideBytes;
  }

  /** `idleMs` is since when nothing of the download has come, its beginning included. */
  isOn(idleMs: number): boolean {
    return idleMs <= this.#context.options.slowAfterMs && this.#besideBytes - this.#besideBefore < this.#metainfo.sizeBytes;
  }

  get #besideBytes(): number {
    return this.#context.intake.arrivedBytes - this.#picker.verifiedCount * this.#metainfo.pieceLengthBytes;
  }
}
