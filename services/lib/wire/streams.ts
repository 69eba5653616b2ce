/** Between the object streams of grpc-js and async iterables: backpressure both ways, and clean-up when either side leaves early. */
import type { Readable, Writable } from 'node:stream';

/**
 * Writes everything `values` yields and waits whenever the stream asks for it. Stops early, ending the iterable, when the stream is
 * destroyed. Does not end the stream. Throws what the iterable throws.
 */
export async function writeAll(stream: Writable, values: AsyncIterable<unknown>): Promise<void> {
  for await (const value of values) {
    if (stream.destroyed || stream.writableEnded) return;
    if (!stream.write(value)) await writable(stream);
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

/** Yields what arrives. Leaving the loop early leaves the stream as it is; `translate` turns its errors into ours. */
export async function* readAll<T>(stream: Readable, translate: (error: unknown) => Error): AsyncGenerator<T, void, undefined> {
  try {
    yield* stream.iterator({ destroyOnReturn: false });
  } catch (error) {
    throw translate(error);
  }
}
