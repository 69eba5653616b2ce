/** What happens between this node and its peers, as watchers and the event file are told. */
import type { Digest, PeerId } from '#core';

/** Which end of a link this node is: it downloads on an outbound one and serves on an inbound one. */
export type LinkEnd = 'outbound' | 'inbound';

export type PieceRejectionReason = 'corrupt' | 'duplicate' | 'busy' | 'not-have' | 'draining';

interface OfLink {
  readonly digest: Digest;
  readonly peer: PeerId;
  readonly direction: LinkEnd;
}

interface OfPiece extends OfLink {
  readonly piece: number;
}

export type NetworkEvent =
  | ({ readonly type: 'link-up' } & OfLink)
  /** `wasUp` is false for a dial that failed. */
  | ({ readonly type: 'link-down'; readonly reason: string; readonly wasUp: boolean } & OfLink)
  | ({
      readonly type: 'link-refused';
      readonly reason: 'busy' | 'crowded' | 'not-have' | 'draining' | 'unknown-blob';
      readonly retryAfterMs: number;
    } & OfLink)
  | ({ readonly type: 'piece-requested' } & OfPiece)
  | ({ readonly type: 'piece-received'; readonly sizeBytes: number } & OfPiece)
  | ({ readonly type: 'piece-rejected'; readonly reason: PieceRejectionReason } & OfPiece)
  | ({ readonly type: 'piece-sent'; readonly sizeBytes: number } & OfPiece)
  | {
      readonly type: 'download-started';
      readonly digest: Digest;
      readonly sizeBytes: number;
      readonly pieceCount: number;
      readonly presentCount: number;
    }
  | { readonly type: 'blob-complete'; readonly digest: Digest; readonly sizeBytes: number; readonly durationMs: number }
  | { readonly type: 'download-failed'; readonly digest: Digest; readonly code: string; readonly message: string }
  | {
      readonly type: 'announced';
      readonly digest: Digest;
      readonly state: 'wanted' | 'complete' | 'gone';
      readonly peersWanted: number;
    }
  /** So many events are missing here. */
  | { readonly type: 'gap'; readonly droppedCount: number };

/** Kinds that can be chosen; a gap is always told. */
export type NetworkEventKind = Exclude<NetworkEvent['type'], 'gap'>;

export const networkEventKinds: readonly NetworkEventKind[] = [
  'link-up',
  'link-down',
  'link-refused',
  'piece-requested',
  'piece-received',
  'piece-rejected',
  'piece-sent',
  'download-started',
  'blob-complete',
  'download-failed',
  'announced',
];

/** An event and the Unix time at which it happened, in whole milliseconds. */
export interface TimedEvent {
  readonly timeMs: number;
  readonly event: NetworkEvent;
}

/** One line of JSON without its line feed: `time` and `type` first, then the fields of the event. */
export function networkEventLine({ timeMs, event }: TimedEvent): string {
  return JSON.stringify({ time: new Date(timeMs).toISOString(), ...event });
}

/** A piece of a blob that the peer does not know of (any more) is one that it does not have; a crowded peer is a busy one. */
export function rejectionOf(reason: EventReason<'link-refused'>): PieceRejectionReason {
  if (reason === 'crowded') return 'busy';
  return reason === 'unknown-blob' ? 'not-have' : reason;
}

type EventReason<T extends NetworkEvent['type']> = Extract<NetworkEvent, { readonly type: T; readonly reason: unknown }>['reason'];
