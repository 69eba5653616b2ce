/** The real clock and the real randomness. */
import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock, Rng } from '#core';

/** Time of the machine. What `after` waits for does not keep the process alive; a sleep does. */
export class SystemClock implements Clock {
  nowMs(): number {
    return Math.floor(performance.now());
  }

  wallMs(): number {
    return Date.now();
  }

  after(delayMs: number, fn: () => void): () => void {
    const timer = setTimeout(fn, delayMs);
    timer.unref();
    return () => clearTimeout(timer);
  }

  async sleep(delayMs: number, options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    await sleep(delayMs, undefined, options);
  }
}

/** Randomness of the machine, for placement of load and jitter. */
export class SystemRng implements Rng {
  below(bound: number): number {
    return randomInt(bound);
  }
}
