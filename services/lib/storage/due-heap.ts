/** A heap of what is due when, earliest first; what is due together comes out in the order it went in. */

interface Item<T> {
  readonly dueMs: number;
  readonly order: number;
  readonly value: T;
}

export class DueHeap<T> {
  readonly #items: Item<T>[] = [];
  #order = 0;

  push(dueMs: number, value: T): void {
    const items = this.#items;
    const item = { dueMs, order: this.#order, value };
    this.#order += 1;
    let at = items.length;
    items.push(item);
    while (at > 0) {
      const up = (at - 1) >> 1;
      const parent = items[up];
      if (parent === undefined || !isBefore(item, parent)) break;
      items[at] = parent;
      at = up;
    }
    items[at] = item;
  }

  /** The earliest, or undefined when the heap is empty. */
  peek(): { readonly dueMs: number; readonly value: T } | undefined {
    return this.#items[0];
  }

  /** Takes the earliest out. */
  pop(): void {
    const items = this.#items;
    const last = items.pop();
    if (last === undefined || items.length === 0) return;
    let at = 0;
    for (;;) {
      const down = this.#earlierChild(at);
      const child = items[down];
      if (child === undefined || !isBefore(child, last)) break;
      items[at] = child;
      at = down;
    }
    items[at] = last;
  }

  #earlierChild(at: number): number {
    const left = this.#items[2 * at + 1];
    const right = this.#items[2 * at + 2];
    return left !== undefined && right !== undefined && isBefore(right, left) ? 2 * at + 2 : 2 * at + 1;
  }
}

function isBefore<T>(a: Item<T>, b: Item<T>): boolean {
  return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order);
}
