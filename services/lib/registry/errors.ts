/** Operating errors as a registry client sees them: the one place that knows HTTP statuses and registry error codes of failures. */
import { type AppError, type ErrorCode, isAppError, toAppError } from '#core';
import { slowBody } from './body.ts';

/** The error codes of the distribution specification, and those that clients know besides. */
export type RegistryCode =
  | 'BLOB_UNKNOWN'
  | 'BLOB_UPLOAD_INVALID'
  | 'BLOB_UPLOAD_UNKNOWN'
  | 'DENIED'
  | 'DIGEST_INVALID'
  | 'MANIFEST_BLOB_UNKNOWN'
  | 'MANIFEST_INVALID'
  | 'MANIFEST_UNKNOWN'
  | 'NAME_INVALID'
  | 'NAME_UNKNOWN'
  | 'PAGINATION_NUMBER_INVALID'
  | 'RANGE_INVALID'
  | 'SIZE_INVALID'
  | 'TAG_INVALID'
  | 'TOOMANYREQUESTS'
  | 'UNAUTHORIZED'
  | 'UNAVAILABLE'
  | 'UNKNOWN'
  | 'UNSUPPORTED';

/** Certificates and roles are put right by hand, but a restarted node or another owner may answer at once. */
const faultRetryAfterMs = 2000;

interface Row {
  readonly status: number;
  readonly code: RegistryCode;
}

/** Every way a request can fail. */
const rows = {
  blobTooLarge: { status: 413, code: 'SIZE_INVALID' },
  blobUnknown: { status: 404, code: 'BLOB_UNKNOWN' },
  chunkConflict: { status: 409, code: 'BLOB_UPLOAD_INVALID' },
  chunkOutOfOrder: { status: 416, code: 'BLOB_UPLOAD_INVALID' },
  denied: { status: 403, code: 'DENIED' },
  digestInvalid: { status: 400, code: 'DIGEST_INVALID' },
  headerTooLarge: { status: 431, code: 'SIZE_INVALID' },
  internal: { status: 500, code: 'UNKNOWN' },
  manifestInvalid: { status: 400, code: 'MANIFEST_INVALID' },
  manifestTooLarge: { status: 413, code: 'SIZE_INVALID' },
  manifestUnknown: { status: 404, code: 'MANIFEST_UNKNOWN' },
  methodUnsupported: { status: 405, code: 'UNSUPPORTED' },
  nameInvalid: { status: 400, code: 'NAME_INVALID' },
  nameUnknown: { status: 404, code: 'NAME_UNKNOWN' },
  pageInvalid: { status: 400, code: 'PAGINATION_NUMBER_INVALID' },
  preconditionFailed: { status: 412, code: 'UNSUPPORTED' },
  rangeInvalid: { status: 416, code: 'RANGE_INVALID' },
  referenceMissing: { status: 400, code: 'MANIFEST_BLOB_UNKNOWN' },
  requestInvalid: { status: 400, code: 'UNSUPPORTED' },
  requestTimeout: { status: 408, code: 'UNAVAILABLE' },
  routeUnknown: { status: 404, code: 'UNSUPPORTED' },
  sizeInvalid: { status: 400, code: 'SIZE_INVALID' },
  tagInvalid: { status: 400, code: 'TAG_INVALID' },
  tagsTooMany: { status: 414, code: 'TAG_INVALID' },
  timeout: { status: 504, code: 'UNAVAILABLE' },
  tooManyRequests: { status: 429, code: 'TOOMANYREQUESTS' },
  unauthorized: { status: 401, code: 'UNAUTHORIZED' },
  unavailable: { status: 503, code: 'UNAVAILABLE' },
  uploadUnknown: { status: 404, code: 'BLOB_UPLOAD_UNKNOWN' },
} as const satisfies Readonly<Record<string, Row>>;

/** A way a request can fail. */
export type Problem = keyof typeof rows;

export interface RegistryErrorOptions {
  /** Facts for the client's machine; short, never secret. */
  readonly detail?: Readonly<Record<string, string | number>>;
  /** One error of the reply for each of these. */
  readonly details?: readonly Readonly<Record<string, string | number>>[];
  /** Headers that go with the refusal, in lower case. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly cause?: unknown;
}

/** A refusal, ready to be sent. */
export class RegistryError extends Error {
  override readonly name = 'RegistryError';
  readonly problem: Problem;
  readonly headers: Readonly<Record<string, string>>;
  readonly #details: readonly Readonly<Record<string, string | number>>[];

  constructor(problem: Problem, message: string, options: RegistryErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.problem = problem;
    this.headers = options.headers ?? {};
    this.#details = options.details ?? (options.detail === undefined ? [] : [options.detail]);
  }

  get status(): number {
    return rows[this.problem].status;
  }

  /** The same refusal with more headers. */
  withHeaders(headers: Readonly<Record<string, string>>): RegistryError {
    return new RegistryError(this.problem, this.message, {
      details: this.#details,
      headers: { ...this.headers, ...headers },
      cause: this.cause,
    });
  }

