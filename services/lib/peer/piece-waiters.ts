/** Readers that wait for pieces of one blob. */
interface Waiter {
  readonly resolve: (bytes: Uint8Array | undefined) => void;
  readonly reject: (error: unknown) => void;
}

export class PieceWaiters {
  readonly #waiters = new Map<number, Set<Waiter>>();

  /** Resolves with the piece's bytes, or with undefined when they are to be read from disk. Rejects with the signal's reason when it aborts first. */
  async wait(piece: number, signal: AbortSignal): Promise<Uint8Array | undefined> {
    signal.throwIfAborted();
    let onAbort: (() => void) | undefined;
    let waiter: Waiter | undefined;
    try {
      return await new Promise<Uint8Array | undefined>((resolve, reject) => {
        waiter = { resolve, reject };
        this.#of(piece).add(waiter);
        onAbort = () => reject(signal.reason);
        signal.addEventListener('abort', onAbort, { once: true });
      });
    } finally {
      if (onAbort !== undefined) signal.removeEventListener('abort', onAbort);
      if (waiter !== undefined) this.#forget(piece, waiter);
    }
  }

  /** The piece is verified and in memory. True when readers were given the bytes. */
  arrived(piece: number, bytes: Uint8Array): boolean {
    const waiters = this.#take(piece);
    for (const waiter of waiters) waiter.resolve(bytes);
    return waiters.size > 0;
  }

  /** Every piece can be read from disk. */
  allOnDisk(): void {
    for (const piece of [...this.#waiters.keys()]) for (const waiter of this.#take(piece)) waiter.resolve(undefined);
  }

  fail(error: unknown): void {
    for (const piece of [...this.#waiters.keys()]) for (const waiter of this.#take(piece)) waiter.reject(error);
  }

  #of(piece: number): Set<Waiter> {
    let waiters = this.#waiters.get(piece);
    if (waiters === undefined) {
      waiters = new Set();
      this.#waiters.set(piece, waiters);
    }
    return waiters;
  }

  #take(piece: number): ReadonlySet<Waiter> {
    const waiters = this.#waiters.get(piece) ?? new Set();
    this.#waiters.delete(piece);
    return waiters;
  }

  #forget(piece: number, waiter: Waiter): void {
    const waiters = this.#waiters.get(piece);
    if (waiters?.delete(waiter) === true && waiters.size === 0) this.#waiters.delete(piece);
  }
}
