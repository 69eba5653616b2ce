/** Start order, stop order, signals and background work of one process. */
import { AppError, type Clock, type Logger, toAppError } from '#core';

/** How long all stops together may take beyond the grace of the servers, before the process ends anyway. */
const stopTimeoutMs = 15_000;

/** What every part gets of the grace, also when those before it have used it up: enough to say goodbye. */
const partGraceMsMin = 1000;

export interface StopOptions {
  /** What is left of the grace that all parts share: how long this part may let running work go on, in milliseconds. */
  readonly graceMs: number;
}

type Stop = (options: StopOptions) => Promise<void>;

export interface LifecycleOptions {
  /** How long running requests may go on once the process stops, over all parts together, in milliseconds. */
  readonly graceMs: number;
}

export interface LifecycleDeps {
  readonly logger: Logger;
  readonly clock: Pick<Clock, 'nowMs' | 'after'>;
  /** Ends the process; `process.exit` by default. */
  readonly exit?: (code: number) => void;
}

/** Owns what was started; stops it in reverse order, once, on a signal, on a fault of background work, or when asked. */
export class Lifecycle {
  readonly #graceMs: number;
  readonly #logger: Logger;
  readonly #clock: LifecycleDeps['clock'];
  readonly #exit: (code: number) => void;
  readonly #stops: { readonly name: string; readonly stop: Stop }[] = [];
  readonly #abort = new AbortController();
  readonly #done: Promise<void>;
  #resolveDone: () => void = () => undefined;
  #stopping = false;
  #exitCode = 0;

  constructor(options: LifecycleOptions, deps: LifecycleDeps) {
    this.#graceMs = options.graceMs;
    this.#logger = deps.logger;
    this.#clock = deps.clock;
    this.#exit = deps.exit ?? ((code) => process.exit(code));
    this.#done = new Promise((resolve) => {
      this.#resolveDone = resolve;
    });
  }

  /** Aborted when the process begins to stop. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Registers what must be stopped later; what is added last is stopped first. Returns the resource. */
  use<T extends AsyncDisposable>(name: string, resource: T): T {
    this.onStop(name, async () => resource[Symbol.asyncDispose]());
    return resource;
  }

  onStop(name: string, stop: Stop): void {
    this.#stops.push({ name, stop });
  }

  /** As {@link onStop}, for what cannot be told how long it may take: it is waited for within the grace and then left to itself. */
  onDrain(name: string, drain: () => Promise<void>): void {
    this.onStop(name, async ({ graceMs }) => {
      let cancel: (() => void) | undefined;
      const timeout = new Promise<void>((resolve) => {
        cancel = this.#clock.after(graceMs, resolve);
      });
      await Promise.race([drain(), timeout]).finally(() => cancel?.());
    });
  }

  /** Runs background work until the process stops. If it fails, the process stops with exit code 1. */
  spawn(name: string, work: (options: { readonly signal: AbortSignal }) => Promise<void>): void {
    const running = work({ signal: this.signal }).catch((error: unknown) => {
      if (this.signal.aborted) return;
      this.#logger.error('background work failed; stopping', { work: name, error: toAppError(error).message });
      this.fail();
    });
    this.onStop(name, async () => running);
  }

  /** Stops everything; the process ends with exit code 1. The caller has said why. */
  fail(): void {
    this.#exitCode = 1;
    void this.stop();
  }

  /** Stops everything in reverse order. Safe to call twice. When it takes 15 seconds more than the grace, the process ends with exit code 1. */
  async stop(): Promise<void> {
    if (this.#stopping) return this.#done;
    this.#stopping = true;
    const deadlineMs = this.#clock.nowMs() + this.#graceMs;
    let current = '';
    const disarm = this.#clock.after(this.#graceMs + stopTimeoutMs, () => {
      this.#logger.error('did not stop in time; ending', { part: current });
      this.#exit(1);
    });
    this.#abort.abort(new AppError('cancelled', 'the process is stopping'));
    for (const { name, stop } of this.#stops.reverse()) {
      current = name;
      const graceMs = Math.max(deadlineMs - this.#clock.nowMs(), Math.min(partGraceMsMin, this.#graceMs));
      await stop({ graceMs }).catch((error: unknown) =>
        this.#logger.error('could not stop', { part: name, error: toAppError(error).message }),
      );
    }
    disarm();
    this.#resolveDone();
  }

  /** Installs the signal handlers and waits until everything is stopped; returns the exit code. A second signal ends the process at once. */
  async untilStopped(): Promise<number> {
    const keepAlive = setInterval(() => undefined, 2 ** 30);
    const onSignal = (signal: NodeJS.Signals): void => {
      if (this.#stopping) this.#exit(130);
      this.#logger.info('stopping', { signal });
      void this.stop();
    };
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
    await this.#done;
    clearInterval(keepAlive);
    process.off('SIGTERM', onSignal);
    process.off('SIGINT', onSignal);
    return this.#exitCode;
  }
}
