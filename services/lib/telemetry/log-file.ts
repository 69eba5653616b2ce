/** A file of log lines that never holds up who writes: lines wait in memory, within a bound, and what does not fit is counted and dropped. */
import { once } from 'node:events';
import { mkdir, open, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { pino } from 'pino';
import { AppError, type Clock, type Logger, type Meter, toAppError } from '#core';
import type { LogDestination } from './logger.ts';

/** Lines that may wait for the disk, in bytes: some ten thousand. */
const waitingBytesMax = 4 * 1024 * 1024;
/** How often it is looked whether the file was moved away, as logrotate does, in milliseconds. */
const checkIntervalMs = 5000;

export interface LogFileDeps {
  readonly clock: Pick<Clock, 'after'>;
  readonly logger: Logger;
  readonly meter: Meter;
}

type Stream = ReturnType<typeof pino.destination>;

export class LogFile implements LogDestination, AsyncDisposable {
  readonly #path: string;
  readonly #deps: LogFileDeps;
  readonly #stream: Stream;
  #inode: number | undefined;
  #droppedCount = 0;
  #isTold = false;
  #isClosed = false;
  #cancel: () => void = () => undefined;

  private constructor(path: string, stream: Stream, deps: LogFileDeps) {
    this.#path = path;
    this.#stream = stream;
    this.#deps = deps;
    stream.on('drop', () => this.#lost('log lines dropped, the disk is too slow'));
    stream.on('error', (error: Error) => this.#lost('log file not written', error));
    deps.meter.gauge('shoal_telemetry_dropped_log_lines_count', 'Lines of the log file that were lost.', () => this.#droppedCount);
  }

  /** Opens the file for appending; it and its folder are made when absent. Throws `invalid-argument` when that cannot be done. */
  static async open(path: string, deps: LogFileDeps): Promise<LogFile> {
    try {
      // Asked before pino is: a stream of its that never opened fails once more when the process ends.
      await mkdir(dirname(path), { recursive: true });
      await (await open(path, 'a', 0o640)).close();
    } catch (cause) {
      throw new AppError('invalid-argument', `cannot write to ${path}: ${toAppError(cause).message}`, { cause });
    }
    const stream = pino.destination({ dest: path, sync: false, append: true, maxLength: waitingBytesMax });
    await once(stream, 'ready');
    const file = new LogFile(path, stream, deps);
    await file.#look();
    return file;
  }

  write(line: string): void {
    if (!this.#isClosed) this.#stream.write(line);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    this.#cancel();
    const closed = new Promise<void>((resolve) => this.#stream.once('close', resolve));
    this.#stream.end();
    await closed;
  }

  /** Opens the path again once another file, or none, stands there. */
  async #look(): Promise<void> {
    const inode = await stat(this.#path).then(
      ({ ino }) => ino,
      () => undefined,
    );
    if (this.#isClosed) return;
    if (this.#inode !== undefined && inode !== this.#inode) this.#stream.reopen();
    this.#inode = inode === undefined ? -1 : inode;
    this.#cancel = this.#deps.clock.after(checkIntervalMs, () => void this.#look());
  }

  #lost(message: string, error?: Error): void {
    this.#droppedCount += 1;
    if (this.#isTold) return;
    this.#isTold = true;
    this.#deps.logger.error(message, { path: this.#path, ...(error === undefined ? {} : { error: error.message }) });
  }
}
