/** Between the messages of the protos and the types of core. What comes from outside is validated here: every `FromProto` throws `invalid-argument`. */

import {
  AppError,
  algorithmOf,
  type Digest,
  digestBytes,
  digestFromBytes,
  identityOf,
  type Metainfo,
  metainfoOf,
  type NodeIdentity,
  type PeerId,
  parseNodeId,
  peerIdOf,
  type Role,
} from '#core';
import type { Duration } from '#gen/google/protobuf/duration';
import type { Timestamp } from '#gen/google/protobuf/timestamp';
import { DigestAlgorithm, type Digest as ProtoDigest, type Metainfo as ProtoMetainfo } from '#gen/shoal/common/v1/blob';
import { type NodeIdentity as ProtoIdentity, type Peer as ProtoPeer, Role as ProtoRole } from '#gen/shoal/common/v1/node';

/** A peer of a blob and where it answers. */
export interface PeerAddress {
  readonly peer: PeerId;
  /** `host:port`. */
  readonly endpoint: string;
  /** It holds the whole blob as far as the sender knows. */
  readonly complete: boolean;
}

/** Longest DNS name, brackets, colon and port. */
const endpointLengthMax = 262;

const roleNumbers: Readonly<Record<Role, ProtoRole>> = {
  agent: ProtoRole.AGENT,
  origin: ProtoRole.ORIGIN,
  tracker: ProtoRole.TRACKER,
  'build-index': ProtoRole.BUILD_INDEX,
  proxy: ProtoRole.PROXY,
  operator: ProtoRole.OPERATOR,
};

const roleNames: Readonly<Record<ProtoRole, Role | undefined>> = {
  [ProtoRole.UNSPECIFIED]: undefined,
  [ProtoRole.AGENT]: 'agent',
  [ProtoRole.ORIGIN]: 'origin',
  [ProtoRole.TRACKER]: 'tracker',
  [ProtoRole.BUILD_INDEX]: 'build-index',
  [ProtoRole.PROXY]: 'proxy',
  [ProtoRole.OPERATOR]: 'operator',
};

/** The value of a field that must be there. Throws `invalid-argument`. */
export function required<T>(value: T | undefined, field: string): T {
  if (value === undefined) throw new AppError('invalid-argument', `the field ${field} is missing`);
  return value;
}

/** A 64-bit number of a message as a number. Throws `invalid-argument` beyond 2^53. */
export function safeNumber(value: bigint, field: string): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw new AppError('invalid-argument', `the field ${field} is out of range`);
  return number;
}

export function digestToProto(digest: Digest): ProtoDigest {
  const algorithm = algorithmOf(digest) === 'sha256' ? DigestAlgorithm.SHA256 : DigestAlgorithm.SHA512;
  return { algorithm, value: digestBytes(digest) };
}

/** The result shares no memory with the message. */
export function digestFromProto(message: ProtoDigest | undefined, field = 'digest'): Digest {
  const { algorithm, value } = required(message, field);
  switch (algorithm) {
    case DigestAlgorithm.SHA256:
      return digestFromBytes('sha256', value);
    case DigestAlgorithm.SHA512:
      return digestFromBytes('sha512', value);
    default:
      throw new AppError('invalid-argument', `the field ${field} names no known digest algorithm`);
  }
}

export function metainfoToProto(metainfo: Metainfo): ProtoMetainfo {
  return {
    digest: digestToProto(metainfo.digest),
    sizeBytes: BigInt(metainfo.sizeBytes),
    pieceLengthBytes: BigInt(metainfo.pieceLengthBytes),
    pieceHashes: metainfo.pieceHashes,
  };
}

/** The hashes are copied, so that metainfo that is kept does not keep the message it came in. */
export function metainfoFromProto(message: ProtoMetainfo | undefined, field = 'metainfo'): Metainfo {
  const { digest, sizeBytes, pieceLengthBytes, pieceHashes } = required(message, field);
  return metainfoOf({
    digest: digestFromProto(digest, `${field}.digest`),
    sizeBytes: safeNumber(sizeBytes, `${field}.size_bytes`),
    pieceLengthBytes: safeNumber(pieceLengthBytes, `${field}.piece_length_bytes`),
    pieceHashes: Uint8Array.from(pieceHashes),
  });
}

export function roleToProto(role: Role): ProtoRole {
  return roleNumbers[role];
}

export function roleFromProto(role: ProtoRole, field = 'role'): Role {
  return required(roleNames[role], field);
}

export function nodeIdentityToProto({ role, id }: NodeIdentity): ProtoIdentity {
  return { role: roleToProto(role), id };
}

export function nodeIdentityFromProto(message: ProtoIdentity | undefined, field = 'identity'): NodeIdentity {
  const { role, id } = required(message, field);
  return { role: roleFromProto(role, `${field}.role`), id: parseNodeId(id) };
}

export function peerToProto({ peer, endpoint, complete }: PeerAddress): ProtoPeer {
  return { identity: nodeIdentityToProto(identityOf(peer)), endpoint, complete };
}

export function peerFromProto(message: ProtoPeer | undefined, field = 'peer'): PeerAddress {
  const { identity, endpoint, complete } = required(message, field);
  return { peer: peerIdOf(nodeIdentityFromProto(identity, `${field}.identity`)), endpoint: parseEndpointText(endpoint, field), complete };
}

/** `wallMs`: Unix time, whole milliseconds. */
export function timestampToProto(wallMs: number): Timestamp {
  const seconds = Math.floor(wallMs / 1000);
  return { seconds: BigInt(seconds), nanos: Math.round((wallMs - seconds * 1000) * 1e6) };
}

/** Unix time in whole milliseconds. */
export function timestampFromProto(message: Timestamp | undefined, field = 'time'): number {
  const { seconds, nanos } = required(message, field);
  return safeNumber(seconds, field) * 1000 + Math.floor(nanos / 1e6);
}

/** `durationMs`: milliseconds, at least 0. */
export function durationToProto(durationMs: number): Duration {
  const seconds = Math.floor(durationMs / 1000);
  return { seconds: BigInt(seconds), nanos: Math.round((durationMs - seconds * 1000) * 1e6) };
}

/** Milliseconds. */
export function durationFromProto(message: Duration | undefined, field = 'duration'): number {
  const { seconds, nanos } = required(message, field);
  return safeNumber(seconds, field) * 1000 + Math.round(nanos / 1e6);
}

/** Only the shape: whether anyone answers there is found out by dialling. */
/** Checks `host:port`. Throws `invalid-argument`. */
export function parseEndpointText(endpoint: string, field: string): string {
  const port = Number(/^(?:\[[0-9a-fA-F:.]+\]|[^\s:/@[\]]+):(\d{1,5})$/.exec(endpoint)?.[1]);
  if (endpoint.length > endpointLengthMax || !(port >= 1 && port <= 65_535)) {
    throw new AppError('invalid-argument', `the field ${field}.endpoint is not host:port`, { data: { endpoint: endpoint.slice(0, 100) } });
  }
  return endpoint;
}
