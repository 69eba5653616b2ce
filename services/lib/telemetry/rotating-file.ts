/** Appends lines to a file without ever making the caller wait: buffered, bounded in memory and on disk. */
import { type FileHandle, open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { AppError, type Clock, type Logger, toAppError } from '#core';

export interface RotatingFileOptions {
  readonly file: string;
  /** Of the file and the one before it (`<file>.1`) together. */
  readonly maxBytes: number;
}

export interface RotatingFileDeps {
  readonly clock: Pick<Clock, 'after'>;
  readonly logger: Logger;
}

/** Bytes that may wait to be written: a few seconds of a busy node. */
const waitingBytesMax = 4 * 1024 * 1024;
/** How long a line may wait for others to be written with it. */
const flushDelayMs = 200;
/** So much is written without waiting for more. */
const flushBytes = 64 * 1024;

export class RotatingFile implements AsyncDisposable {
  readonly #options: RotatingFileOptions;
  readonly #deps: RotatingFileDeps;
  readonly #waitingBytesMax: number;
  #handle: FileHandle | undefined;
  #sizeBytes: number;
  #waiting: string[] = [];
  #waitingBytes = 0;
  #flushing: Promise<void> | undefined;
  #cancelTimer: (() => void) | undefined;
  #failing = false;
  #closed = false;

  private constructor(options: RotatingFileOptions, deps: RotatingFileDeps, handle: FileHandle, sizeBytes: number) {
    this.#options = options;
    this.#deps = deps;
    // What is written at once fits into half of the room, so that a fresh file has a place for it.
    this.#waitingBytesMax = Math.min(waitingBytesMax, Math.floor(options.maxBytes / 4));
    this.#handle = handle;
    this.#sizeBytes = sizeBytes;
  }

  /** Opens the file to append. Throws `failed-precondition` when that is not possible. */
  static async open(options: RotatingFileOptions, deps: RotatingFileDeps): Promise<RotatingFile> {
    try {
      const handle = await open(options.file, 'a', 0o640);
      const { size } = await handle.stat();
      return new RotatingFile(options, deps, handle, size);
    } catch (error) {
      const { message } = toAppError(error);
      throw new AppError('failed-precondition', `cannot append to ${options.file}: make ${dirname(options.file)} writable (${message})`, {
        cause: error,
      });
    }
  }

  /** Takes a line without its line feed; false, and the line is lost, when too much waits or the disk refuses. */
  write(line: string): boolean {
    const sizeBytes = Buffer.byteLength(line) + 1;
    if (this.#closed || this.#waitingBytes + sizeBytes > this.#waitingBytesMax) return false;
    this.#waiting.push(line);
    this.#waitingBytes += sizeBytes;
    if (this.#waitingBytes >= flushBytes && !this.#failing) this.#flush();
    else this.#cancelTimer ??= this.#deps.clock.after(flushDelayMs, () => this.#flush());
    return true;
  }

  /** Resolves when what waits now is written, or the disk has refused it. */
  async flush(): Promise<void> {
    await this.#flushing;
    if (this.#waiting.length > 0) this.#flush();
    await this.#flushing;
  }

  /** Writes what waits and closes the file. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await this.flush();
    this.#cancelTimer?.();
    await this.#handle?.close().catch(() => undefined);
    this.#handle = undefined;
  }

  #flush(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#flushing ??= this.#drain().finally(() => {
      this.#flushing = undefined;
      if (this.#waiting.length > 0) this.#cancelTimer ??= this.#deps.clock.after(flushDelayMs, () => this.#flush());
    });
  }

  /** Never rejects: what the disk refuses stays waiting, within its bound, and is tried again. */
  async #drain(): Promise<void> {
    const lines = this.#waiting;
    const chunk = Buffer.from(`${lines.join('\n')}\n`);
    try {
      if (this.#sizeBytes > 0 && this.#sizeBytes + chunk.byteLength > this.#options.maxBytes / 2) await this.#rotate();
      this.#handle ??= await open(this.#options.file, 'a', 0o640);
      this.#waiting = [];
      await this.#handle.appendFile(chunk);
      this.#sizeBytes += chunk.byteLength;
      this.#failing = false;
    } catch (error) {
      this.#waiting = lines.concat(this.#waiting === lines ? [] : this.#waiting);
      if (!this.#failing) this.#deps.logger.warn('a file takes no lines; trying on', { error: toAppError(error).message });
      this.#failing = true;
      return;
    }
    this.#waitingBytes -= chunk.byteLength;
  }

  /** The file becomes `<file>.1` in place of the one before. */
  async #rotate(): Promise<void> {
    await this.#handle?.close();
    this.#handle = undefined;
    await rename(this.#options.file, `${this.#options.file}.1`);
    this.#sizeBytes = 0;
  }
}