  /** The JSON body of the distribution specification: at least one error. */
  body(): Buffer {
    const { code } = rows[this.problem];
    const details = this.#details.length === 0 ? [undefined] : this.#details;
    return Buffer.from(JSON.stringify({ errors: details.map((detail) => ({ code, message: this.message, detail })) }));
  }
}

type Translation = (error: AppError) => RegistryError;

const as =
  (problem: Problem): Translation =>
  (error) =>
    new RegistryError(problem, error.message, { detail: detailOf(error), cause: error });

/** The messages of these may name files and hosts, so the client gets another. */
const hidden =
  (problem: Problem, message: string): Translation =>
  (error) =>
    new RegistryError(problem, message, { cause: error });

const retryable =
  (problem: Problem): Translation =>
  (error) =>
    new RegistryError(problem, error.message, {
      cause: error,
      headers: error.retryAfterMs === undefined ? {} : { 'retry-after': retryAfterOf(error.retryAfterMs) },
    });

const translations: Readonly<Record<ErrorCode, Translation>> = {
  'invalid-argument': (error) => as(error.data['reason'] === 'size' ? 'sizeInvalid' : 'requestInvalid')(error),
  'digest-mismatch': as('digestInvalid'),
  'out-of-range': as('chunkOutOfOrder'),
  'not-found': (error) => as(unknownOf(error.data['kind']))(error),
  'already-exists': clusterFault,
  'failed-precondition': missing,
  'permission-denied': (error) => (isUpstream(error) ? as('denied')(error) : clusterFault(error)),
  unauthenticated: (error) => (isUpstream(error) ? challenged(error) : clusterFault(error)),
  'resource-exhausted': retryable('tooManyRequests'),
  aborted: clusterFault,
  cancelled: hidden('unavailable', 'the request was cut short; try again'),
  'deadline-exceeded': (error) => retryable(error.data['kind'] === slowBody ? 'requestTimeout' : 'timeout')(error),
  unavailable: retryable('unavailable'),
  'data-loss': hidden('internal', 'the stored content is damaged; ask the operator to look into the log of the registry'),
  unsupported: (error) => (isUpstream(error) ? as('methodUnsupported')(error) : clusterFault(error)),
  internal: hidden('internal', 'the registry failed; ask the operator to look into its log'),
};

/** The single funnel from `unknown` to a refusal. Codes that only calls between nodes end with are never the client's fault. */
export function toRegistryError(error: unknown): RegistryError {
  if (error instanceof RegistryError) return error;
  const appError = toAppError(error);
  return translations[appError.code](appError);
}

/**
 * A store asks other nodes with its own certificate, so a refusal among them says nothing about the client: a 401 would make it ask for a
 * password and a 403 or 409 give up. The log has the cause.
 */
function clusterFault(error: AppError): RegistryError {
  return new RegistryError('unavailable', 'the registry could not reach its cluster; try again', {
    cause: error,
    headers: { 'retry-after': retryAfterOf(error.retryAfterMs ?? faultRetryAfterMs) },
  });
}

/** Another registry, or the rule for it, refuses the client itself. */
function isUpstream(error: AppError): boolean {
  return error.data['kind'] === 'upstream';
}

/** The client gets the challenge of that registry, so that it can log in there and come back with what it was given. */
function challenged(error: AppError): RegistryError {
  const { challenge } = error.data;
  if (typeof challenge !== 'string') return new RegistryError('denied', error.message, { cause: error });
  return new RegistryError('unauthorized', error.message, { cause: error, headers: { 'www-authenticate': challenge } });
}

/** What a session of an upload refuses because of another request of the client (`aborted`, `failed-precondition`); other errors as they are. */
export function toSessionError(error: unknown): unknown {
  if (!isAppError(error, 'aborted', 'failed-precondition') || error.data['kind'] === 'missing') return error;
  return as('chunkConflict')(error);
}

function retryAfterOf(delayMs: number): string {
  return String(Math.max(1, Math.ceil(delayMs / 1000)));
}

function unknownOf(kind: unknown): Problem {
  switch (kind) {
    case 'repository':
      return 'nameUnknown';
    case 'manifest':
      return 'manifestUnknown';
    case 'upload':
      return 'uploadUnknown';
    default:
      return 'blobUnknown';
  }
}

function missing(error: AppError): RegistryError {
  const { kind, digests } = error.data;
  if (kind !== 'missing' || typeof digests !== 'string') return clusterFault(error);
  const details = digests.split(',').map((digest) => ({ digest }));
  return new RegistryError('referenceMissing', error.message, { details, cause: error });
}

function detailOf(error: AppError): Readonly<Record<string, string | number>> {
  return Object.fromEntries(Object.entries(error.data).map(([key, value]) => [key, typeof value === 'boolean' ? String(value) : value]));
}
