/** The links on which this node downloads: dials, requests, and the received pieces until the engine says what becomes of them. */
import { AppError, Bitfield, type Clock, type Digest, identityOf, type Logger, type PeerId, toAppError } from '#core';
import type { CloseReason, LinkId } from '#swarm';
import type { ExchangeRefusal, OutboundExchange } from '#wire';
import type { PeerChannels } from './deps.ts';
import type { Engine } from './engine.ts';
import { rejectionOf } from './network-event.ts';
import type { NetworkEvents } from './network-events.ts';

/** What a download wants to know of its links, for its watchdog and its messages. */
export interface LinkObserver {
  linkOpened(peer: PeerId): void;
  linkRefused(peer: PeerId, reason: ExchangeRefusal): void;
  /** `opened`: it had been accepted. */
  linkEnded(peer: PeerId, opened: boolean, error: Error | undefined): void;
}

/**
 * Dials of a blob that begin at once while it has no open link. Handshakes and pieces side by side all end late, and the first byte, which somebody
 * waits for, with them.
 */
const firstDialCount = 1;
const direction = 'outbound';
/** The other dials begin with the first piece, or after this: the first handshake of a process takes about 50 ms. */
const dialStaggerMs = 80;

export interface OutboundLinksDeps {
  readonly clock: Pick<Clock, 'after'>;
  readonly engine: Engine;
  readonly channels: PeerChannels;
  readonly logger: Logger;
  readonly events: NetworkEvents;
}

export interface DialTarget {
  readonly digest: Digest;
  readonly peer: PeerId;
  readonly endpoint: string;
}

interface Link {
  readonly digest: Digest;
  readonly peer: PeerId;
  readonly observer: LinkObserver;
  exchange: OutboundExchange | undefined;
  opened: boolean;
  /** Received pieces whose event has not been applied: more than one only if events had to queue up. */
  readonly pieces: { readonly index: number; readonly bytes: Uint8Array }[];
}

/** A received piece on its way to the disk. */
export interface ReceivedPiece {
  readonly peer: PeerId;
  readonly bytes: Uint8Array;
}

export class OutboundLinks {
  readonly #heldBytesMax: number;
  readonly #deps: OutboundLinksDeps;
  readonly #links = new Map<LinkId, Link>();
  /** Dials that wait for the first piece of their blob. */
  #waiting: { readonly digest: Digest; begin(): void }[] = [];
  #cancelStagger: (() => void) | undefined;
  #heldBytes = 0;
  #paused = false;

  constructor(options: { readonly heldBytesMax: number }, deps: OutboundLinksDeps) {
    this.#heldBytesMax = options.heldBytesMax;
    this.#deps = deps;
  }

  get count(): number {
    return this.#links.size;
  }

