/** Whether a client is fast enough to deserve its place: bytes per second, counted over the time in which it was waited for. */

export interface PaceOptions {
  /** 0 lets every pace pass. */
  readonly bytesPerSecMin: number;
  /** The time that is looked at as a whole, in milliseconds of waiting. */
  readonly windowMs: number;
}

/** One body on its way. Time in which it was not the client that was waited for does not count. */
export class Pace {
  readonly #options: PaceOptions;
  #bytes = 0;
  #waitedMs = 0;

  constructor(options: PaceOptions) {
    this.#options = options;
  }

  /** A wait has ended, and brought `byteCount` bytes. */
  add(byteCount: number, waitedMs: number): void {
    this.#bytes += byteCount;
    this.#waitedMs += waitedMs;
  }

  /** How long the wait that has lasted `waitingMs` may go on before the window is over, in milliseconds. */
  leftMs(waitingMs: number): number {
    return this.#options.bytesPerSecMin === 0 ? Number.POSITIVE_INFINITY : this.#options.windowMs - this.#waitedMs - waitingMs;
  }

  /** Ends the window, `waitingMs` into a wait, and begins the next. False when too little came. */
  endWindow(waitingMs: number): boolean {
    const { bytesPerSecMin, windowMs } = this.#options;
    const isEnough = this.#bytes * 1000 >= bytesPerSecMin * windowMs;
    this.#bytes = 0;
    // What is left of the current wait belongs to the next window.
    this.#waitedMs = -waitingMs;
    return isEnough;
  }
}
