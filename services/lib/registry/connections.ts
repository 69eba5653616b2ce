/** What is not HTTP: one refusal, behind the replies that are under way on the connection, and then its end. */
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Clock } from '#core';
import { type Answer, refusal } from './answer.ts';
import { RegistryError } from './errors.ts';

interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

export interface ConnectionsDeps {
  readonly clock: Pick<Clock, 'after'>;
  /** How long a refused client is listened to, in milliseconds. */
  readonly lingerMs: number;
}

export class Connections {
  readonly #deps: ConnectionsDeps;
  /** The replies under way on each connection, oldest first: a client may ask again before it is answered. */
  readonly #exchanges = new WeakMap<Duplex, Set<Exchange>>();
  /** Refused, and not closed yet: what else comes there is not looked at. */
  readonly #refused = new WeakSet<Duplex>();

  constructor(deps: ConnectionsDeps) {
    this.#deps = deps;
  }

  /** Knows of the reply until it is out. */
  follow(request: IncomingMessage, response: ServerResponse): void {
    const exchange = { request, response };
    const exchanges = this.#exchanges.get(request.socket) ?? new Set();
    this.#exchanges.set(request.socket, exchanges.add(exchange));
    response.once('close', () => exchanges.delete(exchange));
  }

  /** The parser gave the connection up: a broken request, a head that is too large or too slow, or a TLS greeting on a plain port. */
  refuse(error: Error & { readonly code?: string }, socket: Duplex): void {
    if (this.#refused.has(socket)) return;
    if (socket.destroyed || !socket.writable || error.code === 'ECONNRESET') {
      socket.destroy();
      return;
    }
    const [first, ...others] = this.#exchanges.get(socket) ?? [];
    // Between two replies, or instead of the one that the broken body was for. Anywhere else the client would take it for something it asked for.
    if (first === undefined || (others.length === 0 && !first.request.complete && !first.response.headersSent)) {
      this.#hangUp(socket, error.code);
    } else if (others.length === 0 && first.request.complete) {
      first.response.once('finish', () => this.#hangUp(socket, error.code));
    } else {
      socket.destroy();
    }
  }

  /** Closing at once would reset the connection while the client still sends, and it would see that and not the answer. */
  #hangUp(socket: Duplex, code: string | undefined): void {
    if (socket.destroyed || !socket.writable) return;
    this.#refused.add(socket);
    const disarm = this.#deps.clock.after(this.#deps.lingerMs, () => socket.destroy());
    socket.once('end', () => socket.destroy()).once('close', disarm);
    socket.end(textOf(refusal(errorOf(code))));
  }
}

function textOf({ status, headers, body }: Answer): string {
  const head = [
    `HTTP/1.1 ${status} ${http.STATUS_CODES[status] ?? ''}`,
    'connection: close',
    'docker-distribution-api-version: registry/2.0',
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
  ].join('\r\n');
  return `${head}\r\n\r\n${Buffer.isBuffer(body) ? body.toString() : ''}`;
}

function errorOf(code: string | undefined): RegistryError {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return new RegistryError('headerTooLarge', 'the head of the request is too large');
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new RegistryError('requestTimeout', 'the request came too slowly');
    default:
      return new RegistryError('requestInvalid', 'this is not an HTTP request');
  }
}
