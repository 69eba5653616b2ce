/** When the next round of repair is due, and why: several reasons may wait at once, each with its own time. */
import type { Clock } from '#core';

export class RepairSchedule {
  readonly #clock: Pick<Clock, 'nowMs' | 'after'>;
  /** Due times by reason, on the monotonic clock. One entry a reason, and there are few. */
  readonly #due = new Map<string, number>();
  #wake: () => void = () => undefined;

  constructor(deps: { readonly clock: Pick<Clock, 'nowMs' | 'after'> }) {
    this.#clock = deps.clock;
  }

  /** A round is due in `delayMs`; one that is due earlier for the same reason stays, so that events that keep coming do not put it off. */
  set(reason: string, delayMs: number): void {
    const dueMs = this.#clock.nowMs() + delayMs;
    this.#due.set(reason, Math.min(dueMs, this.#due.get(reason) ?? dueMs));
    this.#wake();
  }

  cancel(reason: string): void {
    this.#due.delete(reason);
  }

  /** Whether somebody should leave off and begin a round anew. */
  isDue(): boolean {
    return [...this.#due.values()].some((dueMs) => dueMs <= this.#clock.nowMs());
  }

  /** Resolves when a round is due, with every reason for it; with none when `signal` aborts. */
  async next({ signal }: { readonly signal: AbortSignal }): Promise<readonly string[]> {
    const onAbort = (): void => this.#wake();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      while (!signal.aborted) {
        const reasons = this.#takeDue();
        if (reasons.length > 0) return reasons;
        await this.#untilChange();
      }
      return [];
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  async #untilChange(): Promise<void> {
    const firstMs = Math.min(...this.#due.values());
    let cancel = (): void => undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      if (Number.isFinite(firstMs)) cancel = this.#clock.after(Math.max(0, firstMs - this.#clock.nowMs()), resolve);
    });
    cancel();
  }

  #takeDue(): readonly string[] {
    const nowMs = this.#clock.nowMs();
    const reasons = [...this.#due].filter(([, dueMs]) => dueMs <= nowMs).map(([reason]) => reason);
    for (const reason of reasons) this.#due.delete(reason);
    return reasons;
  }
}
