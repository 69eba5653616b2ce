/**
 * What goes into the engine and what comes out: plain data, no callbacks.
 *
 * Host contract. The host (a real process or the simulator) applies one event at a time and carries out the returned effects
 * in array order before it applies the next event; the array is reused by the next call. Everything the engine waits for comes
 * back as an event: each `dial` ends in `link-accepted`, `link-refused` or `link-closed`; each `write-piece` in `piece-verified`,
 * `piece-corrupt` or `piece-unwritable`; each `serve-piece` in `piece-sent`, `piece-unreadable` or `link-closed`. After a `close` or
 * `refuse` effect the link is gone: later events about it are ignored. A `pieces` array of an effect belongs to the receiver. The host keeps at most one timer,
 * re-armed to `nextDeadlineMs()`, and applies `tick` when it fires. `nowMs` is a monotonic whole number.
 */
import type { Bitfield, Digest, Metainfo, PeerId } from '#core';

/** Names one exchange stream of one blob with one peer; unique for the life of the engine, from `Swarm.newLink()`. */
export type LinkId = number;
/** Names one reader (an HTTP response, for instance) of a blob. */
export type ReaderId = number;

/** A peer as the tracker, the ring or a caller offers it. */
export interface PeerOffer {
  readonly peer: PeerId;
  /** `host:port` of its peer service. */
  readonly endpoint: string;
  /** It holds the whole blob as far as the offerer knows. */
  readonly complete: boolean;
}

export function isOrigin(peer: PeerId): boolean {
  return peer.startsWith('origin/');
}

/** Why an inbound link or a request is refused. Never treated as a failure by the other side. */
/** `crowded` answers a request for a piece: ask another source now and this one later. */
export type RefusalReason = 'busy' | 'crowded' | 'not-have' | 'draining' | 'unknown-blob';

/** Why the engine closes a link. */
export type CloseReason = 'complete' | 'useless' | 'slow' | 'corrupt' | 'idle' | 'forgotten' | 'draining' | 'exchanged';

export type SwarmEvent =
  // what this process wants and has
  | { readonly type: 'blob-wanted'; readonly metainfo: Metainfo; readonly have: Bitfield; readonly owners?: readonly PeerOffer[] }
  /** `owners` are the origins that own the blob, with or without this process: if it is one, each gives away a share of its own first. */
  | { readonly type: 'blob-seeded'; readonly metainfo: Metainfo; readonly owners?: readonly PeerOffer[] }
  | { readonly type: 'blob-forgotten'; readonly digest: Digest }
  | { readonly type: 'peers-offered'; readonly digest: Digest; readonly peers: readonly PeerOffer[] }
  | {
      readonly type: 'reader-moved';
      readonly digest: Digest;
      readonly reader: ReaderId;
      readonly firstPiece: number;
      readonly endPiece: number;
    }
  | { readonly type: 'reader-closed'; readonly digest: Digest; readonly reader: ReaderId }
  // links on which this process downloads
  | { readonly type: 'link-accepted'; readonly link: LinkId; readonly have: Bitfield }
  | { readonly type: 'link-refused'; readonly link: LinkId; readonly reason: RefusalReason; readonly retryAfterMs: number }
  | { readonly type: 'peer-has'; readonly link: LinkId; readonly pieces: readonly number[] }
  | { readonly type: 'piece-received'; readonly link: LinkId; readonly piece: number; readonly sizeBytes: number }
  | { readonly type: 'piece-refused'; readonly link: LinkId; readonly piece: number; readonly reason: RefusalReason }
  | { readonly type: 'piece-verified'; readonly digest: Digest; readonly piece: number }
  | { readonly type: 'piece-corrupt'; readonly digest: Digest; readonly piece: number; readonly peer: PeerId }
  | { readonly type: 'piece-unwritable'; readonly digest: Digest; readonly piece: number }
  // links on which this process serves
  | { readonly type: 'link-requested'; readonly link: LinkId; readonly digest: Digest; readonly peer: PeerId }
  | { readonly type: 'pieces-requested'; readonly link: LinkId; readonly pieces: readonly number[] }
  | { readonly type: 'pieces-cancelled'; readonly link: LinkId; readonly pieces: readonly number[] }
  | { readonly type: 'piece-sent'; readonly link: LinkId; readonly piece: number; readonly sizeBytes: number }
  /** The piece to be served cannot be read from disk; the engine refuses it. */
  | { readonly type: 'piece-unreadable'; readonly link: LinkId; readonly piece: number }
  // both
  | { readonly type: 'link-closed'; readonly link: LinkId; readonly failed: boolean }
  /** The host reads no pieces, as too many wait for its disk, or reads again: nobody is late meanwhile. */
  | { readonly type: 'reading-paused'; readonly paused: boolean }
  | { readonly type: 'drain' }
  | { readonly type: 'tick' };

