/** A file that is looked at again when it is used, so that a change takes effect without a restart. */
import { type BigIntStats, constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { AppError, type Clock, type Logger, toAppError } from '#core';

/** A login a second after a change of the file already meets the new one. */
const checkIntervalMs = 1000;

export interface WatchedFileOptions<T> {
  readonly path: string;
  /** Larger files are refused. */
  readonly sizeBytesMax: number;
  /** Throws an AppError that says what is wrong. */
  readonly parse: (text: string) => T;
}

interface Seen<T> {
  readonly value: T;
  /** Tells one state of the file from another. */
  readonly mark: string;
}

/** The parsed content of a file. While the file is absent or wrong, what was last right stays in use, and the log says so once for each change. */
export class WatchedFile<T> {
  readonly #options: WatchedFileOptions<T>;
  readonly #deps: { readonly clock: Pick<Clock, 'nowMs'>; readonly logger: Logger };
  #seen: Seen<T>;
  #refusedMark: string | undefined;
  #checkedMs: number;
  #checking: Promise<void> | undefined;

  private constructor(options: WatchedFileOptions<T>, deps: WatchedFile<T>['deps'], seen: Seen<T>) {
    this.#options = options;
    this.#deps = deps;
    this.#seen = seen;
    this.#checkedMs = deps.clock.nowMs();
  }

  private get deps() {
    return this.#deps;
  }

  /** Reads the file. Throws `not-found`, or what `parse` throws. */
  static async open<T>(
    options: WatchedFileOptions<T>,
    deps: { readonly clock: Pick<Clock, 'nowMs'>; readonly logger: Logger },
  ): Promise<WatchedFile<T>> {
    return new WatchedFile(options, deps, await read(options, undefined) ?? unreachable());
  }

  /** The content as of at most a second ago. */
  async current(): Promise<T> {
    if (this.#deps.clock.nowMs() - this.#checkedMs >= checkIntervalMs) {
      this.#checking ??= this.#check().finally(() => {
        this.#checking = undefined;
      });
      await this.#checking;
    }
    return this.#seen.value;
  }

  async #check(): Promise<void> {
    const { path } = this.#options;
    this.#checkedMs = this.#deps.clock.nowMs();
    try {
      const seen = await read(this.#options, this.#seen.mark);
      if (seen === undefined) return;
      this.#seen = seen;
      this.#refusedMark = undefined;
      this.#deps.logger.info('file read again', { path });
    } catch (error) {
      const { message } = toAppError(error);
      if (this.#refusedMark === message) return;
      this.#refusedMark = message;
      this.#deps.logger.error('file not usable, the former content stays in use', { path, error: message });
    }
  }
}
