/** What is not HTTP: one refusal, behind the replies that are under way on the connection, and then its end. */
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { refusal } from './answer.ts';
import { RegistryError } from './errors.ts';

interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

export class Connections {
  /** The replies under way on each connection, oldest first: a client may ask again before it is answered. */
  readonly #exchanges = new WeakMap<Duplex, Set<Exchange>>();

  /** Knows of the reply until it is out. */
  follow(request: IncomingMessage, response: ServerResponse): void {
    const exchange = { request, response };
    const exchanges = this.#exchanges.get(request.socket) ?? new Set();
    this.#exchanges.set(request.socket, exchanges.add(exchange));
    response.once('close', () => exchanges.delete(exchange));
  }

  /** The parser gave the connection up: a broken request, a head that is too large or too slow, or a TLS greeting on a plain port. */
  refuse(error: Error & { readonly code?: string }, socket: Duplex): void {
    if (socket.destroyed || !socket.writable || error.code === 'ECONNRESET') {
      socket.destroy();
      return;
    }
    const [first, ...others] = this.#exchanges.get(socket) ?? [];
    // Between two replies, or instead of the one that the broken body was for. Anywhere else the client would take it for something it asked for.
    if (first === undefined || (others.length === 0 && !first.request.complete && !first.response.headersSent)) {
      hangUp(socket, error.code);
    } else if (others.length === 0 && first.request.complete) {
      first.response.once('finish', () => hangUp(socket, error.code));
    } else {
      socket.destroy();
    }
  }
}

function hangUp(socket: Duplex, code: string | undefined): void {
  if (socket.destroyed || !socket.writable) return;
  const answer = refusal(errorOf(code));
  const head = [
    `HTTP/1.1 ${answer.status} ${http.STATUS_CODES[answer.status] ?? ''}`,
    'connection: close',
    'docker-distribution-api-version: registry/2.0',
    ...Object.entries(answer.headers).map(([name, value]) => `${name}: ${value}`),
  ].join('\r\n');
  socket.end(`${head}\r\n\r\n${Buffer.isBuffer(answer.body) ? answer.body.toString() : ''}`, () => socket.destroy());
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
