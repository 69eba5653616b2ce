/**
 * A queue of work that must happen in the end, such as writing a blob back to durable storage: it survives a restart, tries
 * again with growing pauses, and never drops a task by itself.
 */
import type { Database } from 'lmdb';
import { AppError, assert, type Clock, type Logger, type Rng, toAppError } from '#core';
import { commit, type EmbeddedDb } from './database.ts';
import { DueHeap } from './due-heap.ts';

export interface DurableQueueOptions<T> {
  readonly db: EmbeddedDb;
  /** The table's name; one queue a table. */
  readonly name: string;
  /** Reads a payload back from JSON; what it throws makes the task one that only an operator can end. */
  readonly decode: (value: unknown) => T;
  /** The most tasks; default 100,000, which is some 100 MB of memory. */
  readonly tasksMax?: number;
  /** The pause after the first failure, doubled with each further one, with jitter of half of it; default 1 s. */
  readonly backoffMinMs?: number;
  /** The longest pause; default 5 min, so that a backend that comes back is noticed soon. */
  readonly backoffMaxMs?: number;
  /** A task that failed this often is reported as stuck, and tried on at the longest pause; default 10. */
  readonly stuckAttempts?: number;
}

export interface DurableQueueDeps {
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
}

/** A task as operators see it. */
export interface QueuedTask {
  readonly key: string;
  /** Failed attempts. */
  readonly attempts: number;
  /** Unix milliseconds. */
  readonly enqueuedMs: number;
  /** Unix milliseconds of the next attempt; in the past when it only waits for a free worker. */
  readonly dueMs: number;
  readonly running: boolean;
  readonly lastError: string | undefined;
  /** It failed so often that a human should look. */
  readonly stuck: boolean;
}

export type QueueWorker<T> = (payload: T, options: { readonly signal: AbortSignal; readonly key: string }) => Promise<void>;

interface Row {
  readonly payload: unknown;
  readonly attempts: number;
  readonly enqueuedMs: number;
  readonly dueMs: number;
  readonly lastError: string | null;
}

interface Task {
  readonly key: string;
  row: Row;
  running: boolean;
  /** Changes when the payload is replaced: a worker that ran with the old one has not done the new one. */
  generation: number;
  /** The enqueue under way or the last one: ends when its row is durable, or with its failure. */
  saved: Promise<void>;
}

const lastErrorLengthMax = 500;

export class DurableQueue<T> {
  readonly #options: Required<DurableQueueOptions<T>>;
  readonly #deps: DurableQueueDeps;
  readonly #table: Database<Row, string>;
  readonly #tasks = new Map<string, Task>();
  /** Holds each task that does not run; entries whose time is no longer the task's are stale. */
  readonly #heap = new DueHeap<Task>();
  #wake: () => void = () => undefined;

  private constructor(options: DurableQueueOptions<T>, deps: DurableQueueDeps) {
    this.#options = { tasksMax: 100_000, backoffMinMs: 1_000, backoffMaxMs: 300_000, stuckAttempts: 10, ...options };
    this.#deps = { ...deps, logger: deps.logger.child({ module: 'queue', queue: options.name }) };
    this.#table = options.db.openDB<Row, string>({ name: options.name, encoding: 'json' });
  }

  /** Opens or creates the queue with the tasks of the run before. The database stays the caller's to close, after the runs. */
  static async open<T>(options: DurableQueueOptions<T>, deps: DurableQueueDeps): Promise<DurableQueue<T>> {
    const queue = new DurableQueue(options, deps);
    // A wall clock that was set back must not put a task off for longer than a pause.
    const latestMs = deps.clock.wallMs() + queue.#options.backoffMaxMs;
    for (const { key, value } of queue.#table.getRange()) {
      const row = { ...value, dueMs: Math.min(value.dueMs, latestMs) };
      queue.#add({ key, row, running: false, generation: 0, saved: Promise.resolve() });
    }
    return queue;
  }

