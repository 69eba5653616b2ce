/** A file that is looked at again when it is used, so that a change takes effect without a restart. */
import { open } from 'node:fs/promises';
import { AppError, type Clock, type Logger, toAppError } from '#core';

/** A login a second after a change of the file already meets the new content. */
const checkIntervalMs = 1000;

export interface WatchedFileOptions<T> {
  readonly path: string;
  /** Larger files are refused. */
  readonly sizeBytesMax: number;
  /** Throws an AppError that says what is wrong. */
  readonly parse: (text: string) => T;
}

export interface WatchedFileDeps {
  readonly clock: Pick<Clock, 'nowMs'>;
  readonly logger: Logger;
}

interface Seen<T> {
  readonly value: T;
  /** Tells one state of the file from another. */
  readonly mark: string;
}

/** The parsed content of a file. While the file is absent or wrong, what was last right stays in use, and the log says so once for each fault. */
export class WatchedFile<T> {
  readonly #options: WatchedFileOptions<T>;
  readonly #deps: WatchedFileDeps;
  #seen: Seen<T>;
  #fault: string | undefined;
  #checkedMs: number;
  #checking: Promise<void> | undefined;

  private constructor(options: WatchedFileOptions<T>, deps: WatchedFileDeps, seen: Seen<T>) {
    this.#options = options;
    this.#deps = deps;
    this.#seen = seen;
    this.#checkedMs = deps.clock.nowMs();
  }

  /** Reads the file. Throws `not-found`, or what `parse` throws. */
  static async open<T>(options: WatchedFileOptions<T>, deps: WatchedFileDeps): Promise<WatchedFile<T>> {
    return new WatchedFile(options, deps, await read(options));
  }

  /** The content as of at most a second ago. */
  async current(): Promise<T> {
    if (this.#deps.clock.nowMs() - this.#checkedMs >= checkIntervalMs) {
      this.#checking ??= this.#check().finally(() => {
        this.#checkedMs = this.#deps.clock.nowMs();
        this.#checking = undefined;
      });
      await this.#checking;
    }
    return this.#seen.value;
  }

  async #check(): Promise<void> {
    const { path } = this.#options;
    try {
      const seen = await read(this.#options, this.#seen);
      this.#fault = undefined;
      if (seen === this.#seen) return;
      this.#seen = seen;
      this.#deps.logger.info('file read again', { path });
    } catch (error) {
      const { message } = toAppError(error);
      if (this.#fault !== message) this.#deps.logger.error('file not usable, its former content stays in use', { path, error: message });
      this.#fault = message;
    }
  }
}

/** Returns `known` when the file is still the same. */
async function read<T>({ path, sizeBytesMax, parse }: WatchedFileOptions<T>, known?: Seen<T>): Promise<Seen<T>> {
  try {
    await using file = await open(path);
    const { ino, size, mtimeNs, ctimeNs } = await file.stat({ bigint: true });
    const mark = [ino, size, mtimeNs, ctimeNs].join(' ');
    if (mark === known?.mark) return known;
    if (size > sizeBytesMax) throw new AppError('invalid-argument', `${path} is too large: at most ${sizeBytesMax} bytes`);
    return { value: parse(await file.readFile('utf8')), mark };
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw new AppError('not-found', `cannot read ${path}: ${toAppError(error).message}`, { cause: error });
  }
}
