/** Spreads transfers over time, so that on average they take no more than a rate. */
import type { Clock } from '#core';

/** A blob that is so large that the next had to wait longer for it would keep those from being brought of which one copy is left. */
const waitMsMax = 60_000;

export class Pace {
  readonly #bytesPerSec: number;
  readonly #clock: Pick<Clock, 'nowMs' | 'sleep'>;
  #freeMs = 0;

  /** 0: as fast as it goes. */
  constructor(options: { readonly bytesPerSec: number }, deps: { readonly clock: Pick<Clock, 'nowMs' | 'sleep'> }) {
    this.#bytesPerSec = options.bytesPerSec;
    this.#clock = deps.clock;
  }

  /** Waits until what was taken before would have come at the rate, at most a minute. */
  async take(sizeBytes: number, options: { readonly signal: AbortSignal }): Promise<void> {
    if (this.#bytesPerSec === 0) return;
    const nowMs = this.#clock.nowMs();
    const startMs = Math.max(nowMs, this.#freeMs);
    this.#freeMs = Math.min(startMs + (sizeBytes / this.#bytesPerSec) * 1000, nowMs + waitMsMax);
    if (startMs > nowMs) await this.#clock.sleep(startMs - nowMs, options);
  }
}
