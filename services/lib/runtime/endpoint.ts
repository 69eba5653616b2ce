/** Splitting and joining `host:port`. */
import { AppError } from '#core';

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** Parses `host:port`; an IPv6 host stands in brackets, an empty host means every address. Throws `invalid-argument`. */
export function parseEndpoint(text: string): HostPort {
  const colon = text.lastIndexOf(':');
  const port = Number(text.slice(colon + 1));
  const host = text.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
  if (colon < 0 || !Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new AppError('invalid-argument', 'not an endpoint: write it like 10.0.0.7:15001 or [::1]:15001', { data: { endpoint: text } });
  }
  return { host: host === '' ? '::' : host, port };
}

export function formatEndpoint({ host, port }: HostPort): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
