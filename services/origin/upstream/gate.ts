/** Lets so many pieces of work run at once; the others wait in the order they came, in bounded number. */
import { AppError } from '#core';

export class Gate {
  readonly #options: { readonly runningMax: number; readonly waitingMax: number };
  readonly #waiting: (() => void)[] = [];
  #runningCount = 0;

  constructor(options: { readonly runningMax: number; readonly waitingMax: number }) {
    this.#options = options;
  }

  /** Throws `resource-exhausted` when too many wait already. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#runningCount >= this.#options.runningMax) {
      if (this.#waiting.length >= this.#options.waitingMax) {
        throw new AppError('resource-exhausted', 'too many blobs wait to be fetched from upstreams; try again', { retryAfterMs: 5000 });
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else {
      this.#runningCount += 1;
    }
    try {
      return await work();
    } finally {
      // Whoever waits longest takes the place over.
      const next = this.#waiting.shift();
      if (next === undefined) this.#runningCount -= 1;
      else next();
    }
  }
}
