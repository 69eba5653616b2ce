/** Readers that wait for pieces of one blob, and the piece that they share with whoever writes it. */
import { giveBackMessage } from '#core';

/**
 * A verified piece in memory, which nobody changes. The memory is given back at once when the last user has let go of it; one that never does
 * leaves it to the collection of garbage.
 */
export class SharedPiece {
  readonly bytes: Uint8Array;
  #userCount = 1;

  /** Its maker is its first user. */
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  retain(): this {
    this.#userCount += 1;
    return this;
  }

  /** Once for each user, who has no view of the bytes any more. */
  release(): void {
    this.#userCount -= 1;
    if (this.#userCount === 0) giveBackMessage(this.bytes);
  }
}

interface Waiter {
  readonly resolve: (piece: SharedPiece | undefined) => void;
  readonly reject: (error: unknown) => void;
}

export class PieceWaiters {
  readonly #waiters = new Map<number, Set<Waiter>>();

  /**
   * Resolves with the piece, of which the caller is a user from then on, or with undefined when it is to be read from disk. Rejects with the
   * signal's reason when it aborts first.
   */
  async wait(piece: number, signal: AbortSignal): Promise<SharedPiece | undefined> {
    signal.throwIfAborted();
    let onAbort: (() => void) | undefined;
    let waiter: Waiter | undefined;
    try {
      return await new Promise<SharedPiece | undefined>((resolve, reject) => {
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

  /** The piece is verified and in memory. */
  arrived(piece: number, shared: SharedPiece): void {
    for (const waiter of this.#take(piece)) waiter.resolve(shared.retain());
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
