/** Requests to other registries over HTTP: redirects without credentials, deadlines, bodies under an idle limit. */
import http, { type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import https from 'node:https';
import { AppError, type Clock, isAppError } from '#core';
import { bodyIdleMs, headTimeoutMs, redirectsMax, socketsMax } from './limits.ts';

export interface HttpRequest {
  readonly method: 'GET' | 'HEAD';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

export interface HttpReply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** Must be read or dropped. Throws `unavailable` when it breaks off or stands still. */
  body(): AsyncGenerator<Uint8Array>;
  /** Gives the body up. */
  drop(): void;
}

/** A reply that is dropped is read to its end when it has at most this many bytes, so that the connection can be used again. */
const drainBytesMax = 64 * 1024;

export class HttpClient implements Disposable {
  readonly #clock: Clock;
  readonly #plain = new http.Agent({ keepAlive: true, maxSockets: socketsMax });
  readonly #secure: https.Agent;

  /** `caPem`: certificates that are trusted besides those of the system. */
  constructor(options: { readonly caPem: readonly string[] | undefined }, deps: { readonly clock: Clock }) {
    this.#clock = deps.clock;
    const ca = options.caPem === undefined ? {} : { ca: [...options.caPem] };
    this.#secure = new https.Agent({ keepAlive: true, maxSockets: socketsMax, minVersion: 'TLSv1.2', ...ca });
  }

  /** Follows redirects of GET and HEAD; another host never sees the Authorization header. Throws `unavailable` when there is no reply. */
  async send(request: HttpRequest): Promise<HttpReply> {
    let { url } = request;
    let { headers } = request;
    for (let count = 0; count <= redirectsMax; count += 1) {
      const reply = await this.#once({ ...request, url, headers });
      const next = redirectOf(reply, url);
      if (next === undefined) return reply;
      reply.drop();
      if (next.origin !== url.origin) {
        const { authorization: _authorization, ...rest } = headers;
        headers = rest;
      }
      url = next;
    }
    throw new AppError('unavailable', `${request.url.host} redirects more than ${redirectsMax} times; check the url of the upstream`, {
      data: { kind: 'upstream' },
    });
  }

  [Symbol.dispose](): void {
    this.#plain.destroy();
    this.#secure.destroy();
  }

  #once({ method, url, headers, signal }: HttpRequest): Promise<HttpReply> {
    return new Promise((resolve, reject) => {
      const secure = url.protocol === 'https:';
      const request = secure
        ? https.request(url, { method, headers: { ...headers }, agent: this.#secure })
        : http.request(url, { method, headers: { ...headers }, agent: this.#plain });
      const cancel = this.#clock.after(headTimeoutMs, () =>
        request.destroy(unreachable(url, `no answer within ${headTimeoutMs / 1000} s`)),
      );
      const onAbort = (): void => void request.destroy(new AppError('cancelled', 'the request is no longer wanted'));
      const settle = (): void => {
        cancel();
        signal.removeEventListener('abort', onAbort);
      };
      request.once('response', (message) => {
        settle();
        // A body that nobody reads yet may fail; whoever reads it hears of that.
        message.on('error', () => undefined);
        resolve(replyOf(message, { method, url }, { clock: this.#clock, signal }));
      });
      request.once('error', (error) => {
        settle();
        if (signal.aborted) reject(signal.reason);
        else reject(isAppError(error) ? error : unreachable(url, error.message, error));
      });
      signal.addEventListener('abort', onAbort, { once: true });
      if (signal.aborted) onAbort();
      request.end();
    });
  }
}

function redirectOf({ status, headers }: HttpReply, from: URL): URL | undefined {
  if (![301, 302, 303, 307, 308].includes(status) || headers.location === undefined) return undefined;
  const next = URL.canParse(headers.location, from.href) ? new URL(headers.location, from.href) : undefined;
  const allowed = next?.protocol === 'https:' || (next?.protocol === 'http:' && from.protocol === 'http:');
  if (next !== undefined && allowed) return next;
  throw new AppError('unavailable', `${from.host} redirects to an address that is not used: only https, or http from http`, {
    data: { kind: 'upstream' },
  });
}

function replyOf(
  message: IncomingMessage,
  { method, url }: Pick<HttpRequest, 'method' | 'url'>,
  context: { readonly clock: Clock; readonly signal: AbortSignal },
): HttpReply {
  const drop = (): void => {
    const sizeBytes = method === 'HEAD' ? 0 : Number(message.headers['content-length'] ?? drainBytesMax + 1);
    if (sizeBytes <= drainBytesMax) message.resume();
    else message.destroy();
  };
  return { status: message.statusCode ?? 0, headers: message.headers, body: () => readBody(message, url, context), drop };
}

async function* readBody(
  message: IncomingMessage,
  url: URL,
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): AsyncGenerator<Uint8Array> {
  const onAbort = (): void => void message.destroy();
  signal.addEventListener('abort', onAbort, { once: true });
  const chunks: AsyncIterator<Uint8Array> = message[Symbol.asyncIterator]();
  try {
    for (;;) {
      signal.throwIfAborted();
      const cancel = clock.after(bodyIdleMs, () => message.destroy(unreachable(url, `no byte for ${bodyIdleMs / 1000} s`)));
      const next = await chunks.next().finally(cancel);
      if (next.done === true) break;
      yield next.value;
    }
    if (!message.complete) throw unreachable(url, 'the reply broke off');
  } catch (error) {
    signal.throwIfAborted();
    throw isAppError(error) ? error : unreachable(url, error instanceof Error ? error.message : String(error), error);
  } finally {
    signal.removeEventListener('abort', onAbort);
    if (!message.complete) message.destroy();
  }
}

function unreachable(url: URL, why: string, cause?: unknown): AppError {
  return new AppError('unavailable', `the upstream ${url.host} does not answer: ${why}`, { data: { kind: 'upstream' }, cause });
}
