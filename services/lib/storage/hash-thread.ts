/**
 * Hashes large files on a thread of its own, which reads them itself: SHA-256 does 1.4 GB a second, and would take half of the time of the thread
 * that also does TLS. The bytes are in the page cache, since they were written a moment ago.
 */
import type { FileHandle } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import {
  AppError,
  assert,
  type Digest,
  type DigestAlgorithm,
  digestFromBytes,
  leafSizeBytes,
  type Metainfo,
  metainfoOfLeaves,
} from '#core';

/** What the thread is asked. `file` numbers the files that are being hashed, `ticket` the questions. */
export type HashOrder = { readonly ticket: number; readonly file: number } & (
  | { readonly what: 'start'; readonly algorithm: DigestAlgorithm; readonly leaves: boolean }
  | { readonly what: 'read'; readonly descriptor: number; readonly startByte: number; readonly endByte: number }
  | { readonly what: 'digest' | 'leaves' | 'end' }
);
type Question = HashOrder extends infer O ? (O extends HashOrder ? Omit<O, 'ticket'> : never) : never;

export interface HashAnswer {
  readonly ticket: number;
  readonly result?: Uint8Array | undefined;
  /** `code` is that of the system. */
  readonly failed?: { readonly message: string; readonly code: string | undefined };
}

/** What one file gets at a time, so that others are not kept waiting: some 10 ms. */
const turnBytesMax = 8 * 1024 * 1024;

/** Below this, waking the thread costs more than hashing. */
const sizeBytesMinDefault = 4 * 1024 * 1024;

interface Waiter {
  readonly resolve: (result: HashAnswer['result']) => void;
  readonly reject: (error: unknown) => void;
}

export class HashThread implements AsyncDisposable {
  /** Smaller files are not worth a thread; 4 MiB by default. */
  readonly sizeBytesMin: number;
  #worker: Worker | undefined;
  #lastTicket = 0;
  #lastFile = 0;
  /** One for each file that is being hashed, at most. */
  readonly #waiting = new Map<number, Waiter>();
  /** Threads that have ended, with all that they knew. */
  #endedCount = 0;

  constructor(options: { readonly sizeBytesMin?: number } = {}) {
    this.sizeBytesMin = options.sizeBytesMin ?? sizeBytesMinDefault;
  }

