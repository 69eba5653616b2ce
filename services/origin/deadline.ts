/** How long durable storage may take: a mount that hangs must not hold a worker, or a blob that waits, for ever. */
import { AppError, type Clock } from '#core';

/** For questions that move no bytes, in milliseconds. */
export const statDeadlineMs = 10_000;

/** For calls that move `sizeBytes`: a minute, and the time at 1 MB/s. In milliseconds. */
export function copyDeadlineMs(sizeBytes: number): number {
  return 60_000 + sizeBytes / 1000;
}

/**
 * Runs `work` with a signal that aborts with the caller's or after `deadlineMs`, and waits no longer than that, whether `work` heeds the
 * signal or not. Throws `unavailable` when the time is over.
 */
export async function withDeadline<T>(
  deadlineMs: number,
  deps: { readonly clock: Pick<Clock, 'after'>; readonly signal: AbortSignal },
  work: (options: { readonly signal: AbortSignal }) => Promise<T>,
): Promise<T> {
  deps.signal.throwIfAborted();
  const late = new AbortController();
  const cancel = deps.clock.after(deadlineMs, () =>
    late.abort(new AppError('unavailable', `durable storage did not answer in ${Math.ceil(deadlineMs / 1000)} s; check it`)),
  );
  const signal = AbortSignal.any([deps.signal, late.signal]);
  const { promise, stop } = whenAborted(signal);
  try {
    return await Promise.race([work({ signal }), promise]);
  } finally {
    cancel();
    stop();
  }
}

function whenAborted(signal: AbortSignal): { readonly promise: Promise<never>; readonly stop: () => void } {
  let stop = (): void => undefined;
  const promise = new Promise<never>((_resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    stop = () => signal.removeEventListener('abort', onAbort);
  });
  return { promise, stop };
}
