/** Between the object streams of grpc-js and async iterables: backpressure both ways, and clean-up when either side leaves early. */
import type { Readable, Writable } from 'node:stream';
import { OutgoingMessage } from './outgoing-message.ts';

/**
 * Writes everything `values` yields and waits whenever the stream asks for it, or while `waitingMax` values wait for the transport. Stops early,
 * ending the iterable, when the stream is destroyed. Does not end the stream. Throws what the iterable throws.
 */
export async function writeAll(stream: Writable, values: AsyncIterable<unknown>, waitingMax?: number): Promise<void> {
  const gate = waitingMax === undefined ? undefined : new WriteGate(stream, waitingMax);
  for await (const value of values) {
    if (stream.destroyed || stream.writableEnded) return;
    if (gate !== undefined) await gate.write(value);
    else if (!stream.write(value)) await writable(stream);
  }
}

/** Resolves when the stream takes more, or never will. */
function writable(stream: Writable): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      stream.off('drain', done);
      stream.off('close', done);
      resolve();
    };
    if (stream.destroyed) {
      resolve();
      return;
    }
    stream.on('drain', done);
    stream.on('close', done);
  });
}

/** The own mark of an object stream counts sixteen values of whatever size; here the caller says how many may wait. */
class WriteGate {
  readonly #stream: Writable;
  readonly #waitingMax: number;
  #waitingCount = 0;
  #wake: () => void = () => undefined;

  constructor(stream: Writable, waitingMax: number) {
    this.#stream = stream;
    this.#waitingMax = waitingMax;
    stream.on('close', () => this.#wake());
  }

  /** Resolves when the next value may be written, or none any more. */
  async write(value: unknown): Promise<void> {
    this.#waitingCount += 1;
    this.#stream.write(value, (error) => {
      if (error == null && value instanceof OutgoingMessage) value.written();
      this.#waitingCount -= 1;
      this.#wake();
    });
    while (this.#waitingCount >= this.#waitingMax && !this.#stream.destroyed) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

/** Yields what arrives. Leaving the loop early leaves the stream as it is; `translate` turns its errors into ours. */
export async function* readAll<T>(stream: Readable, translate: (error: unknown) => Error): AsyncGenerator<T, void, undefined> {
  try {
    yield* stream.iterator({ destroyOnReturn: false });
  } catch (error) {
    throw translate(error);
  }
}
