/**
 * One body for several readers. The first one sets the pace and decides over success; each of the others follows it within a bounded queue, and one that
 * lags for too long is left behind.
 */
import { AppError, type Clock, giveBack, share } from '#core';

/** What may wait for a reader that follows, in bytes: some messages of its stream. */
const waitingBytesMax = 512 * 1024;
/** How long the body waits for one that takes nothing, in milliseconds, before it goes on without it. */
const lagMsMax = 3000;

/** What a reader that follows gets. Throws what the body broke off with, and `aborted` when this reader was left behind. */
export class BodyBranch implements AsyncIterable<Uint8Array> {
  readonly #clock: Pick<Clock, 'after'>;
  readonly #queue: Uint8Array[] = [];
  #waitingBytes = 0;
  #state: { readonly name: 'open' | 'over' } | { readonly name: 'failed'; readonly error: unknown } = { name: 'open' };
  #wakeReader: () => void = () => undefined;
  #wakeWriter: () => void = () => undefined;

  constructor(clock: Pick<Clock, 'after'>) {
    this.#clock = clock;
  }

  get isOpen(): boolean {
    return this.#state.name === 'open';
  }

  /** Takes the bytes, whose memory the other readers share. Resolves when there is room again, or nobody to wait for. */
  async add(bytes: Uint8Array): Promise<void> {
    share(bytes);
    this.#queue.push(bytes);
    this.#waitingBytes += bytes.byteLength;
    this.#wakeReader();
    if (this.#waitingBytes < waitingBytesMax) return;
    const left = new AppError('aborted', 'the reader takes the bytes too slowly');
    const cancel = this.#clock.after(lagMsMax, () => this.fail(left));
    await new Promise<void>((resolve) => {
      this.#wakeWriter = resolve;
    });
    cancel();
  }

  /** The body is whole. */
  end(): void {
    if (this.isOpen) this.#state = { name: 'over' };
    this.#wakeReader();
  }

  /** The body broke off, or this reader is of no use any more. */
  fail(error: unknown): void {
    if (!this.isOpen) return;
    this.#state = { name: 'failed', error };
    for (const bytes of this.#queue.splice(0)) giveBack(bytes);
    this.#wakeReader();
    this.#wakeWriter();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        const bytes = this.#queue.shift();
        if (bytes !== undefined) {
          this.#waitingBytes -= bytes.byteLength;
          if (this.#waitingBytes < waitingBytesMax) this.#wakeWriter();
          yield bytes;
        } else if (this.#state.name === 'failed') throw this.#state.error;
        else if (this.#state.name === 'over') return;
        else {
          await new Promise<void>((resolve) => {
            this.#wakeReader = resolve;
          });
        }
      }
    } finally {
      this.fail(new AppError('cancelled', 'nobody reads any more'));
    }
  }
}

/** The body for its first reader, who makes it flow; the branches get the same bytes a moment earlier. */
export async function* forkBody(body: AsyncIterable<Uint8Array>, branches: readonly BodyBranch[]): AsyncGenerator<Uint8Array> {
  try {
    for await (const bytes of body) {
      for (const branch of branches) if (branch.isOpen) await branch.add(bytes);
      yield bytes;
    }
    for (const branch of branches) branch.end();
  } catch (error) {
    for (const branch of branches) branch.fail(error);
    throw error;
  } finally {
    for (const branch of branches) branch.fail(new AppError('cancelled', 'the body was not read to its end'));
  }
}
