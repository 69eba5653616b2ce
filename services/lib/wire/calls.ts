/** Typed calls on a channel: deadlines, cancellation, retries of what is safe to repeat, and streams as async iterables. */
import {
  type CallOptions,
  type ClientDuplexStream,
  type ClientReadableStream,
  type Client as GrpcClient,
  Metadata,
  type ServiceError,
  status as Status,
} from '@grpc/grpc-js';
import { AppError, type Clock, isAppError, type Rng, type Span, type Tracer, toAppError } from '#core';
import { isIdempotent } from './access.ts';
import type { CallMetrics } from './call-metrics.ts';
import { type CallStream, makeAlone } from './call-stream.ts';
import type { Lease } from './lease.ts';
import { attemptCountMax, callTimeoutMsDefault, retryBackoffMsMax, retryBackoffMsMin } from './limits.ts';
import { errorFromStatus, statusFromError } from './status.ts';
import { readAll, writeAll } from './streams.ts';
import type { ClientCallOptions, WireMethod } from './types.ts';

export interface CallerDeps {
  readonly clock: Clock;
  readonly rng: Rng;
  readonly tracer: Tracer;
  readonly metrics: CallMetrics;
  /** Takes the connection to a target. Throws `resource-exhausted`. */
  readonly lease: () => Lease;
  /** The stream to the target that carries calls of a method, where there is one. */
  readonly callStream: (method: WireMethod) => CallStream | undefined;
}

/** Starts the client's span and count of a call; `end` finishes both and is called once. */
export function observeCall(
  path: string,
  deps: Pick<CallerDeps, 'tracer' | 'metrics'>,
): { readonly span: Span; metadata(): Metadata; end(code: number, error?: AppError): void } {
  const count = deps.metrics.start(path);
  const span = deps.tracer.startSpan(path.slice(1), { kind: 'client', attributes: { 'rpc.system': 'grpc' } });
  return {
    span,
    metadata: () => {
      const metadata = new Metadata();
      if (span.traceparent !== undefined) metadata.set('traceparent', span.traceparent);
      return metadata;
    },
    end: (code, error) => {
      count(code);
      span.end(error);
    },
  };
}

/** One unary call, with up to three attempts when it is idempotent and the server is unavailable. */
export async function callUnary(method: WireMethod, request: unknown, options: ClientCallOptions, deps: CallerDeps): Promise<unknown> {
  const { clock } = deps;
  const { signal } = options;
  const deadlineMs = clock.nowMs() + (options.timeoutMs ?? callTimeoutMsDefault);
  const observed = observeCall(method.path, deps);
  const alone = (): Promise<unknown> =>
    attemptUnary(method, request, observed.metadata(), { signal, timeoutMs: deadlineMs - clock.nowMs() }, deps);
  const stream = deps.callStream(method);
  const attempt = stream === undefined ? alone : streamed;
  async function streamed(): Promise<unknown> {
    const { traceparent } = observed.span;
    const result = await stream?.call(request, { signal, timeoutMs: deadlineMs - clock.nowMs(), traceparent });
    return result === makeAlone ? alone() : result;
  }
  try {
    const response = await (isIdempotent(method.path) ? retried(attempt, { deadlineMs, signal }, deps) : attempt());
    observed.end(Status.OK);
    return response;
  } catch (error) {
    const failure = signal?.aborted ? abortError(signal) : toAppError(error);
    observed.end(statusFromError(failure).code, failure);
    throw failure;
  }
}

async function retried(
  attempt: () => Promise<unknown>,
  options: { readonly deadlineMs: number; readonly signal: AbortSignal | undefined },
  { clock, rng }: CallerDeps,
): Promise<unknown> {
  const { deadlineMs, signal } = options;
  for (let count = 1; ; count += 1) {
    try {
      return await attempt();
    } catch (error) {
      const waitMs = retryDelayMs(error, count, rng);
      if (waitMs === undefined || clock.nowMs() + waitMs >= deadlineMs) throw error;
      await clock.sleep(waitMs, signal === undefined ? {} : { signal });
    }
  }
}

/** How long to wait before the next attempt; undefined when there is none. The server's own advice wins when it is longer. */
function retryDelayMs(error: unknown, attempt: number, rng: Rng): number | undefined {
  if (attempt >= attemptCountMax || !isAppError(error, 'unavailable')) return undefined;
  const boundMs = Math.min(retryBackoffMsMax, retryBackoffMsMin * 2 ** attempt);
  return Math.max(boundMs / 2 + rng.below(boundMs / 2 + 1), error.retryAfterMs ?? 0);
}

