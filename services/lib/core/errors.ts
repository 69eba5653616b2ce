/** The one error type of operating errors. Edges translate it once: wire/status.ts for gRPC, registry/errors.ts for HTTP. */

/** What went wrong, for machines. The list is closed: an edge that misses one does not compile. */
export type ErrorCode =
  | 'invalid-argument'
  | 'digest-mismatch'
  | 'out-of-range'
  | 'not-found'
  | 'already-exists'
  | 'failed-precondition'
  | 'permission-denied'
  | 'unauthenticated'
  | 'resource-exhausted'
  | 'aborted'
  | 'cancelled'
  | 'deadline-exceeded'
  | 'unavailable'
  | 'data-loss'
  | 'unsupported'
  | 'internal';

/** Facts about an error that a machine may act on; values are short and never secret. */
export type ErrorData = Readonly<Record<string, string | number | boolean>>;

export interface AppErrorOptions {
  readonly data?: ErrorData;
  readonly cause?: unknown;
  /** When waiting helps: how long, in milliseconds. */
  readonly retryAfterMs?: number;
}

/** An operating error: a closed code, a message that says what to do next, and the cause. */
export class AppError extends Error {
  override readonly name = 'AppError';
  readonly code: ErrorCode;
  readonly data: ErrorData;
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, options: AppErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.data = options.data ?? {};
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** True when `error` is an {@link AppError} with one of `codes` (any code when none is given). */
export function isAppError(error: unknown, ...codes: readonly ErrorCode[]): error is AppError {
  return error instanceof AppError && (codes.length === 0 || codes.includes(error.code));
}

/** The single funnel from `unknown`: an AppError stays, an abort becomes `cancelled`, a timeout `deadline-exceeded`, the rest `internal`. */
export function toAppError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  if (!(error instanceof Error)) return new AppError('internal', String(error));
  if (error.name === 'AbortError') {
    return isAppError(error.cause) ? error.cause : new AppError('cancelled', 'the caller went away', { cause: error });
  }
  if (error.name === 'TimeoutError') {
    return new AppError('deadline-exceeded', 'the deadline passed; try again or raise the timeout', { cause: error });
  }
  return new AppError('internal', error.message, { cause: error });
}
