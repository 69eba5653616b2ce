/** Turns errors of the file system into AppErrors whose messages name no path. */
import { constants } from 'node:os';
import { AppError, toAppError } from '#core';

/** The `code` of a system error such as `ENOENT`, or undefined. LMDB gives the number instead of the name. */
export function fsCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  if (error.code === constants.errno.ENOSPC) return 'ENOSPC';
  if (error.code === constants.errno.EIO) return 'EIO';
  return typeof error.code === 'string' ? error.code : undefined;
}

/**
 * `doing` completes the sentence "the disk failed while ...". A full disk is `resource-exhausted`, a failing one `data-loss`,
 * everything else that a system call reports `unavailable`. AppErrors and aborts pass through {@link toAppError}.
 */
export function fromFsError(error: unknown, doing: string): AppError {
  const code = fsCode(error);
  if (code === undefined || error instanceof AppError || !/^E[A-Z0-9]+$/.test(code)) return toAppError(error);
  switch (code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new AppError('resource-exhausted', `the disk is full while ${doing}; free space or lower the configured capacity`, {
        cause: error,
        data: { reason: code },
      });
    case 'EIO':
      return new AppError('data-loss', `the disk failed while ${doing}; check the machine's disk`, {
        cause: error,
        data: { reason: code },
      });
    case 'EMFILE':
    case 'ENFILE':
      return new AppError('unavailable', `too many open files while ${doing}; raise the limit of open files`, {
        cause: error,
        data: { reason: code },
      });
    default:
      return new AppError('unavailable', `the disk refused (${code}) while ${doing}; check the folder and its permissions`, {
        cause: error,
        data: { reason: code },
      });
  }
}

/** Awaits `work` and translates what it throws by {@link fromFsError}. */
export async function onDisk<T>(doing: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw fromFsError(error, doing);
  }
}
