/** What a connection and a request head show of the client, and under which address it knows this registry. */
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { Evidence } from './access.ts';

/** A name, an IPv4 address or an IPv6 address in brackets, and perhaps a port. */
const hostPattern = /^(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?$/;

/** Printable, so that it can stand in a log line and a header. */
const commonNamePattern = /^[\x21-\x7e](?:[\x20-\x7e]{0,126}[\x21-\x7e])?$/;

export function evidenceOf(request: IncomingMessage): Evidence {
  return {
    authorization: request.headers.authorization,
    certificateName: certificateNameOf(request.socket),
    address: plainAddress(request.socket.remoteAddress),
  };
}

/**
 * `http(s)://host:port` as the client addressed it. The Host header is the client's word, which a challenge only tells back to it; what is
 * no host at all is replaced by the address it has connected to.
 */
export function originOf(request: IncomingMessage): string {
  const { socket } = request;
  const scheme = socket instanceof TLSSocket ? 'https' : 'http';
  const { host } = request.headers;
  if (host !== undefined && hostPattern.test(host)) return `${scheme}://${host}`;
  const address = plainAddress(socket.localAddress) ?? 'localhost';
  return `${scheme}://${address.includes(':') ? `[${address}]` : address}:${socket.localPort ?? 0}`;
}

/** An IPv4 client on a dual-stack socket appears as `::ffff:a.b.c.d`. */
export function plainAddress(address: string | undefined): string | undefined {
  return address?.toLowerCase().startsWith('::ffff:') === true && address.includes('.') ? address.slice(7) : address;
}

function certificateNameOf(socket: Socket): string | undefined {
  if (!(socket instanceof TLSSocket) || !socket.authorized) return undefined;
  // Typed as always there, but absent without a certificate; several common names make a list.
  const name: unknown = socket.getPeerCertificate().subject?.CN;
  return typeof name === 'string' && commonNamePattern.test(name) ? name : undefined;
}
