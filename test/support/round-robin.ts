/**
 * A load balancer as simple as they come: each request goes to the next upstream, without any stickiness. One that refuses the connection is passed over,
 * as every balancer does; a request that has begun is not sent again: its client gets a 502.
 */
import { type ClientRequest, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pipeline } from 'node:stream';

export class RoundRobin implements AsyncDisposable {
  /** Upstream of each request, in order. */
  readonly chosen: string[] = [];
  readonly #upstreams: readonly string[];
  readonly #server = createServer({ requestTimeout: 0 }, (incoming, outgoing) => this.#forward(incoming, outgoing, 0));
  #turn = 0;

  private constructor(upstreams: readonly string[]) {
    this.#upstreams = upstreams;
  }

  /** Listens on a free port of loopback, in front of `host:port`s. */
  static async open(upstreams: readonly string[]): Promise<RoundRobin> {
    const balancer = new RoundRobin(upstreams);
    await new Promise<void>((resolve) => balancer.#server.listen(0, '127.0.0.1', resolve));
    return balancer;
  }

  /** `host:port`. */
  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #forward(incoming: IncomingMessage, outgoing: ServerResponse, attempt: number): void {
    const upstream = this.#upstreams[this.#turn % this.#upstreams.length] ?? '';
    this.#turn += 1;
    const [host, port] = upstream.split(':');
    // A connection for each request: whether it was refused is known before a byte of the body is sent.
    const forwarded = request({ host, port, method: incoming.method, path: incoming.url, headers: incoming.headers, agent: false });
    forwarded.once('socket', (socket) => {
      socket.once('connect', () => {
        this.chosen.push(upstream);
        this.#pipe(incoming, forwarded, outgoing);
      });
    });
    forwarded.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' && attempt + 1 < this.#upstreams.length) this.#forward(incoming, outgoing, attempt + 1);
      else this.#fail(outgoing);
    });
  }

  #pipe(incoming: IncomingMessage, forwarded: ClientRequest, outgoing: ServerResponse): void {
    pipeline(incoming, forwarded, () => undefined);
    forwarded.once('response', (response) => {
      outgoing.writeHead(response.statusCode ?? 502, response.headers);
      pipeline(response, outgoing, () => undefined);
    });
    outgoing.once('close', () => forwarded.destroy());
  }

  #fail(outgoing: ServerResponse): void {
    if (outgoing.headersSent) outgoing.destroy();
    else outgoing.writeHead(502, { connection: 'close' }).end();
  }
}