export type Effect =
  | { readonly type: 'dial'; readonly link: LinkId; readonly digest: Digest; readonly peer: PeerId; readonly endpoint: string }
  | { readonly type: 'request'; readonly link: LinkId; readonly pieces: readonly number[] }
  | { readonly type: 'cancel'; readonly link: LinkId; readonly pieces: readonly number[] }
  /** Verify the received piece against the metainfo and write it. */
  | { readonly type: 'write-piece'; readonly link: LinkId; readonly digest: Digest; readonly piece: number }
  /** The received piece is not needed (it lost an endgame race). */
  | { readonly type: 'drop-piece'; readonly link: LinkId; readonly digest: Digest; readonly piece: number }
  /** `have` is the engine's own set: encode it before the next event; later pieces follow as `tell-have`. */
  | { readonly type: 'accept'; readonly link: LinkId; readonly digest: Digest; readonly have: Bitfield }
  | { readonly type: 'refuse'; readonly link: LinkId; readonly reason: RefusalReason; readonly retryAfterMs: number }
  | { readonly type: 'refuse-piece'; readonly link: LinkId; readonly piece: number; readonly reason: RefusalReason }
  | { readonly type: 'tell-have'; readonly link: LinkId; readonly pieces: readonly number[] }
  /** Read the piece from disk and send it. A seed serves the requests of a link in an order of its own: pieces nobody has come first. */
  /** `untilArrived`: `piece-sent` is to be told when the downloader has it, not when the transport does, where that can be known. */
  | { readonly type: 'serve-piece'; readonly link: LinkId; readonly digest: Digest; readonly piece: number; readonly untilArrived: boolean }
  | { readonly type: 'close'; readonly link: LinkId; readonly reason: CloseReason }
  /** Tell the tracker what this process wants or has; `peersWanted` is 0 for a mere change of state. */
  | { readonly type: 'announce'; readonly digest: Digest; readonly complete: boolean; readonly peersWanted: number }
  /** Nothing arrived for a while: the host should offer safer peers (the owners). */
  | { readonly type: 'stalled'; readonly digest: Digest; readonly idleMs: number }
  | { readonly type: 'complete'; readonly digest: Digest };

/** What a finished or running transfer received, for operators and logs. */
export interface SourceCount {
  readonly peer: PeerId;
  readonly pieceCount: number;
  readonly sizeBytes: number;
  readonly corruptCount: number;
  readonly duplicateCount: number;
}

export interface TransferSnapshot {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly pieceCount: number;
  readonly verifiedCount: number;
  readonly complete: boolean;
  readonly startedMs: number;
  readonly completedMs: number | undefined;
  readonly sources: readonly SourceCount[];
  readonly outboundLinkCount: number;
  readonly inboundLinkCount: number;
  readonly servedBytes: number;
}

export interface LinkSnapshot {
  readonly link: LinkId;
  readonly digest: Digest;
  readonly peer: PeerId;
  readonly direction: 'outbound' | 'inbound';
  readonly state: 'dialing' | 'open';
  readonly inFlightCount: number;
  readonly rateBytesPerSec: number;
  readonly openedMs: number;
}

export interface PenaltySnapshot {
  readonly peer: PeerId;
  readonly reason: 'corrupt' | 'unreachable' | 'slow';
  readonly strikeCount: number;
  readonly untilMs: number;
}