  /** Begins a file. The thread starts with the first one, and again after it has broken. */
  open(options: { readonly algorithm: DigestAlgorithm; readonly leaves: boolean }): ThreadHasher {
    this.#lastFile += 1;
    const file = this.#lastFile;
    // One that has ended, or has not begun, has nothing to forget; nobody waits for the answer.
    const forget = (): void => this.#worker?.postMessage({ ticket: 0, file, what: 'end' } satisfies HashOrder);
    return new ThreadHasher({ file, ...options }, { ask: (question) => this.#ask(question), forget, endedCount: () => this.#endedCount });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const worker = this.#worker;
    this.#worker = undefined;
    this.#broken(new AppError('cancelled', 'the process ends'));
    await worker?.terminate();
  }

  async #ask(question: Question): Promise<HashAnswer['result']> {
    const worker = this.#running();
    this.#lastTicket += 1;
    const ticket = this.#lastTicket;
    return await new Promise((resolve, reject) => {
      this.#waiting.set(ticket, { resolve, reject });
      worker.postMessage({ ...question, ticket });
    });
  }

  #running(): Worker {
    if (this.#worker !== undefined) return this.#worker;
    // Of bundles it lies beside the program.
    const worker = new Worker(new URL('./hash-worker.mjs', import.meta.url), { name: 'hash', workerData: { leafSizeBytes }, execArgv: [] });
    // Whoever waits for an answer keeps the process alive.
    worker.unref();
    worker.on('message', ({ ticket, result, failed }: HashAnswer) => {
      const waiter = this.#waiting.get(ticket);
      this.#waiting.delete(ticket);
      if (failed === undefined) waiter?.resolve(result);
      else waiter?.reject(Object.assign(new Error(failed.message), failed.code === undefined ? {} : { code: failed.code }));
    });
    const ended = (cause?: unknown): void => {
      if (this.#worker !== worker) return;
      this.#worker = undefined;
      this.#broken(new AppError('internal', 'the thread that hashes has ended', { cause }));
    };
    worker.on('error', ended).on('exit', ended);
    this.#worker = worker;
    return worker;
  }

  #broken(error: AppError): void {
    this.#endedCount += 1;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}

export interface ThreadHasherDeps {
  readonly ask: (question: Question) => Promise<HashAnswer['result']>;
  /** Has the thread forget the file. */
  readonly forget: () => void;
  /** How many threads have ended: what was begun on one of them is lost. */
  readonly endedCount: () => number;
}

/** One file on its way through the thread. One call at a time. After an error it begins again with the first byte. */
export class ThreadHasher {
  readonly #start: { readonly file: number; readonly algorithm: DigestAlgorithm; readonly leaves: boolean };
  readonly #deps: ThreadHasherDeps;
  #hashedBytes = 0;
  /** The count of ended threads when it was begun; undefined until then. */
  #begunAt: number | undefined;
  /** The thread may hold hashes of it, also those of an attempt that was given up. */
  #known = false;

  constructor(start: { readonly file: number; readonly algorithm: DigestAlgorithm; readonly leaves: boolean }, deps: ThreadHasherDeps) {
    this.#start = start;
    this.#deps = deps;
  }

  get hashedBytes(): number {
    return this.#isBegun ? this.#hashedBytes : 0;
  }

  /** Hashes on to `endByte`, a turn at a time. Throws the signal's reason, and what reading throws. */
  async readTo(file: FileHandle, endByte: number, signal?: AbortSignal): Promise<void> {
    try {
      if (!this.#isBegun) await this.#begin();
      while (this.#hashedBytes < endByte) {
        signal?.throwIfAborted();
        const turnEnd = Math.min(endByte, this.#hashedBytes + turnBytesMax);
        await this.#deps.ask({ file: this.#start.file, what: 'read', descriptor: file.fd, startByte: this.#hashedBytes, endByte: turnEnd });
        this.#hashedBytes = turnEnd;
      }
    } catch (error) {
      if (!signal?.aborted) this.restart();
      throw error;
    }
  }

  /** The digest of the bytes so far. */
  async digest(): Promise<Digest> {
    return digestFromBytes(this.#start.algorithm, await this.#bytes('digest'));
  }

  /** The metainfo of the bytes so far, from a hasher that was opened with `leaves`. `digest` is that of the same bytes. */
  async metainfo(digest: Digest): Promise<Metainfo> {
    return metainfoOfLeaves(digest, this.#hashedBytes, await this.#bytes('leaves'));
  }

  /** Begins again with the first byte. */
  restart(): void {
    this.#hashedBytes = 0;
    this.#begunAt = undefined;
  }

  /** The thread forgets the file. Whoever goes on begins again with the first byte. */
  end(): void {
    if (this.#known) this.#deps.forget();
    this.#known = false;
    this.restart();
  }

  get #isBegun(): boolean {
    return this.#begunAt === this.#deps.endedCount();
  }

  async #begin(): Promise<void> {
    this.#hashedBytes = 0;
    this.#known = true;
    const endedCount = this.#deps.endedCount();
    await this.#deps.ask({ ...this.#start, what: 'start' });
    this.#begunAt = endedCount;
  }

  async #bytes(what: 'digest' | 'leaves'): Promise<Uint8Array> {
    try {
      const bytes = await this.#deps.ask({ file: this.#start.file, what });
      assert(bytes !== undefined, 'such a question has an answer');
      return bytes;
    } catch (error) {
      this.restart();
      throw error;
    }
  }
}
