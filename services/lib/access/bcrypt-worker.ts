/** Checks bcrypt hashes on a thread of its own: a check takes 50 ms and more of a core, which the event loop cannot spare. */
import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import { AppError } from '#core';

/** Checks that wait; at 10 to 20 a second on one thread more than this would wait longer than clients do. */
const queueMax = 100;

/** The thread's program. It lives in a string so that a bundle needs no second file. */
const program = `
const { parentPort, workerData } = require('node:worker_threads');
const bcrypt = require(workerData);
parentPort.on('message', ({ id, password, hash }) => {
  parentPort.postMessage({ id, isRight: bcrypt.compareSync(password, hash) });
});`;

interface Waiting {
  readonly resolve: (isRight: boolean) => void;
  readonly reject: (error: unknown) => void;
}

/** Started at the first check. */
export class BcryptWorker implements AsyncDisposable {
  #worker: Worker | undefined;
  readonly #waiting = new Map<number, Waiting>();
  #nextId = 0;

  /** Whether `password` has `hash`. Throws `resource-exhausted` when too many checks wait. */
  check(password: string, hash: string): Promise<boolean> {
    if (this.#waiting.size >= queueMax) {
      return Promise.reject(new AppError('resource-exhausted', 'too many logins at once; try again', { retryAfterMs: 2000 }));
    }
    const worker = this.#start();
    const id = this.#nextId;
    this.#nextId += 1;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      worker.ref();
      worker.postMessage({ id, password, hash });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker?.terminate();
  }

  #start(): Worker {
    if (this.#worker !== undefined) return this.#worker;
    const library = createRequire(import.meta.url).resolve('bcryptjs');
    const worker = new Worker(program, { eval: true, workerData: library, execArgv: [], name: 'bcrypt' });
    worker.unref();
    worker.on('message', ({ id, isRight }: { readonly id: number; readonly isRight: boolean }) => {
      this.#waiting.get(id)?.resolve(isRight);
      this.#waiting.delete(id);
      if (this.#waiting.size === 0) worker.unref();
    });
    worker.on('error', (cause) => this.#fail(worker, new AppError('internal', 'the thread that checks passwords failed', { cause })));
    worker.on('exit', () =>
      this.#fail(worker, new AppError('unavailable', 'passwords cannot be checked now; try again', { retryAfterMs: 1000 })),
    );
    this.#worker = worker;
    return worker;
  }

  /** The next check starts another thread. */
  #fail(worker: Worker, error: AppError): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}
