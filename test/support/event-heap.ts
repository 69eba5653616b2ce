/** A binary heap of timed events for discrete-event runs: times in a typed array, equal times in order of insertion. */

export class EventHeap<T> {
  #timesMs = new Float64Array(1024);
  #orders = new Float64Array(1024);
  readonly #events: T[] = [];
  #order = 0;

  get size(): number {
    return this.#events.length;
  }

  /** Time of the next event, or infinity. */
  get nextMs(): number {
    return this.#events.length === 0 ? Number.POSITIVE_INFINITY : (this.#timesMs[0] ?? 0);
  }

  push(timeMs: number, event: T): void {
    if (this.#events.length === this.#timesMs.length) this.#grow();
    let at = this.#events.length;
    this.#events.push(event);
    this.#order += 1;
    const order = this.#order;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#isAfter(parent, timeMs, order)) break;
      this.#move(parent, at);
      at = parent;
    }
    this.#set(at, timeMs, order, event);
  }

  /** Removes and returns the next event; the heap must not be empty. */
  pop(): T {
    const first = this.#events[0] as T;
    const lastAt = this.#events.length - 1;
    const timeMs = this.#timesMs[lastAt] ?? 0;
    const order = this.#orders[lastAt] ?? 0;
    const last = this.#events.pop() as T;
    if (lastAt === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= lastAt) break;
      if (child + 1 < lastAt && this.#isAfter(child, this.#timesMs[child + 1] ?? 0, this.#orders[child + 1] ?? 0)) child += 1;
      if (this.#isAfter(child, timeMs, order)) break;
      this.#move(child, at);
      at = child;
    }
    this.#set(at, timeMs, order, last);
    return first;
  }

  #isAfter(at: number, timeMs: number, order: number): boolean {
    const other = this.#timesMs[at] ?? 0;
    return other > timeMs || (other === timeMs && (this.#orders[at] ?? 0) > order);
  }

  #move(from: number, to: number): void {
    this.#set(to, this.#timesMs[from] ?? 0, this.#orders[from] ?? 0, this.#events[from] as T);
  }

  #set(at: number, timeMs: number, order: number, event: T): void {
    this.#timesMs[at] = timeMs;
    this.#orders[at] = order;
    this.#events[at] = event;
  }

  #grow(): void {
    const times = new Float64Array(this.#timesMs.length * 2);
    times.set(this.#timesMs);
    const orders = new Float64Array(times.length);
    orders.set(this.#orders);
    this.#timesMs = times;
    this.#orders = orders;
  }
}
