/**
 * Messages that wait for a slow stream, at most one for each key: a newer message replaces (or is merged with) the one that
 * waits, so that the queue is bounded by the number of keys and a receiver that catches up hears the latest.
 */

export class Outbox<K, T> implements AsyncIterable<readonly [K, T]> {
  readonly #waiting = new Map<K, T>();
  #closed = false;
  #error: Error | undefined;
  #wake: () => void = () => undefined;
  #drained: (() => void)[] = [];

  /** Messages that wait. */
  get size(): number {
    return this.#waiting.size;
  }

  /** The message that waits under `key`. */
  get(key: K): T | undefined {
    return this.#waiting.get(key);
  }

  /** Queues or replaces; a replaced message keeps its place. Ignored after `close`. */
  set(key: K, message: T): void {
    if (this.#closed) return;
    this.#waiting.set(key, message);
    this.#wake();
  }

  delete(key: K): void {
    this.#waiting.delete(key);
  }

  /** Ends the iteration at once, with `error` when given; what waits is dropped. Safe to call twice. */
  close(error?: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#error = error;
    this.#waiting.clear();
    this.#wake();
    this.#release();
  }

  /** Resolves when fewer than `size` messages wait, or after `close`. */
  async below(size: number): Promise<void> {
    while (!this.#closed && this.#waiting.size >= size) {
      await new Promise<void>((resolve) => this.#drained.push(resolve));
    }
  }

  /** Takes messages, oldest first. One iteration at a time. */
  async *[Symbol.asyncIterator](): AsyncGenerator<readonly [K, T], void, undefined> {
    for (;;) {
      if (this.#closed) {
        if (this.#error !== undefined) throw this.#error;
        return;
      }
      const next = this.#waiting.entries().next();
      if (next.done === true) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        continue;
      }
      const [key, message] = next.value;
      this.#waiting.delete(key);
      this.#release();
      yield [key, message];
    }
  }

  #release(): void {
    const drained = this.#drained;
    this.#drained = [];
    for (const resolve of drained) resolve();
  }
}
