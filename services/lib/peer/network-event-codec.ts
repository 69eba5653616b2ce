/** Network events as messages, both ways: the service encodes them, the command decodes them. */
import { AppError, type Digest, identityOf, type PeerId, peerIdOf } from '#core';
import { RefusalReason } from '#gen/shoal/peer/v1/exchange';
import {
  AnnouncedState,
  type NetworkEvent as EventMessage,
  NetworkEventKind as KindNumber,
  PieceRejection,
} from '#gen/shoal/peer/v1/network_event_service';
import { LinkDirection } from '#gen/shoal/peer/v1/transfer_service';
import {
  digestFromProto,
  digestToProto,
  durationFromProto,
  durationToProto,
  nodeIdentityFromProto,
  nodeIdentityToProto,
  safeNumber,
  timestampFromProto,
  timestampToProto,
} from '#wire';
import type { LinkEnd, NetworkEvent, NetworkEventKind, PieceRejectionReason, TimedEvent } from './network-event.ts';

type Detail = NonNullable<EventMessage['event']>;
type EventOf<T extends NetworkEvent['type']> = Extract<NetworkEvent, { readonly type: T }>;

const kinds: Readonly<Record<NetworkEventKind, KindNumber>> = {
  'link-up': KindNumber.LINK_UP,
  'link-down': KindNumber.LINK_DOWN,
  'link-refused': KindNumber.LINK_REFUSED,
  'piece-requested': KindNumber.PIECE_REQUESTED,
  'piece-received': KindNumber.PIECE_RECEIVED,
  'piece-rejected': KindNumber.PIECE_REJECTED,
  'piece-sent': KindNumber.PIECE_SENT,
  'download-started': KindNumber.DOWNLOAD_STARTED,
  'blob-complete': KindNumber.BLOB_COMPLETE,
  'download-failed': KindNumber.DOWNLOAD_FAILED,
  announced: KindNumber.ANNOUNCED,
};

const rejections: Readonly<Record<PieceRejectionReason, PieceRejection>> = {
  corrupt: PieceRejection.CORRUPT,
  duplicate: PieceRejection.DUPLICATE,
  busy: PieceRejection.BUSY,
  'not-have': PieceRejection.NOT_HAVE,
  draining: PieceRejection.DRAINING,
};

const refusals: Readonly<Record<EventOf<'link-refused'>['reason'], RefusalReason>> = {
  busy: RefusalReason.BUSY,
  crowded: RefusalReason.CROWDED,
  'not-have': RefusalReason.NOT_HAVE,
  draining: RefusalReason.DRAINING,
  'unknown-blob': RefusalReason.UNKNOWN_BLOB,
};

const states: Readonly<Record<EventOf<'announced'>['state'], AnnouncedState>> = {
  wanted: AnnouncedState.WANTED,
  complete: AnnouncedState.COMPLETE,
  gone: AnnouncedState.GONE,
};

export function networkEventKindToProto(kind: NetworkEventKind): KindNumber {
  return kinds[kind];
}

/** Throws `invalid-argument` for a kind this version does not know. */
export function networkEventKindFromProto(kind: KindNumber): NetworkEventKind {
  return named(kinds, kind, 'kinds');
}

export function networkEventToProto({ timeMs, event }: TimedEvent): EventMessage {
  return {
    time: timestampToProto(timeMs),
    digest: event.type === 'gap' ? undefined : digestToProto(event.digest),
    peer: 'peer' in event ? nodeIdentityToProto(identityOf(event.peer)) : undefined,
    direction: 'direction' in event ? directionToProto(event.direction) : LinkDirection.UNSPECIFIED,
    event: detailOf(event),
  };
}

function detailOf(event: NetworkEvent): Detail {
  switch (event.type) {
    case 'link-up':
      return { $case: 'linkUp', linkUp: {} };
    case 'link-down':
      return { $case: 'linkDown', linkDown: { reason: event.reason, wasUp: event.wasUp } };
    case 'link-refused':
      return { $case: 'linkRefused', linkRefused: { reason: refusals[event.reason], retryAfterMs: event.retryAfterMs } };
    case 'piece-requested':
      return { $case: 'pieceRequested', pieceRequested: { index: event.piece } };
    case 'piece-received':
      return { $case: 'pieceReceived', pieceReceived: { index: event.piece, sizeBytes: event.sizeBytes } };
    case 'piece-rejected':
      return { $case: 'pieceRejected', pieceRejected: { index: event.piece, reason: rejections[event.reason] } };
    case 'piece-sent':
      return { $case: 'pieceSent', pieceSent: { index: event.piece, sizeBytes: event.sizeBytes } };
    case 'download-started': {
      const { sizeBytes, pieceCount, presentCount } = event;
      return { $case: 'downloadStarted', downloadStarted: { sizeBytes: BigInt(sizeBytes), pieceCount, presentCount } };
    }
    case 'blob-complete':
      return {
        $case: 'blobComplete',
        blobComplete: { sizeBytes: BigInt(event.sizeBytes), duration: durationToProto(event.durationMs) },
      };
    case 'download-failed':
      return { $case: 'downloadFailed', downloadFailed: { code: event.code, message: event.message } };
    case 'announced':
      return { $case: 'announced', announced: { state: states[event.state], peersWanted: event.peersWanted } };
    case 'gap':
      return { $case: 'gap', gap: { droppedCount: BigInt(event.droppedCount) } };
  }
}

