/** A fixed set of read buffers, lent first come, first served: it bounds both memory and the reads under way. */
import { assert } from '#core';

export class BufferPool {
  readonly #free: Buffer[] = [];
  readonly #waiting: ((buffer: Buffer) => void)[] = [];

  /** Allocates `count` buffers of `sizeBytes` each; the system backs them with memory on first use. */
  constructor(options: { readonly count: number; readonly sizeBytes: number }) {
    assert(options.count >= 1 && options.sizeBytes >= 1, 'a pool has at least one buffer');
    for (let i = 0; i < options.count; i += 1) this.#free.push(Buffer.allocUnsafeSlow(options.sizeBytes));
  }

  /** Lends a buffer for as long as `work` runs. */
  async use<T>(work: (buffer: Buffer) => Promise<T>): Promise<T> {
    const buffer = this.#free.pop() ?? (await new Promise<Buffer>((resolve) => this.#waiting.push(resolve)));
    try {
      return await work(buffer);
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free.push(buffer);
      else next(buffer);
    }
  }
}
