/** Placing bytes and then linking them, so that garbage collection of the origins cannot come between the two unnoticed. */
import type { BuildIndexClient } from '#cluster';
import { AppError, type CallOptions, type Clock, isAppError } from '#core';

/** Origins hold a batch of claims for a fraction of a second; seven attempts with growing pauses are some 6 s. */
const attemptsMax = 7;
const pauseMsMin = 100;

export interface Publication<T> {
  /** Makes the owners hold the bytes; called again when they were collected meanwhile, so it must be idempotent. */
  readonly place: () => Promise<void>;
  /** Links them in the build-index with the fence that was taken before they were placed. */
  readonly publish: (fence: bigint) => Promise<T>;
}

/** Throws what `place` and `publish` throw, and `unavailable` when origins keep deleting the bytes. */
export async function placeAndPublish<T>(
  { place, publish }: Publication<T>,
  deps: { readonly index: Pick<BuildIndexClient, 'fence'>; readonly clock: Pick<Clock, 'sleep'> },
  options: CallOptions,
): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    const fence = await deps.index.fence(options);
    await place();
    try {
      return await publish(fence);
    } catch (error) {
      if (!isAppError(error, 'aborted') || error.data['kind'] !== 'collected') throw error;
      if (attempt === attemptsMax)
        throw new AppError('unavailable', 'the bytes are being collected as garbage at this moment; push them again', {
          cause: error,
          retryAfterMs: 1000,
        });
      await deps.clock.sleep(pauseMsMin * 2 ** (attempt - 1), options);
    }
  }
}
