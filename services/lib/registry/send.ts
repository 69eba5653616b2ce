/**
 * Sends answers. Small ones go through Fastify; streams and answers that overtake the request's body are written to the socket here,
 * under backpressure. A stream that fails cuts the connection: the length has been promised, and a short 200 would look complete.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { FastifyReply } from 'fastify';
import { AppError, type Clock } from '#core';
import { type Answer, isStream, type StreamBody } from './answer.ts';
import { hasBody } from './body.ts';
import type { RegistryLimits } from './options.ts';
import { Pace } from './pace.ts';

/** What is written at once, as much as readers hand over. A client that reads slowly is seen to make progress in steps of this size. */
const sliceBytes = 512 * 1024;

export interface SendDeps {
  readonly limits: RegistryLimits;
  readonly clock: Clock;
  readonly onBytes: (count: number) => void;
}

/** Sends the answer to `reply`. Throws what the source of a streamed body throws, after the connection has been cut. */
export async function send(reply: FastifyReply, answer: Answer, deps: SendDeps): Promise<void> {
  const { body } = answer;
  const isHead = reply.request.raw.method === 'HEAD';
  if (isStream(body)) {
    reply.hijack();
    await sendStream(reply.raw, answer, body, deps);
    return;
  }
  if (!isHead && body !== undefined && body.byteLength > sliceBytes) {
    // Fastify has no limit on how long a client takes to read.
    return send(reply, { ...answer, body: streamOf(body) }, deps);
  }
  const bytes = isHead ? undefined : body;
  deps.onBytes(bytes?.byteLength ?? 0);
  if (hasBody(reply.request.raw) && !reply.request.raw.complete) {
    reply.hijack();
    await sendEarly(reply.request.raw, reply.raw, { ...answer, body: bytes }, deps);
    return;
  }
  reply.code(answer.status).headers(answer.headers).send(bytes);
}

async function sendStream(response: ServerResponse, answer: Answer, body: StreamBody, deps: SendDeps): Promise<void> {
  try {
    response.writeHead(answer.status, answer.headers);
    if (body.isAtHand !== true) response.flushHeaders();
    await pump(response, body, deps);
  } catch (error) {
    response.destroy();
    throw error;
  } finally {
    await body.release();
  }
}

async function pump(response: ServerResponse, body: StreamBody, deps: SendDeps): Promise<void> {
  let sentBytes = 0;
  const outlet = new Outlet(response);
  const pace = new Pace({ bytesPerSecMin: deps.limits.bodyBytesPerSecMin, windowMs: deps.limits.bodyWindowMs });
  for await (const chunk of body.chunks) {
    if (response.destroyed) return;
    sentBytes += chunk.byteLength;
    if (sentBytes > body.sizeBytes) break;
    if (!(await write(outlet, chunk, pace, deps))) return;
  }
  if (response.destroyed) return;
  if (sentBytes !== body.sizeBytes) throw new AppError('data-loss', 'the blob does not have its size', { data: { sentBytes } });
  response.end();
}

function streamOf(body: Buffer): StreamBody {
  const chunks = async function* (): AsyncGenerator<Uint8Array> {
    yield body;
  };
  return { sizeBytes: body.byteLength, chunks: chunks(), release: async () => undefined };
}

/** Bytes that may wait for the client; then all of them must leave first. */
const waitingBytesMax = 2 * sliceBytes;

/**
 * Counts what the socket has not taken. The `drain` of a response does not say that: Node emits it too when one of several replies to a client that
 * asks again before it is answered gets its turn, and with it whatever had waited for that.
 */
class Outlet {
  readonly response: ServerResponse;
  #waitingBytes = 0;
  #awaited: { readonly leftBytes: number; readonly reached: () => void } | undefined;

  constructor(response: ServerResponse) {
    this.response = response;
  }

  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  write(bytes: Uint8Array): void {
    this.#waitingBytes += bytes.byteLength;
    this.response.write(bytes, () => {
      this.#waitingBytes -= bytes.byteLength;
      if (this.#awaited !== undefined && this.#waitingBytes <= this.#awaited.leftBytes) this.#awaited.reached();
    });
  }

  /** `reached` is called each time the socket has taken bytes and at most so many are left; undefined ends that. */
  await(awaited: { readonly leftBytes: number; readonly reached: () => void } | undefined): void {
    this.#awaited = awaited;
  }
}

/** False when the client has gone or is too slow. Of the chunk before, which may be lent, nothing waits afterwards. */
async function write(outlet: Outlet, chunk: Uint8Array, pace: Pace, deps: SendDeps): Promise<boolean> {
  for (let at = 0; at < chunk.byteLength; at += sliceBytes) {
    const slice = chunk.byteLength <= sliceBytes ? chunk : chunk.subarray(at, at + sliceBytes);
    deps.onBytes(slice.byteLength);
    pace.add(slice.byteLength, 0);
    outlet.write(slice);
    if (outlet.waitingBytes >= waitingBytesMax && !(await drained(outlet, 0, pace, deps))) return false;
  }
  return outlet.waitingBytes <= chunk.byteLength || (await drained(outlet, chunk.byteLength, pace, deps));
}

/** True once the client has taken all bytes but so many; false when it has gone or stood still for too long. */
function drained(outlet: Outlet, leftBytes: number, pace: Pace, { clock, limits }: SendDeps): Promise<boolean> {
  const startedMs = clock.nowMs();
  const { response } = outlet;
  return new Promise((resolve) => {
    if (response.destroyed) {
      resolve(false);
      return;
    }
    const settle = (isOpen: boolean): void => {
      disarm();
      pace.add(0, clock.nowMs() - startedMs);
      outlet.await(undefined);
      response.off('close', onClose);
      resolve(isOpen);
    };
    const onClose = (): void => settle(false);
    const check = (): void => {
      const waitedMs = clock.nowMs() - startedMs;
      const isFastEnough = pace.leftMs(waitedMs) > 0 || pace.endWindow(waitedMs);
      const leftMs = Math.min(limits.bodyIdleMs - waitedMs, pace.leftMs(waitedMs));
      if (isFastEnough && leftMs > 0) disarm = clock.after(leftMs, check);
      else response.destroy();
    };
    let disarm = clock.after(Math.min(limits.bodyIdleMs, Math.max(0, pace.leftMs(0))), check);
    outlet.await({ leftBytes, reached: () => settle(!response.destroyed) });
    response.once('close', onClose);
  });
}

/**
 * Answers while the client still sends: the answer goes out first, then some of the body is read and dropped. Closing at once would
 * reset the connection, and the client would see that and not the answer.
 */
async function sendEarly(request: IncomingMessage, response: ServerResponse, answer: Answer, deps: SendDeps): Promise<void> {
  response.writeHead(answer.status, { ...answer.headers, connection: 'close' });
  if (Buffer.isBuffer(answer.body)) response.write(answer.body);
  else response.flushHeaders();
  await linger(request, deps);
  response.end();
}

function linger(request: IncomingMessage, { clock, limits }: SendDeps): Promise<void> {
  return new Promise((resolve) => {
    if (request.complete || request.destroyed) {
      resolve();
      return;
    }
    let droppedBytes = 0;
    const onData = (chunk: Uint8Array): void => {
      droppedBytes += chunk.byteLength;
      if (droppedBytes > limits.lingerBytes) settle();
    };
    const settle = (): void => {
      disarm();
      request.pause();
      request.off('data', onData).off('end', settle).off('error', settle).off('close', settle);
      resolve();
    };
    const disarm = clock.after(limits.lingerMs, settle);
    request.on('end', settle).on('error', settle).on('close', settle).on('data', onData).resume();
  });
}