interface AttemptOptions {
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number;
}

function attemptUnary(
  method: WireMethod,
  request: unknown,
  metadata: Metadata,
  options: AttemptOptions,
  deps: CallerDeps,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const { signal } = options;
    if (signal?.aborted) {
      reject(abortError(signal));
      return;
    }
    const lease = deps.lease();
    const call = lease.client.makeUnaryRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      metadata,
      { deadline: deps.clock.wallMs() + options.timeoutMs },
      (error: ServiceError | null, response?: unknown) => {
        signal?.removeEventListener('abort', onAbort);
        lease.release();
        if (error === null) resolve(response);
        else reject(errorFromStatus(error));
      },
    );
    const onAbort = (): void => call.cancel();
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

/**
 * A call whose responses stream; `input` is the request, or the iterable of requests. It begins with the first `next()` of the iterable and
 * is cancelled when the loop is left.
 */
export async function* callStream(
  method: WireMethod,
  input: unknown,
  options: ClientCallOptions,
  deps: CallerDeps,
): AsyncGenerator<unknown, void, undefined> {
  const { signal } = options;
  if (signal?.aborted) throw abortError(signal);
  const lease = deps.lease();
  const observed = observeCall(method.path, deps);
  const { stream, sender } = openStream(lease.client, method, input, observed.metadata(), callOptionsOf(options, deps.clock));
  const onAbort = (): void => stream.cancel();
  signal?.addEventListener('abort', onAbort, { once: true });
  let failure: AppError | undefined = new AppError('cancelled', 'the caller left the stream');
  try {
    yield* readAll<unknown>(stream, (error) => {
      failure = sender.failure() ?? (signal?.aborted ? abortError(signal) : errorOfStream(error));
      return failure;
    });
    failure = undefined;
  } finally {
    signal?.removeEventListener('abort', onAbort);
    sender.stop();
    if (failure !== undefined) stream.cancel();
    lease.release();
    observed.end(failure === undefined ? Status.OK : statusFromError(failure).code, failure);
  }
}

/** What feeds the requests of a call into its stream. */
interface Sender {
  /** Why the requests broke off, when they threw. */
  failure(): AppError | undefined;
  /** Ends the iterable of the requests. */
  stop(): void;
}

type ResponseStream = ClientReadableStream<unknown>;

function openStream(
  client: GrpcClient,
  method: WireMethod,
  input: unknown,
  metadata: Metadata,
  options: CallOptions,
): { readonly stream: ResponseStream; readonly sender: Sender } {
  const { path, requestSerialize, responseDeserialize } = method;
  if (!method.requestStream) {
    const stream = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, input, metadata, options);
    stream.on('error', () => undefined);
    return { stream, sender: { failure: () => undefined, stop: () => undefined } };
  }
  const stream = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, metadata, options);
  // The reader hears of errors; this listener only keeps a late one from ending the process.
  stream.on('error', () => undefined);
  // `ClientMethod<M>` has checked the input of a method whose requests stream.
  return { stream, sender: sendAll(stream, input as AsyncIterable<unknown>) };
}

function sendAll(stream: ClientDuplexStream<unknown, unknown>, requests: AsyncIterable<unknown>): Sender {
  const iterator = requests[Symbol.asyncIterator]();
  let failure: AppError | undefined;
  void writeAll(stream, { [Symbol.asyncIterator]: () => iterator }).then(
    () => stream.end(),
    (error: unknown) => {
      failure = toAppError(error);
      stream.cancel();
    },
  );
  const stop = (): void => {
    iterator.return?.().then(undefined, () => undefined);
  };
  return { failure: () => failure, stop };
}

function callOptionsOf({ timeoutMs }: ClientCallOptions, clock: Pick<Clock, 'wallMs'>): CallOptions {
  return timeoutMs === undefined ? {} : { deadline: clock.wallMs() + timeoutMs };
}

/** What the caller's own signal said. */
function abortError(signal: AbortSignal): AppError {
  const reason: unknown = signal.reason;
  if (isAppError(reason)) return reason;
  const error = toAppError(reason);
  return error.code === 'internal' ? new AppError('cancelled', 'the call was cancelled', { cause: reason }) : error;
}

/** grpc-js reports the end of a stream as a ServiceError; anything else is a fault of the stream itself. */
function errorOfStream(error: unknown): AppError {
  if (!(error instanceof Error)) return toAppError(error);
  const { code, details, metadata }: Partial<ServiceError> = error;
  return typeof code === 'number'
    ? errorFromStatus({ code, details, metadata })
    : new AppError('unavailable', 'the stream broke', { cause: error });
}
