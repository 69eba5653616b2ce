/**
 * The HTTP client of the conformance program: sends what a check says and follows nothing. What it adds is what Go's client adds, since most clients of
 * registries are written in Go: it offers gzip, unless it asks for a range or a HEAD, and gives no length to what never has a body.
 */
import assert from 'node:assert/strict';
import http from 'node:http';
import { type Login, Tokens } from './login.ts';

export interface Reply {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
}

export interface Ask {
  /** Of a list each value is a header line of its own. */
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  readonly body?: Uint8Array;
  /** Send the body, even an empty one, with chunked encoding instead of a length. */
  readonly chunked?: boolean;
  readonly query?: Readonly<Record<string, string | readonly string[]>>;
}

export interface RegistryOptions {
  /** `http://host:port` */
  readonly url: string;
  /** Sends no credentials when absent. */
  readonly login?: Login;
}

const timeoutMs = 60_000;

export class Registry implements Disposable {
  readonly #base: URL;
  readonly #agent = new http.Agent({ keepAlive: true });
  readonly #tokens: Tokens | undefined;

  constructor({ url, login }: RegistryOptions) {
    this.#base = new URL(url);
    this.#tokens = login && new Tokens(login, async (address, headers) => this.#send('GET', new URL(address), headers, {}));
  }

  /** `location` is a path or a URL that the registry gave; its own query is kept. */
  async ask(method: string, location: string, ask: Ask = {}): Promise<Reply> {
    const url = new URL(location, this.#base);
    for (const [name, values] of Object.entries(ask.query ?? {})) for (const value of [values].flat()) url.searchParams.append(name, value);
    const headers = headersOf(method, ask);
    const kept = this.#tokens?.kept(method, url);
    const reply = await this.#send(method, url, kept === undefined ? headers : { ...headers, authorization: kept }, ask);
    if (reply.status !== 401 || this.#tokens === undefined) return reply;
    const authorization = await this.#tokens.answer(reply.headers['www-authenticate'], method, url);
    return this.#send(method, url, { ...headers, authorization }, ask);
  }

  async #send(method: string, url: URL, headers: http.OutgoingHttpHeaders, { body, chunked = false }: Ask): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const request = http.request(url, { agent: this.#agent, method, headers }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const encoding = response.headers['content-encoding'];
          // Go decodes it and forgets the length, so that every comparison of lengths fails.
          if (encoding !== undefined) reject(new Error(`${method} ${url.pathname}: the reply is encoded with ${encoding}`));
          else resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) });
        });
      });
      request.setTimeout(timeoutMs, () => request.destroy(new Error(`${method} ${url.pathname}: no answer within ${timeoutMs} ms`)));
      request.on('error', reject);
      if (chunked) request.setHeader('transfer-encoding', 'chunked');
      request.end(body);
    });
  }

  /** The whole URL of a path. */
  url(path: string): string {
    return new URL(path, this.#base).href;
  }

  /** As {@link ask}; throws unless the status is one of `statuses`. */
  async expect(statuses: number | readonly number[], method: string, location: string, ask: Ask = {}): Promise<Reply> {
    const reply = await this.ask(method, location, ask);
    const allowed = [statuses].flat();
    if (!allowed.includes(reply.status)) {
      throw new Error(
        `${method} ${location}: ${reply.status} instead of ${allowed.join(' or ')}: ${reply.body.toString('utf8').slice(0, 400)}`,
      );
    }
    return reply;
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
  }
}

/** The `Location` of a reply, which must be there. */
export function locationOf(reply: Reply): string {
  const { location } = reply.headers;
  assert.ok(location !== undefined && location !== '', 'the reply has no Location');
  return location;
}

/** Compares a header, if the reply has it; with `required` it must be there. */
export function checkHeader(reply: Reply, name: string, expected: string, required = false): void {
  const value = reply.headers[name];
  if (value === undefined && !required) return;
  assert.equal(value, expected, `header ${name}`);
}

export function jsonOf(reply: Reply): unknown {
  return JSON.parse(reply.body.toString('utf8'));
}

function headersOf(method: string, { headers = {}, body, chunked = false }: Ask): http.OutgoingHttpHeaders {
  const given = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, typeof value === 'string' ? value : [...value]]));
  const hasNone = body === undefined && ['GET', 'HEAD', 'DELETE'].includes(method);
  return {
    ...(chunked || hasNone ? {} : { 'content-length': body?.byteLength ?? 0 }),
    ...(method === 'HEAD' || headers['range'] !== undefined ? {} : { 'accept-encoding': 'gzip' }),
    ...given,
  };
}