  /**
   * Adds a task, due after `delayMs` (0 by default); durable when this resolves. The same key and payload again changes nothing, but that a
   * task which runs at the moment runs once more; another payload replaces the old one and its time. `payload` must survive JSON. Throws
   * `resource-exhausted` when the queue is full, and as `commit` does: the queue is then as if it had not been called.
   */
  async enqueue(key: string, payload: T, options: { readonly delayMs?: number } = {}): Promise<void> {
    const known = this.#tasks.get(key);
    if (known !== undefined && JSON.stringify(known.row.payload) === JSON.stringify(payload)) {
      // A worker that is under way may have looked before what this call is about: the task runs once more after it.
      if (known.running) known.generation += 1;
      await known.saved;
      return;
    }
    const { tasksMax } = this.#options;
    if (known === undefined && this.#tasks.size >= tasksMax) {
      throw new AppError('resource-exhausted', `the queue is full (${tasksMax} tasks): its target does not answer; repair that first`, {
        retryAfterMs: this.#options.backoffMaxMs,
      });
    }
    const nowMs = this.#deps.clock.wallMs();
    const row = {
      payload,
      attempts: 0,
      enqueuedMs: known?.row.enqueuedMs ?? nowMs,
      dueMs: nowMs + (options.delayMs ?? 0),
      lastError: null,
    };
    const saved = this.#save(key, row);
    const before = known?.row;
    const task = known ?? { key, row, running: false, generation: 0, saved };
    if (known === undefined) this.#add(task);
    else {
      known.generation += 1;
      known.saved = saved;
      this.#reschedule(known, row);
    }
    await this.#orUndo(saved, task, before);
    this.#wake();
  }

