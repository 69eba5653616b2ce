/** Where a peer says it can be reached. */
import { AppError } from '#core';
import { type PeerAddress, peerFromProto, peerToProto } from '#wire';

/**
 * The endpoint from a hello; an empty host (":port") is filled in with the address the stream comes from, `callerAddress` (`host:port`, an IPv6 host
 * with or without brackets). Throws `invalid-argument`.
 */
export function advertisedEndpoint(endpoint: string, peer: PeerAddress['peer'], callerAddress: string): string {
  const resolved = endpoint.startsWith(':') ? `${hostOf(callerAddress)}${endpoint}` : endpoint;
  return peerFromProto(peerToProto({ peer, endpoint: resolved, complete: false })).endpoint;
}

function hostOf(address: string): string {
  const colon = address.lastIndexOf(':');
  if (colon < 1) throw new AppError('invalid-argument', 'the caller has no address to fill in: say hello with host:port');
  const host = address.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(host)?.[1];
  return mapped ?? (host.includes(':') ? `[${host}]` : host);
}
