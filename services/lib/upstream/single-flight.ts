/** One run of a piece of work however many ask for it at the same time. */

export class SingleFlight<T> {
  readonly #running = new Map<string, Promise<T>>();

  get size(): number {
    return this.#running.size;
  }

  /** Starts `work` unless it runs. It goes on when a caller goes away; that caller's promise rejects with the reason of its signal. */
  run(key: string, work: () => Promise<T>, options: { readonly signal: AbortSignal }): Promise<T> {
    let running = this.#running.get(key);
    if (running === undefined) {
      running = work().finally(() => this.#running.delete(key));
      this.#running.set(key, running);
    }
    return abortable(running, options.signal);
  }
}

/** `promise`, or a rejection with the reason of `signal` when that is aborted first. */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
    if (signal.aborted) onAbort();
  });
}
