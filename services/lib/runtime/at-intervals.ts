/** Background work that comes back at intervals for as long as the process runs. */
import { type Clock, type Logger, type Rng, toAppError } from '#core';

export interface IntervalDeps {
  readonly clock: Pick<Clock, 'sleep'>;
  readonly rng: Rng;
  readonly logger: Logger;
}

/**
 * Calls `work` every `intervalMs` until `signal` aborts; not at all when that is 0. The first time comes after a tenth to a fifth of it: a node that
 * keeps starting anew has other work, and nodes that start together shall not work together. What `work` throws is logged with `task`.
 */
export async function atIntervals(
  { task, intervalMs }: { readonly task: string; readonly intervalMs: number },
  work: (options: { readonly signal: AbortSignal }) => Promise<void>,
  { clock, rng, logger }: IntervalDeps,
  { signal }: { readonly signal: AbortSignal },
): Promise<void> {
  if (intervalMs === 0) return;
  const tenthMs = Math.floor(intervalMs / 10);
  for (let waitMs = tenthMs + rng.below(tenthMs + 1); ; waitMs = intervalMs) {
    await clock.sleep(waitMs, { signal }).catch(() => undefined);
    if (signal.aborted) return;
    try {
      await work({ signal });
    } catch (error) {
      if (signal.aborted) return;
      logger.warn('work that comes back at intervals ended early', { task, error: toAppError(error).message });
    }
  }
}
