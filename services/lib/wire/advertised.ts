/** Where a node says it can be reached. */
import { AppError } from '#core';
import { parseEndpointText } from './codec.ts';

/**
 * The endpoint that a node names; an empty host (":port") is filled in with the address its call comes from, `callerAddress` (`host:port`, an IPv6
 * host with or without brackets). Throws `invalid-argument`.
 */
export function advertisedEndpoint(endpoint: string, callerAddress: string): string {
  return parseEndpointText(endpoint.startsWith(':') ? `${hostOf(callerAddress)}${endpoint}` : endpoint, 'caller');
}

function hostOf(address: string): string {
  const colon = address.lastIndexOf(':');
  if (colon < 1) throw new AppError('invalid-argument', 'the caller has no address to fill in: name the endpoint as host:port');
  const host = address.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(host)?.[1];
  return mapped ?? (host.includes(':') ? `[${host}]` : host);
}
