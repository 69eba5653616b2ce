/** What nobody caught: the state of the process is unknown, so it stops, in order. */
import { type Logger, toAppError } from '#core';
import type { Lifecycle } from './lifecycle.ts';

export interface FaultDeps {
  readonly lifecycle: Pick<Lifecycle, 'fail'>;
  readonly logger: Logger;
}

/** Logs exceptions and rejections that nobody caught, and stops the process with exit code 1. Returns the function that ends the watch. */
export function stopOnFault({ lifecycle, logger }: FaultDeps): () => void {
  // Node raises a rejection that nobody handles as an uncaught exception too, with another origin.
  const onFault = (error: unknown, origin: string): void => {
    const fault = toAppError(error);
    logger.error('unexpected fault; stopping', { origin, error: fault.message, stack: error instanceof Error ? error.stack : fault.stack });
    lifecycle.fail();
  };
  process.on('uncaughtException', onFault);
  return () => process.off('uncaughtException', onFault);
}
