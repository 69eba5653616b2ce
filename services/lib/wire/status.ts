/** The one place where AppErrors become gRPC statuses and back. Nothing else in the code base knows a gRPC code. */
import { Metadata, status as Status } from '@grpc/grpc-js';
import { AppError, type ErrorCode, type ErrorData, isAppError, type Logger, toAppError } from '#core';
import { ErrorDetail, ErrorReason, Status as StatusMessage } from '#gen/shoal/errors/v1/error_detail';
import { durationFromProto, durationToProto } from './codec.ts';
import { decodeDataValue, encodeDataValue } from './error-data.ts';

/** What grpc-js takes as the end of a failed call. */
export interface CallStatus {
  readonly code: Status;
  readonly details: string;
  readonly metadata: Metadata;
}

const detailTypeUrl = 'type.googleapis.com/shoal.errors.v1.ErrorDetail';
const detailKey = 'grpc-status-details-bin';
/** Trailers above 64 KiB are refused by HTTP/2 clients; base64 adds a third. */
const detailSizeBytesMax = 32 * 1024;
const messageLengthMax = 4096;
const shortenedLength = 400;
const shortenedEntryCount = 16;

const table: Readonly<Record<ErrorCode, readonly [Status, ErrorReason]>> = {
  'invalid-argument': [Status.INVALID_ARGUMENT, ErrorReason.INVALID_ARGUMENT],
  'digest-mismatch': [Status.INVALID_ARGUMENT, ErrorReason.DIGEST_MISMATCH],
  'out-of-range': [Status.OUT_OF_RANGE, ErrorReason.OUT_OF_RANGE],
  'not-found': [Status.NOT_FOUND, ErrorReason.NOT_FOUND],
  'already-exists': [Status.ALREADY_EXISTS, ErrorReason.ALREADY_EXISTS],
  'failed-precondition': [Status.FAILED_PRECONDITION, ErrorReason.FAILED_PRECONDITION],
  'permission-denied': [Status.PERMISSION_DENIED, ErrorReason.PERMISSION_DENIED],
  unauthenticated: [Status.UNAUTHENTICATED, ErrorReason.UNAUTHENTICATED],
  'resource-exhausted': [Status.RESOURCE_EXHAUSTED, ErrorReason.RESOURCE_EXHAUSTED],
  aborted: [Status.ABORTED, ErrorReason.ABORTED],
  cancelled: [Status.CANCELLED, ErrorReason.CANCELLED],
  'deadline-exceeded': [Status.DEADLINE_EXCEEDED, ErrorReason.DEADLINE_EXCEEDED],
  unavailable: [Status.UNAVAILABLE, ErrorReason.UNAVAILABLE],
  'data-loss': [Status.DATA_LOSS, ErrorReason.DATA_LOSS],
  unsupported: [Status.UNIMPLEMENTED, ErrorReason.UNSUPPORTED],
  internal: [Status.INTERNAL, ErrorReason.INTERNAL],
};

const codeOfReason: Readonly<Record<ErrorReason, ErrorCode | undefined>> = {
  [ErrorReason.UNSPECIFIED]: undefined,
  [ErrorReason.INVALID_ARGUMENT]: 'invalid-argument',
  [ErrorReason.DIGEST_MISMATCH]: 'digest-mismatch',
  [ErrorReason.OUT_OF_RANGE]: 'out-of-range',
  [ErrorReason.NOT_FOUND]: 'not-found',
  [ErrorReason.ALREADY_EXISTS]: 'already-exists',
  [ErrorReason.FAILED_PRECONDITION]: 'failed-precondition',
  [ErrorReason.PERMISSION_DENIED]: 'permission-denied',
  [ErrorReason.UNAUTHENTICATED]: 'unauthenticated',
  [ErrorReason.RESOURCE_EXHAUSTED]: 'resource-exhausted',
  [ErrorReason.ABORTED]: 'aborted',
  [ErrorReason.CANCELLED]: 'cancelled',
  [ErrorReason.DEADLINE_EXCEEDED]: 'deadline-exceeded',
  [ErrorReason.UNAVAILABLE]: 'unavailable',
  [ErrorReason.DATA_LOSS]: 'data-loss',
  [ErrorReason.UNSUPPORTED]: 'unsupported',
  [ErrorReason.INTERNAL]: 'internal',
};

const codeOfStatus: Readonly<Record<Status, ErrorCode>> = {
  [Status.OK]: 'internal',
  [Status.CANCELLED]: 'cancelled',
  [Status.UNKNOWN]: 'internal',
  [Status.INVALID_ARGUMENT]: 'invalid-argument',
  [Status.DEADLINE_EXCEEDED]: 'deadline-exceeded',
  [Status.NOT_FOUND]: 'not-found',
  [Status.ALREADY_EXISTS]: 'already-exists',
  [Status.PERMISSION_DENIED]: 'permission-denied',
  [Status.RESOURCE_EXHAUSTED]: 'resource-exhausted',
  [Status.FAILED_PRECONDITION]: 'failed-precondition',
  [Status.ABORTED]: 'aborted',
  [Status.OUT_OF_RANGE]: 'out-of-range',
  [Status.UNIMPLEMENTED]: 'unsupported',
  [Status.INTERNAL]: 'internal',
  [Status.UNAVAILABLE]: 'unavailable',
  [Status.DATA_LOSS]: 'data-loss',
  [Status.UNAUTHENTICATED]: 'unauthenticated',
};

