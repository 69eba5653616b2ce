/** A blob whose size is known and whose bytes are still to come: reads wait until it is in the mesh, then go on there. */
import type { BlobReader, ByteRange, CallOptions, ReadOptions } from '#core';
import { abortable } from '#upstream';

export interface AwaitedBlobParts {
  readonly sizeBytes: number;
  /** Resolves when the blob can be opened. */
  readonly ready: Promise<void>;
  readonly open: (options: CallOptions) => Promise<BlobReader>;
  /** Nobody waits for `ready` any more. */
  readonly giveUp: () => void;
}

export class AwaitedBlob implements BlobReader {
  readonly sizeBytes: number;
  readonly #parts: AwaitedBlobParts;
  #opened: Promise<BlobReader> | undefined;
  readonly #closed = new AbortController();

  constructor(parts: AwaitedBlobParts) {
    this.sizeBytes = parts.sizeBytes;
    this.#parts = parts;
  }

  async *read(range: ByteRange, options: ReadOptions): AsyncGenerator<Uint8Array> {
    await abortable(this.#parts.ready, options.signal);
    this.#opened ??= this.#parts.open({ signal: this.#closed.signal });
    const reader = await abortable(this.#opened, options.signal);
    yield* reader.read(range, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#parts.giveUp();
    this.#closed.abort();
    const reader = await this.#opened?.catch(() => undefined);
    await reader?.[Symbol.asyncDispose]();
  }
}