  /** Bytes of pieces that were received and are not on disk. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Opens a link; the engine hears what becomes of it. */
  dial(link: LinkId, to: DialTarget, watch: { readonly pieceCount: number; readonly observer: LinkObserver }): void {
    const { digest, peer } = to;
    const opening = [...this.#links.values()].filter((other) => other.digest === digest);
    const entry: Link = { digest, peer, observer: watch.observer, exchange: undefined, opened: false, pieces: [] };
    this.#links.set(link, entry);
    if (opening.length < firstDialCount || opening.some(({ opened }) => opened)) {
      this.#begin(link, entry, to, watch.pieceCount);
      return;
    }
    const begin = (): void => {
      if (this.#links.get(link) === entry) this.#begin(link, entry, to, watch.pieceCount);
    };
    this.#waiting.push({ digest, begin });
    this.#cancelStagger ??= this.#deps.clock.after(dialStaggerMs, () => this.#beginWaiting(undefined));
  }

  /** As {@link #beginWaiting}, once whoever waits for what has just come has it: a dial takes a millisecond. */
  #beginSoon(digest: Digest): void {
    if (this.#waiting.some((other) => other.digest === digest)) this.#deps.clock.after(0, () => this.#beginWaiting(digest));
  }

  /** Begins the dials of a blob that wait, or all. */
  #beginWaiting(digest: Digest | undefined): void {
    if (this.#waiting.length === 0) return;
    const due = this.#waiting.filter((other) => digest === undefined || other.digest === digest);
    this.#waiting = this.#waiting.filter((other) => !due.includes(other));
    if (this.#waiting.length === 0) {
      this.#cancelStagger?.();
      this.#cancelStagger = undefined;
    }
    for (const { begin } of due) begin();
  }

  #begin(link: LinkId, entry: Link, { digest, peer, endpoint }: DialTarget, pieceCount: number): void {
    const { engine, channels, events } = this.#deps;
    try {
      entry.exchange = channels.dialExchange({ endpoint, ...identityOf(peer) }, digest, {
        accepted: (complete, bitfield) => this.#accepted(link, complete, bitfield, pieceCount),
        refused: (reason, retryAfterMs) => {
          if (!this.#remove(link)) return;
          entry.observer.linkRefused(peer, reason);
          if (events.active) events.emit({ type: 'link-refused', digest, peer, direction, reason, retryAfterMs });
          engine.post({ type: 'link-refused', link, reason, retryAfterMs });
        },
        have: (pieces) => {
          if (this.#links.has(link)) engine.post({ type: 'peer-has', link, pieces });
        },
        piece: (index, bytes) => this.#received(link, index, bytes),
        pieceRefused: (piece, reason) => {
          if (!this.#links.has(link)) return;
          if (events.active) events.emit({ type: 'piece-rejected', digest, peer, direction, piece, reason: rejectionOf(reason) });
          engine.post({ type: 'piece-refused', link, piece, reason });
        },
        closed: (error) => this.#closed(link, error),
      });
    } catch (error) {
      this.#closed(link, toAppError(error));
    }
  }

  has(link: LinkId): boolean {
    return this.#links.has(link);
  }

  request(link: LinkId, pieces: readonly number[]): void {
    const entry = this.#links.get(link);
    if (entry === undefined) return;
    const { events } = this.#deps;
    if (events.active) {
      const { digest, peer } = entry;
      for (const piece of pieces) events.emit({ type: 'piece-requested', digest, peer, direction, piece });
    }
    entry.exchange?.request(pieces);
  }

  cancel(link: LinkId, pieces: readonly number[]): void {
    this.#links.get(link)?.exchange?.cancel(pieces);
  }

  close(link: LinkId, reason: CloseReason | 'shutdown'): void {
    const entry = this.#remove(link);
    if (entry === undefined) return;
    this.#tellDown(entry, reason);
    entry.observer.linkEnded(entry.peer, entry.opened, undefined);
    entry.exchange?.close();
  }

  /** The piece that a `write-piece` or `drop-piece` effect speaks of. The caller gives its bytes back by `release` after writing. */
  take(link: LinkId, index: number): ReceivedPiece | undefined {
    const entry = this.#links.get(link);
    const piece = entry?.pieces.find((other) => other.index === index);
    return entry === undefined || piece === undefined ? undefined : { peer: entry.peer, bytes: piece.bytes };
  }

  hold(sizeBytes: number): void {
    this.#heldBytes += sizeBytes;
    if (this.#paused || this.#heldBytes <= this.#heldBytesMax) return;
    this.#paused = true;
    // One that is being dialled has no pieces to come, and must hear the answer.
    for (const { exchange, opened } of this.#links.values()) if (opened) exchange?.pause();
    this.#deps.engine.post({ type: 'reading-paused', paused: true });
  }

  release(sizeBytes: number): void {
    this.#heldBytes -= sizeBytes;
    if (!this.#paused || this.#heldBytes > this.#heldBytesMax / 2) return;
    this.#paused = false;
    for (const { exchange } of this.#links.values()) exchange?.resume();
    this.#deps.engine.post({ type: 'reading-paused', paused: false });
  }

  closeAll(): void {
    this.#waiting = [];
    this.#cancelStagger?.();
    this.#cancelStagger = undefined;
    for (const link of [...this.#links.keys()]) this.close(link, 'shutdown');
  }

  #accepted(link: LinkId, complete: boolean, bitfield: Uint8Array, pieceCount: number): void {
    const entry = this.#links.get(link);
    if (entry === undefined) return;
    let have: Bitfield;
    try {
      have = complete ? Bitfield.full(pieceCount) : Bitfield.fromBytes(bitfield, pieceCount);
    } catch (error) {
      entry.exchange?.close();
      this.#closed(link, toAppError(error));
      return;
    }
    entry.opened = true;
    if (this.#paused) entry.exchange?.pause();
    entry.observer.linkOpened(entry.peer);
    const { events } = this.#deps;
    if (events.active) events.emit({ type: 'link-up', digest: entry.digest, peer: entry.peer, direction });
    this.#deps.engine.post({ type: 'link-accepted', link, have });
  }

  #received(link: LinkId, index: number, bytes: Uint8Array): void {
    const entry = this.#links.get(link);
    if (entry === undefined) return;
    const piece = { index, bytes };
    entry.pieces.push(piece);
    this.#deps.engine.post({ type: 'piece-received', link, piece: index, sizeBytes: bytes.byteLength }, () => {
      entry.pieces.splice(entry.pieces.indexOf(piece), 1);
    });
    this.#beginSoon(entry.digest);
  }

  #closed(link: LinkId, error: Error | undefined): void {
    const entry = this.#remove(link);
    if (entry === undefined) return;
    this.#tellDown(entry, error?.message ?? 'ended by the peer');
    entry.observer.linkEnded(entry.peer, entry.opened, error);
    if (error !== undefined) {
      const { code, message } = error instanceof AppError ? error : toAppError(error);
      this.#deps.logger.debug('a link to a source ended', { digest: entry.digest, peer: entry.peer, code, why: message });
    }
    this.#deps.engine.post({ type: 'link-closed', link, failed: error !== undefined });
  }

  #tellDown({ digest, peer, opened }: Link, reason: string): void {
    const { events } = this.#deps;
    if (events.active) events.emit({ type: 'link-down', digest, peer, direction, reason, wasUp: opened });
  }

  #remove(link: LinkId): Link | undefined {
    const entry = this.#links.get(link);
    if (entry === undefined) return undefined;
    this.#links.delete(link);
    this.#beginWaiting(entry.digest);
    return entry;
  }
}
