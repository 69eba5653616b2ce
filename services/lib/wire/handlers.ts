/** Turns typed handlers into what grpc-js calls: context in, promises and async iterables out, AppErrors as statuses. */
import type { EventEmitter } from 'node:events';
import type {
  handleBidiStreamingCall,
  handleServerStreamingCall,
  handleUnaryCall,
  Metadata,
  ServerDuplexStream,
  ServerWritableStream,
  UntypedHandleCall,
  UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { AppError, isAppError, type Logger, peerIdOf } from '#core';
import type { AdmittedCall } from './call-gate.ts';
import { servedCalls } from './call-stream-server.ts';
import type { BidiFunction, HandlerDeps, ServerStreamFunction, UnaryFunction } from './handler-deps.ts';
import { loggedFailure, statusFromError } from './status.ts';
import { methodOfStream } from './streamed-calls.ts';
import { readAll, writeAll } from './streams.ts';
import type { CallContext, WireMethod } from './types.ts';

type SurfaceCall = EventEmitter & { readonly metadata: Metadata; getDeadline(): Date | number };

/** A call on its way through a handler. */
interface RunningCall {
  readonly admitted: AdmittedCall;
  readonly context: CallContext;
  /** The handler is done: the signal stays quiet from now on. */
  finish(): void;
}

/** The grpc-js handlers of a service. */
export function grpcHandlers(
  service: Readonly<Record<string, WireMethod>>,
  functions: Readonly<Record<string, unknown>>,
  deps: HandlerDeps,
): UntypedServiceImplementation {
  const handlerOf = (key: string, method: WireMethod): UntypedHandleCall => {
    const streamed = methodOfStream(method.path);
    if (streamed === undefined) return grpcHandler(method, functions[key], deps);
    // `Handlers<S>` has checked it where the handler was given.
    return grpcHandler(method, servedCalls(streamed.unary.path, functions[streamed.unaryKey] as UnaryFunction, deps), deps);
  };
  return Object.fromEntries(Object.entries(service).map(([key, method]) => [key, handlerOf(key, method)]));
}

/** The grpc-js handler for `method`. */
function grpcHandler(method: WireMethod, handler: unknown, deps: HandlerDeps): UntypedHandleCall {
  // The kind of the function follows from the method; `Handlers<S>` has checked it where the handler was given.
  if (method.requestStream) return bidi(handler as BidiFunction, deps);
  return method.responseStream ? serverStream(method, handler as ServerStreamFunction, deps) : unary(handler as UnaryFunction, deps);
}

/** A handler of a unary method. */
export function unary(handler: UnaryFunction, deps: HandlerDeps): handleUnaryCall<unknown, unknown> {
  return (call, callback) => {
    const running = begin(call, deps, false);
    void (async () => {
      try {
        const response = await running.admitted.span.run(() => handler(call.request, running.context));
        running.finish();
        callback(null, response);
      } catch (error) {
        running.finish();
        callback(failure(error, running, deps));
      }
    })();
  };
}

function serverStream(
  { responsesWaitingMax }: WireMethod,
  handler: ServerStreamFunction,
  deps: HandlerDeps,
): handleServerStreamingCall<unknown, unknown> {
  return (call) => {
    const running = begin(call, deps, true);
    void respond(call, () => handler(call.request, running.context), running, { ...deps, responsesWaitingMax });
  };
}

function bidi(handler: BidiFunction, deps: HandlerDeps): handleBidiStreamingCall<unknown, unknown> {
  return (call) => {
    const running = begin(call, deps, true);
    const { signal } = running.context;
    const gone = (): Error => (isAppError(signal.reason) ? signal.reason : new AppError('cancelled', 'the caller went away'));
    void respond(call, () => handler(readAll(call, gone), running.context), running, deps);
  };
}

async function respond(
  call: ServerWritableStream<unknown, unknown> | ServerDuplexStream<unknown, unknown>,
  handle: () => AsyncIterable<unknown>,
  running: RunningCall,
  deps: HandlerDeps & { readonly responsesWaitingMax?: number | undefined },
): Promise<void> {
  try {
    await running.admitted.span.run(() => writeAll(call, handle(), deps.responsesWaitingMax));
    running.finish();
    if (!call.destroyed) call.end();
  } catch (error) {
    running.finish();
    const status = failure(error, running, deps);
    if (!call.destroyed) call.emit('error', status);
  }
}

/** Makes the context of a call; its signal follows the caller, the deadline and, for streams, the draining of the server. */
function begin(call: SurfaceCall, deps: HandlerDeps, isStream: boolean): RunningCall {
  const admitted = deps.gate.admitted(call.metadata);
  const abort = new AbortController();
  const { draining } = deps.gate;
  const onDrain = (): void => abort.abort(draining.reason);
  const onCancelled = (): void => {
    const late = Number(call.getDeadline()) <= deps.clock.wallMs();
    abort.abort(
      late ? new AppError('deadline-exceeded', 'the deadline of the call passed') : new AppError('cancelled', 'the caller went away'),
    );
  };
  const finish = (): void => {
    call.off('cancelled', onCancelled);
    draining.removeEventListener('abort', onDrain);
  };
  call.on('cancelled', onCancelled);
  if (isStream) {
    if (draining.aborted) onDrain();
    else draining.addEventListener('abort', onDrain, { once: true });
  }
  const { caller, callerAddress, path } = admitted;
  let logger: Logger | undefined;
  const context: CallContext = {
    caller,
    callerAddress,
    signal: abort.signal,
    // Few handlers log, and making a logger is a good part of a small call.
    get logger() {
      logger ??= deps.logger.child({ rpc: path.slice(1), caller: peerIdOf(caller) });
      return logger;
    },
  };
  return { admitted, context, finish };
}

function failure(error: unknown, running: RunningCall, { logger }: HandlerDeps): ReturnType<typeof statusFromError> & Error {
  const status = statusFromError(loggedFailure(error, running.admitted.path, logger));
  return Object.assign(new Error(status.details), status);
}
