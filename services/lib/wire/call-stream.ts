/**
 * The calling end of a stream that carries calls of one unary method to one node. A call of its own costs grpc-js several times as much as a
 * message on a stream that is open; calls made in one turn of the event loop travel in one message. The stream can only help: a call that it cannot
 * take, or that it breaks off under, is made alone.
 */
import { type ClientDuplexStream, Metadata, type ServiceError, status as Status } from '@grpc/grpc-js';
import { AppError, type Clock } from '#core';
import type { Lease } from './lease.ts';
import {
  callStreamBackoffMs,
  callStreamCheckMs,
  callStreamIdleMs,
  callStreamTimeoutMsMin,
  callStreamUnsupportedMs,
  callsPerMessageMax,
  callsWaitingMax,
} from './limits.ts';
import { errorFromStatusMessage } from './status.ts';
import type { CallsMessage, RepliesMessage, StreamedCall, StreamedReply } from './streamed-calls.ts';
import type { WireMethod } from './types.ts';

/** What a call resolves with that must be made alone. */
export const makeAlone = Symbol('the stream did not carry the call');

export interface CallStreamDeps {
  readonly clock: Pick<Clock, 'nowMs' | 'after'>;
  /** Takes the connection. Throws `resource-exhausted`, `unavailable`. */
  readonly lease: () => Lease;
}

export interface CallStreamOptions {
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number;
  readonly traceparent: string | undefined;
}

interface Waiting {
  readonly deadlineMs: number;
  resolve(result: unknown): void;
  reject(error: AppError): void;
}

type Stream = ClientDuplexStream<CallsMessage, RepliesMessage>;

export class CallStream {
  readonly #method: WireMethod;
  readonly #deps: CallStreamDeps;
  readonly #waiting = new Map<number, Waiting>();
  #batch: StreamedCall[] = [];
  #open: { readonly stream: Stream; readonly lease: Lease } | undefined;
  #lastNumber = 0;
  #usedMs = 0;
  /** Until then every call is made alone. */
  #restMs = Number.NEGATIVE_INFINITY;
  #cancelCheck: () => void = () => undefined;

  constructor(method: WireMethod, deps: CallStreamDeps) {
    this.#method = method;
    this.#deps = deps;
  }

  get isOpen(): boolean {
    return this.#open !== undefined;
  }

  /**
   * The response, or `makeAlone`. Throws what the server answered, `deadline-exceeded`, or an AppError that the signal was aborted with. A timeout
   * counts to within a quarter of a second.
   */
  call(request: unknown, options: CallStreamOptions): Promise<unknown> {
    const { clock } = this.#deps;
    const { signal, timeoutMs, traceparent } = options;
    const nowMs = clock.nowMs();
    const mayTake = nowMs >= this.#restMs && timeoutMs >= callStreamTimeoutMsMin && this.#waiting.size < callsWaitingMax;
    if (!mayTake || signal?.aborted || !this.#ensureOpen()) return Promise.resolve(makeAlone);
    this.#usedMs = nowMs;
    this.#lastNumber = (this.#lastNumber + 1) % 2 ** 32;
    const number = this.#lastNumber;
    if (this.#batch.length === 0) setImmediate(() => this.#flush());
    this.#batch.push({ number, traceparent: traceparent ?? '', request });
    return new Promise((resolve, reject) => {
      // It goes on counting until it is answered or late: a node that answers nobody in time shall not gather calls that nobody waits for.
      const onAbort = (): void => reject(new AppError('cancelled', 'the call was cancelled', { cause: signal?.reason }));
      const settled = (): void => signal?.removeEventListener('abort', onAbort);
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiting.set(number, {
        deadlineMs: nowMs + timeoutMs,
        resolve: (result) => {
          settled();
          resolve(result);
        },
        reject: (error) => {
          settled();
          reject(error);
        },
      });
    });
  }

  /** Ends the stream; calls without an answer are made alone. */
  close(): void {
    this.#end(0);
  }

  #ensureOpen(): boolean {
    if (this.#open !== undefined) return true;
    let lease: Lease;
    try {
      lease = this.#deps.lease();
    } catch {
      return false;
    }
    const { path, requestSerialize, responseDeserialize } = this.#method;
    const stream: Stream = lease.client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, new Metadata());
    this.#open = { stream, lease };
    const isCurrent = (): boolean => this.#open?.stream === stream;
    stream.on('data', ({ replies }: RepliesMessage) => {
      if (isCurrent()) for (const reply of replies) this.#replied(reply);
    });
    stream.on('error', ({ code }: ServiceError) => {
      if (isCurrent()) this.#end(code === Status.UNIMPLEMENTED ? callStreamUnsupportedMs : callStreamBackoffMs);
    });
    stream.on('end', () => {
      if (isCurrent()) this.#end(callStreamBackoffMs);
    });
    this.#check();
    return true;
  }

  #flush(): void {
    const calls = this.#batch;
    this.#batch = [];
    const stream = this.#open?.stream;
    if (stream?.writable !== true) return;
    for (let at = 0; at < calls.length; at += callsPerMessageMax) stream.write({ calls: calls.slice(at, at + callsPerMessageMax) });
  }

  #replied({ number, result }: StreamedReply): void {
    const waiting = this.#waiting.get(number);
    if (waiting === undefined) return;
    this.#waiting.delete(number);
    if (result?.$case === 'response') waiting.resolve(result.response);
    else if (result?.$case === 'failure') waiting.reject(errorFromStatusMessage(result.failure));
    else waiting.resolve(makeAlone);
  }

  /** Looks again and again whether a call is late, or the stream has nothing to do. */
  #check(): void {
    this.#cancelCheck = this.#deps.clock.after(callStreamCheckMs, () => {
      const nowMs = this.#deps.clock.nowMs();
      if (this.#waiting.size === 0) {
        if (nowMs - this.#usedMs >= callStreamIdleMs) this.#end(0);
        else this.#check();
        return;
      }
      const late = [...this.#waiting.values()].filter(({ deadlineMs }) => deadlineMs <= nowMs);
      if (late.length === 0) return this.#check();
      for (const { reject } of late) reject(new AppError('deadline-exceeded', 'the node did not answer in time'));
      // Whatever holds the stream up shall not hold up the other calls.
      this.#end(callStreamBackoffMs);
    });
  }

  #end(restMs: number): void {
    const open = this.#open;
    if (open === undefined) return;
    this.#open = undefined;
    this.#restMs = this.#deps.clock.nowMs() + restMs;
    this.#cancelCheck();
    this.#batch = [];
    open.stream.on('error', () => undefined);
    open.stream.resume();
    if (this.#waiting.size === 0) open.stream.end();
    else open.stream.cancel();
    open.lease.release();
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { resolve } of waiting) resolve(makeAlone);
  }
}
