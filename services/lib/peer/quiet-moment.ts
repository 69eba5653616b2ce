/** Puts work off while something more urgent goes on, for a bounded time. */
import type { Clock } from '#core';

/** A burst is over when nothing has happened for so long. */
const quietMs = 100;
/** Work waits for so many quiet times at most. */
const roundsMax = 20;

export class QuietMoment {
  readonly #clock: Pick<Clock, 'after'>;
  #waiting: (() => void)[] = [];
  #wasBusy = false;
  #rounds = 0;
  #cancelTimer: (() => void) | undefined;

  constructor(deps: { readonly clock: Pick<Clock, 'after'> }) {
    this.#clock = deps.clock;
  }

  /** Something urgent goes on. */
  busy(): void {
    this.#wasBusy = true;
  }

  /** Resolves when nothing urgent has gone on for 100 ms, when 2 s are over, or with the next {@link now}. */
  async come(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#waiting.push(resolve);
      if (this.#cancelTimer === undefined) this.#look();
    });
  }

  /** Nobody waits any longer. */
  now(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#rounds = 0;
    for (const go of this.#waiting.splice(0)) go();
  }

  #look(): void {
    this.#wasBusy = false;
    this.#cancelTimer = this.#clock.after(quietMs, () => {
      this.#rounds += 1;
      if (this.#wasBusy && this.#rounds < roundsMax) this.#look();
      else this.now();
    });
  }
}