  /**
   * Works until `signal` aborts, then waits for the workers, which get the same signal. One run at a time. An attempt
   * that ends by the signal does not count. A worker may run twice for one task, after a crash: it must be idempotent.
   */
  async run(worker: QueueWorker<T>, options: { readonly concurrency: number; readonly signal: AbortSignal }): Promise<void> {
    assert(options.concurrency >= 1, 'a queue runs with at least one worker');
    const { signal } = options;
    const running = new Set<Promise<void>>();
    signal.addEventListener('abort', () => this.#wake(), { once: true });
    while (!signal.aborted) {
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      while (running.size < options.concurrency) {
        const task = this.#takeDue();
        if (task === undefined) break;
        const attempt = this.#attempt(task, worker, signal).finally(() => {
          running.delete(attempt);
          this.#wake();
        });
        running.add(attempt);
      }
      const cancel = running.size < options.concurrency ? this.#wakeWhenDue() : undefined;
      await woken;
      cancel?.();
    }
    await Promise.all(running);
  }

  /** Makes a task due now; false when there is none. For operators, after a repair. */
  async retryNow(key: string): Promise<boolean> {
    const task = this.#tasks.get(key);
    if (task === undefined) return false;
    const before = task.row;
    this.#reschedule(task, { ...before, dueMs: this.#deps.clock.wallMs() });
    await this.#orUndo(this.#save(key, task.row), task, before);
    this.#wake();
    return true;
  }

  /**
   * Makes a task that has not been tried yet due at most `delayMs` after it was added; quiet when it is due by then or there is none. Not durable: after a
   * restart it is due when it was before.
   */
  async hasten(key: string, delayMs: number): Promise<void> {
    const task = this.#tasks.get(key);
    // Until its row is saved, whether it stays is not known.
    await task?.saved.catch(() => undefined);
    if (task === undefined || this.#tasks.get(key) !== task || task.row.attempts > 0) return;
    const dueMs = task.row.enqueuedMs + delayMs;
    if (dueMs >= task.row.dueMs) return;
    this.#reschedule(task, { ...task.row, dueMs });
    this.#wake();
  }

  /** Gives a task up, for callers whose task has become pointless; false when there is none. One that runs is not stopped. */
  async remove(key: string): Promise<boolean> {
    const task = this.#tasks.get(key);
    if (task === undefined) return false;
    this.#tasks.delete(key);
    try {
      await this.#erase(key);
    } catch (error) {
      if (!this.#tasks.has(key)) this.#add(task);
      throw error;
    }
    return true;
  }

  /** Tasks not done. */
  size(): number {
    return this.#tasks.size;
  }

  has(key: string): boolean {
    return this.#tasks.has(key);
  }

  /** The keys of saved tasks in their own order, after `after` whether that is there or not. */
  keys(page: { readonly limit: number; readonly after?: string }): readonly string[] {
    const { limit, after } = page;
    const found: string[] = [];
    for (const key of this.#table.getKeys(after === undefined ? {} : { start: `${after}\u0000` })) {
      // The row of a task that is done goes a moment after it.
      if (this.#tasks.has(key)) found.push(key);
      if (found.length >= limit) break;
    }
    return found;
  }

  /** In the order they were added, after `after` when that is still there. */
  list(page: { readonly limit: number; readonly after?: string }): readonly QueuedTask[] {
    const found: QueuedTask[] = [];
    let skipping = page.after !== undefined && this.#tasks.has(page.after);
    for (const task of this.#tasks.values()) {
      if (found.length >= page.limit) break;
      if (!skipping) found.push(this.#report(task));
      else if (task.key === page.after) skipping = false;
    }
    return found;
  }

  async #attempt(task: Task, worker: QueueWorker<T>, signal: AbortSignal): Promise<void> {
    const { generation } = task;
    task.running = true;
    try {
      const payload = this.#options.decode(task.row.payload);
      await worker(payload, { signal, key: task.key });
      await this.#done(task, generation);
    } catch (error) {
      if (!signal.aborted) await this.#failed(task, generation, toAppError(error));
    } finally {
      task.running = false;
      this.#heap.push(task.row.dueMs, task);
    }
  }

  async #done(task: Task, generation: number): Promise<void> {
    // Replaced meanwhile: the new payload is due and stays. Removed meanwhile: another task may have the key by now.
    if (task.generation !== generation || this.#tasks.get(task.key) !== task) return;
    this.#tasks.delete(task.key);
    await this.#erase(task.key);
  }

  async #failed(task: Task, generation: number, error: AppError): Promise<void> {
    if (task.generation !== generation || this.#tasks.get(task.key) !== task) return;
    const attempts = task.row.attempts + 1;
    const pauseMs = Math.max(this.#pauseMs(attempts), Math.min(error.retryAfterMs ?? 0, this.#options.backoffMaxMs));
    const lastError = `${error.code}: ${error.message}`.slice(0, lastErrorLengthMax);
    task.row = { ...task.row, attempts, dueMs: this.#deps.clock.wallMs() + pauseMs, lastError };
    const fields = { key: task.key, attempts, error };
    if (attempts === this.#options.stuckAttempts) this.#deps.logger.error('a queued task keeps failing', fields);
    else this.#deps.logger.debug('a queued task failed and will be tried again', fields);
    try {
      await this.#save(task.key, task.row);
    } catch (saveError) {
      // The row on disk is older and due sooner, which costs an attempt more after a restart.
      this.#deps.logger.warn('the state of a queued task could not be saved', { key: task.key, error: saveError });
    }
  }

  /** Between half and all of the doubled pause, so that tasks that failed together do not come back together. */
  #pauseMs(attempts: number): number {
    const { backoffMinMs, backoffMaxMs } = this.#options;
    const fullMs = Math.min(backoffMaxMs, backoffMinMs * 2 ** Math.min(attempts - 1, 30));
    return Math.ceil(fullMs / 2) + this.#deps.rng.below(Math.floor(fullMs / 2) + 1);
  }

  #add(task: Task): void {
    this.#tasks.set(task.key, task);
    this.#heap.push(task.row.dueMs, task);
  }

  #reschedule(task: Task, row: Row): void {
    task.row = row;
    if (!task.running) this.#heap.push(row.dueMs, task);
  }

  /** Waits for a row to be saved; when that fails the task goes back to `before`, or goes when it was new, unless it has changed since. */
  async #orUndo(saved: Promise<void>, task: Task, before: Row | undefined): Promise<void> {
    const { row } = task;
    try {
      await saved;
    } catch (error) {
      if (this.#tasks.get(task.key) === task && task.row === row) {
        task.saved = Promise.resolve();
        if (before === undefined) this.#tasks.delete(task.key);
        else this.#reschedule(task, before);
      }
      throw error;
    }
  }

  /** The earliest task that waits; what the heap says of others is out of date. */
  #earliest(): Task | undefined {
    for (let item = this.#heap.peek(); item !== undefined; item = this.#heap.peek()) {
      const task = item.value;
      if (!task.running && item.dueMs === task.row.dueMs && this.#tasks.get(task.key) === task) return task;
      this.#heap.pop();
    }
    return undefined;
  }

  #takeDue(): Task | undefined {
    const task = this.#earliest();
    if (task === undefined || task.row.dueMs > this.#deps.clock.wallMs()) return undefined;
    this.#heap.pop();
    return task;
  }

  #wakeWhenDue(): (() => void) | undefined {
    const task = this.#earliest();
    if (task === undefined) return undefined;
    return this.#deps.clock.after(Math.max(0, task.row.dueMs - this.#deps.clock.wallMs()), () => this.#wake());
  }

  #report(task: Task): QueuedTask {
    const { attempts, enqueuedMs, dueMs, lastError } = task.row;
    const stuck = attempts >= this.#options.stuckAttempts;
    return { key: task.key, attempts, enqueuedMs, dueMs, running: task.running, lastError: lastError ?? undefined, stuck };
  }

  async #save(key: string, row: Row): Promise<void> {
    await commit(this.#options.db, () => this.#table.putSync(key, row));
  }

  async #erase(key: string): Promise<void> {
    await commit(this.#options.db, () => this.#table.removeSync(key));
  }
}
