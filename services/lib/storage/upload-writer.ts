/** Turns the small chunks of an HTTP body into large writes: one buffer fills while the other is written and hashed. */
import type { FileHandle } from 'node:fs/promises';
import { assert } from '#core';
import { writeFully } from './files.ts';
import { onDisk } from './fs-errors.ts';

export interface UploadWriterDeps {
  readonly file: FileHandle;
  /** Called with the bytes of each write, in order, while it runs. The buffer is reused afterwards. */
  readonly hash: (bytes: Uint8Array) => void;
  /** Told how far the file is written. */
  readonly written: (endByte: number) => void;
}

/** Node hands over bodies in chunks of at most 64 KiB; a write of 1 MiB costs one trip to the thread pool instead of sixteen. */
const bufferBytes = 1024 * 1024;

export class UploadWriter {
  readonly #deps: UploadWriterDeps;
  #filling: Buffer = Buffer.allocUnsafeSlow(bufferBytes);
  #spare: Buffer | undefined;
  #filledBytes = 0;
  #writing: Promise<void> = Promise.resolve();
  /** Where the next write goes. */
  #positionBytes: number;
  #writtenBytes: number;

  /** Writes from `offsetBytes` of the file on. */
  constructor(offsetBytes: number, deps: UploadWriterDeps) {
    this.#deps = deps;
    this.#positionBytes = offsetBytes;
    this.#writtenBytes = offsetBytes;
  }

  /** The end of what may be in the file. */
  get positionBytes(): number {
    return this.#positionBytes;
  }

  /** The end of what is surely in the file. */
  get writtenBytes(): number {
    return this.#writtenBytes;
  }

  /** Takes bytes over; waits while two writes' worth is under way. Throws what the write before threw. */
  async add(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.byteLength; ) {
      const take = Math.min(bytes.byteLength - at, bufferBytes - this.#filledBytes);
      this.#filling.set(bytes.subarray(at, at + take), this.#filledBytes);
      this.#filledBytes += take;
      at += take;
      if (this.#filledBytes === bufferBytes) await this.#send();
    }
  }

  /** Writes what is left and waits for it. */
  async end(): Promise<void> {
    if (this.#filledBytes > 0) await this.#send();
    await this.#writing;
  }

  async #send(): Promise<void> {
    await this.#writing;
    const full = this.#filling;
    const bytes = full.subarray(0, this.#filledBytes);
    this.#filling = this.#spare ?? Buffer.allocUnsafeSlow(bufferBytes);
    this.#spare = full;
    this.#filledBytes = 0;
    this.#writing = this.#write(bytes, this.#positionBytes);
    // The error is thrown by the next call; until then it must not count as unhandled.
    this.#writing.catch(() => undefined);
    this.#positionBytes += bytes.byteLength;
    this.#deps.hash(bytes);
  }

  async #write(bytes: Uint8Array, positionBytes: number): Promise<void> {
    await onDisk('writing an upload', () => writeFully(this.#deps.file, bytes, positionBytes));
    assert(this.#writtenBytes === positionBytes, 'writes are in order');
    this.#writtenBytes += bytes.byteLength;
    this.#deps.written(this.#writtenBytes);
  }
}
