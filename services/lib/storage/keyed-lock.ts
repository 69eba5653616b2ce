/** Runs tasks of one key one after the other, in the order they were asked for; different keys run side by side. */
export class KeyedLock<K> {
  readonly #tails = new Map<K, Promise<void>>();

  /** Queues `task` behind the earlier ones of `key`, at once and synchronously, and resolves to its result. */
  run<T>(key: K, task: () => Promise<T>): Promise<T> {
    const result = (this.#tails.get(key) ?? Promise.resolve()).then(task);
    const tail = result.then(ignore, ignore);
    this.#tails.set(key, tail);
    void tail.then(() => {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    });
    return result;
  }

  /** Resolves when everything queued so far has ended. */
  async idle(): Promise<void> {
    await Promise.all(this.#tails.values());
  }
}

const ignore = (): void => undefined;
