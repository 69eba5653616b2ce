/**
 * The events of a simulation in order of time, equal times in order of insertion. Two stores, both of parallel arrays that are
 * reused: a ring for events that are due after one fixed delay (messages, most of all events), which come in order by themselves,
 * and a binary heap for the rest.
 */
import { assert } from '#core';

/** `subject` and `detail` mean what `kind` says. */
export interface TimedEvent<S, D> {
  timeMs: number;
  kind: number;
  subject: S | undefined;
  detail: D | undefined;
}

const capacityStart = 1024;

export class EventQueue<S, D> {
  /** Filled by {@link next}; the same object every time. */
  readonly current: TimedEvent<S, D> = { timeMs: 0, kind: 0, subject: undefined, detail: undefined };
  readonly #delayMs: number;
  #order = 0;
  // The heap holds slots; a slot's event stands in the arrays below.
  #heapTimes = new Float64Array(capacityStart);
  #heapOrders = new Float64Array(capacityStart);
  #heapSlots = new Int32Array(capacityStart);
  #heapSize = 0;
  readonly #freeSlots: number[] = [];
  readonly #kinds: number[] = [];
  readonly #subjects: (S | undefined)[] = [];
  readonly #details: (D | undefined)[] = [];
  // The ring; its capacity is a power of two.
  #ringTimes = new Float64Array(capacityStart);
  #ringOrders = new Float64Array(capacityStart);
  #ringKinds = new Uint8Array(capacityStart);
  #ringSubjects: (S | undefined)[] = new Array<S | undefined>(capacityStart).fill(undefined);
  #ringDetails: (D | undefined)[] = new Array<D | undefined>(capacityStart).fill(undefined);
  #ringStart = 0;
  #ringSize = 0;

  /** `delayMs` is the fixed delay of {@link pushDelayed}. */
  constructor(delayMs: number) {
    this.#delayMs = delayMs;
  }

  get size(): number {
    return this.#heapSize + this.#ringSize;
  }

  /** Time of the next event, or infinity. */
  get nextMs(): number {
    return Math.min(
      this.#heapSize === 0 ? Number.POSITIVE_INFINITY : (this.#heapTimes[0] ?? 0),
      this.#ringSize === 0 ? Number.POSITIVE_INFINITY : (this.#ringTimes[this.#ringStart] ?? 0),
    );
  }