/** Undefined for an event that this version does not know. Throws `invalid-argument` for a malformed one. */
export function networkEventFromProto(message: EventMessage): TimedEvent | undefined {
  const { event } = message;
  if (event === undefined) return undefined;
  const timeMs = timestampFromProto(message.time);
  if (event.$case === 'gap') return { timeMs, event: { type: 'gap', droppedCount: safeNumber(event.gap.droppedCount, 'gap') } };
  const digest = digestFromProto(message.digest);
  return { timeMs, event: ofBlob(event, digest) ?? ofLink(event, digest, message) };
}

type Ungapped = Exclude<Detail, { readonly $case: 'gap' }>;
type OfBlob = Extract<Ungapped, { readonly $case: 'downloadStarted' | 'blobComplete' | 'downloadFailed' | 'announced' }>;
type OfLink = Exclude<Ungapped, OfBlob>;

function ofBlob(event: Ungapped, digest: Digest): NetworkEvent | undefined {
  switch (event.$case) {
    case 'downloadStarted': {
      const { sizeBytes, pieceCount, presentCount } = event.downloadStarted;
      return { type: 'download-started', digest, sizeBytes: safeNumber(sizeBytes, 'size_bytes'), pieceCount, presentCount };
    }
    case 'blobComplete': {
      const { sizeBytes, duration } = event.blobComplete;
      return { type: 'blob-complete', digest, sizeBytes: safeNumber(sizeBytes, 'size_bytes'), durationMs: durationFromProto(duration) };
    }
    case 'downloadFailed':
      return { type: 'download-failed', digest, ...event.downloadFailed };
    case 'announced': {
      const { state, peersWanted } = event.announced;
      return { type: 'announced', digest, state: named(states, state, 'state'), peersWanted };
    }
    default:
      return undefined;
  }
}

function ofLink(detail: Ungapped, digest: Digest, message: EventMessage): NetworkEvent {
  const event = detail as OfLink;
  const peer: PeerId = peerIdOf(nodeIdentityFromProto(message.peer, 'peer'));
  const link = { digest, peer, direction: directionFromProto(message.direction) };
  switch (event.$case) {
    case 'linkUp':
      return { type: 'link-up', ...link };
    case 'linkDown':
      return { type: 'link-down', ...link, ...event.linkDown };
    case 'linkRefused': {
      const { reason, retryAfterMs } = event.linkRefused;
      return { type: 'link-refused', ...link, reason: named(refusals, reason, 'reason'), retryAfterMs };
    }
    case 'pieceRequested':
      return { type: 'piece-requested', ...link, piece: event.pieceRequested.index };
    case 'pieceReceived':
      return { type: 'piece-received', ...link, piece: event.pieceReceived.index, sizeBytes: event.pieceReceived.sizeBytes };
    case 'pieceRejected': {
      const { index, reason } = event.pieceRejected;
      return { type: 'piece-rejected', ...link, piece: index, reason: named(rejections, reason, 'reason') };
    }
    case 'pieceSent':
      return { type: 'piece-sent', ...link, piece: event.pieceSent.index, sizeBytes: event.pieceSent.sizeBytes };
  }
}

function directionToProto(direction: LinkEnd): LinkDirection {
  return direction === 'outbound' ? LinkDirection.OUTBOUND : LinkDirection.INBOUND;
}

function directionFromProto(direction: LinkDirection): LinkEnd {
  return direction === LinkDirection.OUTBOUND ? 'outbound' : 'inbound';
}

/** The name of a number. Throws `invalid-argument` naming the field. */
function named<K extends string>(numbers: Readonly<Record<K, number>>, number: number, field: string): K {
  for (const name in numbers) if (numbers[name] === number) return name;
  throw new AppError('invalid-argument', `the field ${field} has a value that is not known here: ${number}`);
}
