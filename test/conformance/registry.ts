/** The HTTP client of the conformance program: sends exactly what a check says, follows nothing, adds no header of its own. */
import assert from 'node:assert/strict';
import http from 'node:http';

export interface Reply {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
}

export interface Ask {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  /** Send the body, even an empty one, with chunked encoding instead of a length. */
  readonly chunked?: boolean;
  readonly query?: Readonly<Record<string, string | readonly string[]>>;
}

export interface RegistryOptions {
  /** `http://host:port` */
  readonly url: string;
}

const timeoutMs = 60_000;

export class Registry implements Disposable {
  readonly #base: URL;
  readonly #agent = new http.Agent({ keepAlive: true });

  constructor({ url }: RegistryOptions) {
    this.#base = new URL(url);
  }

  /** `location` is a path or a URL that the registry gave; its own query is kept. */
  async ask(method: string, location: string, { headers = {}, body, chunked = false, query = {} }: Ask = {}): Promise<Reply> {
    const url = new URL(location, this.#base);
    for (const [name, values] of Object.entries(query)) for (const value of [values].flat()) url.searchParams.append(name, value);
    const length = chunked || (body === undefined && (method === 'GET' || method === 'HEAD')) ? {} : lengthOf(body);
    return new Promise((resolve, reject) => {
      const request = http.request(url, { agent: this.#agent, method, headers: { ...length, ...headers } }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) }));
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

function lengthOf(body: Uint8Array | undefined): Record<string, string> {
  return { 'content-length': String(body?.byteLength ?? 0) };
}
