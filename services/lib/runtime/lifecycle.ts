/** Start order, stop order, signals and background work of one process. */
import { AppError, type Logger, toAppError } from '#core';

/** How long all stops together may take beyond the grace of the servers, before the process ends anyway. */
const stopTimeoutMs = 15_000;

type Stop = () => Promise<void>;

/** Owns what was started; stops it in reverse order, once, on a signal, on a fault of background work, or when asked. */
export class Lifecycle {
  readonly #logger: Logger;
  readonly #stops: { readonly name: string; readonly stop: Stop }[] = [];
  readonly #abort = new AbortController();
  readonly #done: Promise<void>;
  #resolveDone: () => void = () => undefined;
  #stopping = false;
  #exitCode = 0;

  constructor(deps: { readonly logger: Logger }) {
    this.#logger = deps.logger;
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

  /** Runs background work until the process stops. If it fails, the process stops with exit code 1. */
  spawn(name: string, work: (options: { readonly signal: AbortSignal }) => Promise<void>): void {
    const running = work({ signal: this.signal }).catch((error: unknown) => {
      if (this.signal.aborted) return;
      this.#logger.error('background work failed; stopping', { work: name, error: toAppError(error).message });
      this.#exitCode = 1;
      void this.stop();
    });
    this.onStop(name, async () => running);
  }

  /** Stops everything in reverse order. Safe to call twice. */
  async stop(): Promise<void> {
    if (this.#stopping) return this.#done;
    this.#stopping = true;
    this.#abort.abort(new AppError('cancelled', 'the process is stopping'));
    for (const { name, stop } of this.#stops.reverse()) {
      await stop().catch((error: unknown) => this.#logger.error('could not stop', { part: name, error: toAppError(error).message }));
    }
    this.#resolveDone();
  }

  /** Installs the signal handlers and waits until everything is stopped; returns the exit code. A second signal ends the process at once. */
  async untilStopped(options: { readonly graceMs: number }): Promise<number> {
    const keepAlive = setInterval(() => undefined, 2 ** 30);
    const onSignal = (signal: NodeJS.Signals): void => {
      if (this.#stopping) process.exit(130);
      this.#logger.info('stopping', { signal });
      setTimeout(() => process.exit(1), options.graceMs + stopTimeoutMs).unref();
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
