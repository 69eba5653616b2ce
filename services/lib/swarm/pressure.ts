/** How long a download holds much larger ones back: until they have received as many bytes beside it as it has in all, since its sources may be slow. */
import type { Metainfo } from '#core';
import type { Intake } from './intake.ts';
import type { PiecePicker } from './piece-picker.ts';

export class Pressure {
  readonly #metainfo: Metainfo;
  readonly #picker: PiecePicker;
  readonly #intake: Intake;
  readonly #besideBefore: number;

  /** Begins now. `picker` is that of the download, `intake` that of the process. */
  constructor(metainfo: Metainfo, picker: PiecePicker, intake: Intake) {
    this.#metainfo = metainfo;
    this.#picker = picker;
    this.#intake = intake;
    this.#besideBefore = this.#besideBytes;
  }

  get isOn(): boolean {
    return this.#besideBytes - this.#besideBefore < this.#metainfo.sizeBytes;
  }

  get #besideBytes(): number {
    return this.#intake.arrivedBytes - this.#picker.verifiedCount * this.#metainfo.pieceLengthBytes;
  }
}
