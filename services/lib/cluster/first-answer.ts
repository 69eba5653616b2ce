/** Asks several members one after the other until one answers: the next is asked when the one before failed or is slow. */
import { AppError, type Clock, toAppError } from '#core';

export interface FirstAnswerOptions {
  readonly signal: AbortSignal;
  /** How long a member may be silent before the next is asked as well, in milliseconds. */
  readonly hedgeMs: number;
}

/** What came of it: a value, or why each candidate failed. */
export type Answer<M, T> =
  | { readonly ok: true; readonly from: M; readonly value: T }
  | { readonly ok: false; readonly errors: readonly AppError[] };

const over = new AppError('cancelled', 'another member answered, or nobody waits any more');

/**
 * The first success wins and the other calls are aborted. `ask` gets a signal that ends with the caller's. Resolves with the errors when every
 * candidate failed; rejects with the reason when the caller's signal is aborted.
 */
export function firstAnswer<M, T>(
  candidates: readonly M[],
  ask: (candidate: M, options: { readonly signal: AbortSignal }) => Promise<T>,
  options: FirstAnswerOptions,
  deps: { readonly clock: Clock },
): Promise<Answer<M, T>> {
  return new Promise((resolve, reject) => {
    const abort = new AbortController();
    const errors: AppError[] = [];
    let startedCount = 0;
    let cancelHedge = (): void => undefined;
    const finish = (settle: () => void): void => {
      cancelHedge();
      options.signal.removeEventListener('abort', onAbort);
      abort.abort(over);
      settle();
    };
    const onAbort = (): void => finish(() => reject(toAppError(options.signal.reason)));
    const startNext = (): void => {
      cancelHedge();
      const candidate = candidates[startedCount];
      if (candidate === undefined || abort.signal.aborted) return;
      startedCount += 1;
      cancelHedge = deps.clock.after(options.hedgeMs, startNext);
      ask(candidate, { signal: abort.signal }).then(
        (value) => finish(() => resolve({ ok: true, from: candidate, value })),
        (error: unknown) => {
          errors.push(toAppError(error));
          if (errors.length === candidates.length) finish(() => resolve({ ok: false, errors }));
          else startNext();
        },
      );
    };
    if (options.signal.aborted) return onAbort();
    options.signal.addEventListener('abort', onAbort, { once: true });
    if (candidates.length === 0) return finish(() => resolve({ ok: false, errors }));
    startNext();
  });
}
