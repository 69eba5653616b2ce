/** Small helpers for waiting: promises settled from outside, waits that end with a signal, work in the background, a budget of bytes. */
import { assert } from '#core';

/** A promise and its two ends. A rejection that nobody waits for is not an unhandled one. */
export class Deferred<T> {
  readonly promise: Promise<T>;
  #resolve: (value: T) => void = () => undefined;
  #reject: (error: unknown) => void = () => undefined;

  constructor() {
    this.promise = new Promise<T>((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.promise.catch(() => undefined);
  }

  resolve(value: T): void {
    this.#resolve(value);
  }

  reject(error: unknown): void {
    this.#reject(error);
  }
}

/** Waits for `promise`, or rejects with the signal's reason when that comes first. */
export async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  let onAbort: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    if (onAbort !== undefined) signal.removeEventListener('abort', onAbort);
  }
}

/** Work that nobody waits for, until the end. What is given must handle its own errors. */
export class Background {
  readonly #running = new Set<Promise<void>>();

  run(work: Promise<void>): void {
    const running = work.finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  /** Resolves when nothing is running any more. */
  async idle(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }
}

/** A budget of bytes that is taken in the order of asking. One taker larger than the budget passes when nothing else is taken. */
export class ByteBudget {
  readonly #maxBytes: number;
  readonly #queue: { readonly sizeBytes: number; readonly go: () => void }[] = [];
  #takenBytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get takenBytes(): number {
    return this.#takenBytes;
  }

  /** Resolves when the bytes are the caller's, who gives them back by `release`. */
  async take(sizeBytes: number): Promise<void> {
    if (this.#queue.length === 0 && this.#fits(sizeBytes)) {
      this.#takenBytes += sizeBytes;
      return;
    }
    await new Promise<void>((resolve) => {
      this.#queue.push({ sizeBytes, go: resolve });
    });
  }

  release(sizeBytes: number): void {
    this.#takenBytes -= sizeBytes;
    assert(this.#takenBytes >= 0, 'only taken bytes are released');
    for (let first = this.#queue[0]; first !== undefined && this.#fits(first.sizeBytes); first = this.#queue[0]) {
      this.#queue.shift();
      this.#takenBytes += first.sizeBytes;
      first.go();
    }
  }

  #fits(sizeBytes: number): boolean {
    return this.#takenBytes === 0 || this.#takenBytes + sizeBytes <= this.#maxBytes;
  }
}