  /** Adds an event that is due the fixed delay after `nowMs`, which never goes back. */
  pushDelayed(nowMs: number, kind: number, subject: S, detail?: D): void {
    if (this.#ringSize === this.#ringTimes.length) this.#growRing();
    const at = (this.#ringStart + this.#ringSize) & (this.#ringTimes.length - 1);
    this.#ringSize += 1;
    this.#order += 1;
    this.#ringTimes[at] = nowMs + this.#delayMs;
    this.#ringOrders[at] = this.#order;
    this.#ringKinds[at] = kind;
    this.#ringSubjects[at] = subject;
    this.#ringDetails[at] = detail;
  }

  /** Adds an event that is due at any time. */
  push(timeMs: number, kind: number, subject: S, detail?: D): void {
    const slot = this.#freeSlots.pop() ?? this.#kinds.length;
    this.#kinds[slot] = kind;
    this.#subjects[slot] = subject;
    this.#details[slot] = detail;
    if (this.#heapSize === this.#heapTimes.length) this.#growHeap();
    this.#order += 1;
    const order = this.#order;
    let at = this.#heapSize;
    this.#heapSize += 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#isAfter(parent, timeMs, order)) break;
      this.#move(parent, at);
      at = parent;
    }
    this.#set(at, timeMs, order, slot);
  }

  /** Takes the next event into {@link current}; there must be one. */
  next(): TimedEvent<S, D> {
    assert(this.size > 0, 'an event is left');
    if (this.#heapSize === 0 || (this.#ringSize > 0 && this.#isRingFirst())) this.#takeRing();
    else this.#takeHeap();
    return this.current;
  }

  #isRingFirst(): boolean {
    const ringMs = this.#ringTimes[this.#ringStart] ?? 0;
    const heapMs = this.#heapTimes[0] ?? 0;
    return ringMs < heapMs || (ringMs === heapMs && (this.#ringOrders[this.#ringStart] ?? 0) < (this.#heapOrders[0] ?? 0));
  }

  #takeRing(): void {
    const at = this.#ringStart;
    const { current } = this;
    current.timeMs = this.#ringTimes[at] ?? 0;
    current.kind = this.#ringKinds[at] ?? 0;
    current.subject = this.#ringSubjects[at];
    current.detail = this.#ringDetails[at];
    this.#ringSubjects[at] = undefined;
    this.#ringDetails[at] = undefined;
    this.#ringStart = (at + 1) & (this.#ringTimes.length - 1);
    this.#ringSize -= 1;
  }

  #takeHeap(): void {
    const { current } = this;
    const slot = this.#heapSlots[0] ?? 0;
    current.timeMs = this.#heapTimes[0] ?? 0;
    current.kind = this.#kinds[slot] ?? 0;
    current.subject = this.#subjects[slot];
    current.detail = this.#details[slot];
    this.#subjects[slot] = undefined;
    this.#details[slot] = undefined;
    this.#freeSlots.push(slot);
    this.#heapSize -= 1;
    const last = this.#heapSize;
    if (last > 0) this.#sink(this.#heapTimes[last] ?? 0, this.#heapOrders[last] ?? 0, this.#heapSlots[last] ?? 0);
  }

  /** Puts an event at the root and lets it sink to its place. */
  #sink(timeMs: number, order: number, slot: number): void {
    const size = this.#heapSize;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && this.#isAfter(child, this.#heapTimes[child + 1] ?? 0, this.#heapOrders[child + 1] ?? 0)) child += 1;
      if (this.#isAfter(child, timeMs, order)) break;
      this.#move(child, at);
      at = child;
    }
    this.#set(at, timeMs, order, slot);
  }

  #isAfter(at: number, timeMs: number, order: number): boolean {
    const other = this.#heapTimes[at] ?? 0;
    return other > timeMs || (other === timeMs && (this.#heapOrders[at] ?? 0) > order);
  }

  #move(from: number, to: number): void {
    this.#set(to, this.#heapTimes[from] ?? 0, this.#heapOrders[from] ?? 0, this.#heapSlots[from] ?? 0);
  }

  #set(at: number, timeMs: number, order: number, slot: number): void {
    this.#heapTimes[at] = timeMs;
    this.#heapOrders[at] = order;
    this.#heapSlots[at] = slot;
  }

  #growHeap(): void {
    const capacity = this.#heapTimes.length * 2;
    const times = new Float64Array(capacity);
    const orders = new Float64Array(capacity);
    const slots = new Int32Array(capacity);
    times.set(this.#heapTimes);
    orders.set(this.#heapOrders);
    slots.set(this.#heapSlots);
    this.#heapTimes = times;
    this.#heapOrders = orders;
    this.#heapSlots = slots;
  }

  #growRing(): void {
    const before = this.#ringTimes.length;
    const times = new Float64Array(before * 2);
    const orders = new Float64Array(before * 2);
    const kinds = new Uint8Array(before * 2);
    const subjects = new Array<S | undefined>(before * 2).fill(undefined);
    const details = new Array<D | undefined>(before * 2).fill(undefined);
    for (let step = 0; step < this.#ringSize; step += 1) {
      const at = (this.#ringStart + step) & (before - 1);
      times[step] = this.#ringTimes[at] ?? 0;
      orders[step] = this.#ringOrders[at] ?? 0;
      kinds[step] = this.#ringKinds[at] ?? 0;
      subjects[step] = this.#ringSubjects[at];
      details[step] = this.#ringDetails[at];
    }
    this.#ringTimes = times;
    this.#ringOrders = orders;
    this.#ringKinds = kinds;
    this.#ringSubjects = subjects;
    this.#ringDetails = details;
    this.#ringStart = 0;
  }
}
