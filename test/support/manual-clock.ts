/** A Clock that stands still until a test moves it. Timers fire in order of their due time, then in the order they were set. */
import { assert, type Clock } from '#core';

interface Timer {
  readonly dueMs: number;
  readonly order: number;
  readonly fn: () => void;
}

export interface ManualClockOptions {
  /** First value of `nowMs`; 0 by default. */
  readonly nowMs?: number;
  /** First value of `wallMs`; 2026-01-01T00:00:00Z by default. */
  readonly wallMs?: number;
}

export class ManualClock implements Clock {
  #nowMs: number;
  readonly #wallOffsetMs: number;
  readonly #timers = new Set<Timer>();
  #order = 0;

  constructor(options: ManualClockOptions = {}) {
    this.#nowMs = options.nowMs ?? 0;
    this.#wallOffsetMs = (options.wallMs ?? 1_767_225_600_000) - this.#nowMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#nowMs + this.#wallOffsetMs;
  }

  /** Timers that have not fired and were not cancelled. */
  get pendingCount(): number {
    return this.#timers.size;
  }

  after(delayMs: number, fn: () => void): () => void {
    const timer: Timer = { dueMs: this.#nowMs + Math.max(0, delayMs), order: this.#order, fn };
    this.#order += 1;
    this.#timers.add(timer);
    return () => {
      this.#timers.delete(timer);
    };
  }

  sleep(delayMs: number, options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    const { signal } = options;
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(signal.reason);
        return;
      }
      const onAbort = (): void => {
        cancel();
        reject(signal?.reason);
      };
      const cancel = this.after(delayMs, () => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      });
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  /**
   * Moves time forward by `ms` and fires every timer that comes due on the way, also those that fired timers set.
   * Synchronous: what a timer does in later microtasks has not happened yet when this returns.
   */
  advance(ms: number): void {
    assert(ms >= 0, 'time only goes forward');
    const untilMs = this.#nowMs + ms;
    for (let timer = this.#next(untilMs); timer !== undefined; timer = this.#next(untilMs)) {
      this.#timers.delete(timer);
      this.#nowMs = Math.max(this.#nowMs, timer.dueMs);
      timer.fn();
    }
    this.#nowMs = untilMs;
  }

  #next(untilMs: number): Timer | undefined {
    let first: Timer | undefined;
    for (const timer of this.#timers) {
      if (timer.dueMs > untilMs) continue;
      if (first === undefined || timer.dueMs < first.dueMs || (timer.dueMs === first.dueMs && timer.order < first.order)) first = timer;
    }
    return first;
  }
}