/** The gRPC name of a code, as metrics and logs show it, e.g. `NOT_FOUND`. */
export function statusName(code: number): string {
  return Status[code] ?? 'UNKNOWN';
}

/**
 * The AppError that may leave this process: a fault of the program keeps its cause and message to itself, because they may name paths or
 * hold what nobody outside should read. The caller logs the original.
 */
export function publicErrorOf(error: unknown): AppError {
  const appError = toAppError(error);
  const foreign = appError.code === 'internal' && (!isAppError(error) || appError.cause !== undefined);
  return foreign ? new AppError('internal', 'internal error; the log of the server has the details') : appError;
}

/** Turns what a handler threw into the end of its call. */
export function statusFromError(error: unknown): CallStatus {
  const { code, message, bytes } = encodedStatus(error);
  const metadata = new Metadata();
  metadata.set(detailKey, bytes);
  return { code, details: message, metadata };
}

/** As {@link statusFromError}, for a call that shares a stream with others. */
export function statusMessageFrom(error: unknown): StatusMessage {
  return StatusMessage.decode(encodedStatus(error).bytes);
}

/** The reverse of {@link statusMessageFrom}. */
export function errorFromStatusMessage(status: StatusMessage): AppError {
  return errorOf(codeOfStatus[status.code as Status] ?? 'internal', detailIn(status), status.message);
}

/** Logs a fault of the program, whose message the caller is not told. Returns the error. */
export function loggedFailure(error: unknown, path: string, logger: Pick<Logger, 'error'>): unknown {
  if (publicErrorOf(error) !== error && publicErrorOf(error).code === 'internal') logger.error('handler failed', { rpc: path, error });
  return error;
}

function encodedStatus(error: unknown): { readonly code: Status; readonly message: string; readonly bytes: Buffer } {
  const { code, message, data, retryAfterMs } = publicErrorOf(error);
  const [grpcCode, reason] = table[code];
  // Header values cannot hold lone surrogates.
  const details = Buffer.from(message.slice(0, messageLengthMax)).toString();
  return { code: grpcCode, message: details, bytes: detailBytes(grpcCode, reason, { message: details, data, retryAfterMs }) };
}

/** Turns the end of a failed call into the AppError it stands for. `error` is whatever grpc-js reported. */
export function errorFromStatus(error: {
  readonly code?: number | undefined;
  readonly details?: string | undefined;
  readonly metadata?: Metadata | undefined;
}): AppError {
  const fallback = codeOfStatus[(error.code ?? Status.UNKNOWN) as Status] ?? 'internal';
  const known = detailOf(error.metadata);
  return errorOf(fallback, known?.detail, known?.message ?? error.details);
}

function errorOf(fallback: ErrorCode, detail: ErrorDetail | undefined, message: string | undefined): AppError {
  if (detail === undefined) return new AppError(fallback, message || 'the call failed without a message');
  const retryDelay = detail.retryDelay;
  return new AppError(codeOfReason[detail.reason] ?? fallback, message ?? '', {
    data: Object.fromEntries(Object.entries(detail.data).map(([key, value]) => [key, decodeDataValue(value)])),
    ...(retryDelay === undefined ? {} : { retryAfterMs: durationFromProto(retryDelay) }),
  });
}

interface DetailParts {
  readonly message: string;
  readonly data: ErrorData;
  readonly retryAfterMs: number | undefined;
}

function detailBytes(code: Status, reason: ErrorReason, parts: DetailParts): Buffer {
  const whole = encodeDetail(code, reason, parts);
  if (whole.byteLength <= detailSizeBytesMax) return whole;
  const entries = Object.entries(parts.data).slice(0, shortenedEntryCount);
  const data = Object.fromEntries(
    entries.map(([key, value]) => [key.slice(0, 64), typeof value === 'string' ? value.slice(0, shortenedLength) : value]),
  );
  return encodeDetail(code, reason, { ...parts, message: parts.message.slice(0, shortenedLength), data });
}

function encodeDetail(code: Status, reason: ErrorReason, { message, data, retryAfterMs }: DetailParts): Buffer {
  const detail = ErrorDetail.encode({
    reason,
    data: Object.fromEntries(Object.entries(data).map(([key, value]) => [key, encodeDataValue(value)])),
    retryDelay: retryAfterMs === undefined ? undefined : durationToProto(retryAfterMs),
  }).finish();
  return Buffer.from(StatusMessage.encode({ code, message, details: [{ typeUrl: detailTypeUrl, value: detail }] }).finish());
}

function detailOf(metadata: Metadata | undefined): { readonly detail: ErrorDetail; readonly message: string } | undefined {
  const [bytes] = metadata?.get(detailKey) ?? [];
  if (!(bytes instanceof Uint8Array)) return undefined;
  try {
    const status = StatusMessage.decode(bytes);
    const detail = detailIn(status);
    return detail === undefined ? undefined : { detail, message: status.message };
  } catch {
    // A trailer that is not ours says nothing; the code and the message of the call remain.
    return undefined;
  }
}

function detailIn({ details }: StatusMessage): ErrorDetail | undefined {
  const any = details.find(({ typeUrl }) => typeUrl === detailTypeUrl);
  try {
    return any === undefined ? undefined : ErrorDetail.decode(any.value);
  } catch {
    return undefined;
  }
}
