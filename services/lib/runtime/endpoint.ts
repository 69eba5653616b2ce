/** Splitting and joining `host:port`. */
import { AppError } from '#core';

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** Parses `host:port`; an IPv6 host stands in brackets, an empty host means every address. Throws `invalid-argument`. */
export function parseEndpoint(text: string): HostPort {
  const [, hostText, portText] = /^(.*):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(portText);
  if (hostText === undefined || port > 65_535) {
    throw new AppError('invalid-argument', 'not an endpoint: write it like 10.0.0.7:15001 or [::1]:15001', { data: { endpoint: text } });
  }
  const host = hostText.replace(/^\[(.*)\]$/, '$1');
  return { host: host === '' ? '::' : host, port };
}

export function formatEndpoint({ host, port }: HostPort): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
