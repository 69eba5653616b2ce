/** The links on which this node serves: exchanges in, events to the engine, pieces from disk to the transport. */
import { assert, type Bitfield, type Clock, type Digest, identityOf, type Logger, pieceSize, type Role, toAppError } from '#core';
import type { CloseReason, LinkId, RefusalReason } from '#swarm';
import { type InboundExchange, type PieceFrame, PieceFramePool, pieceFrame } from '#wire';
import type { Engine } from './engine.ts';
import type { PeerMetrics } from './metrics.ts';
import { rejectionOf } from './network-event.ts';
import type { NetworkEvents } from './network-events.ts';
import type { Shelf } from './shelf.ts';
import { type Background, ByteBudget } from './waiting.ts';

export interface InboundLinksDeps {
  readonly engine: Engine;
  readonly shelf: Shelf;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: PeerMetrics;
  readonly background: Background;
  readonly events: NetworkEvents;
}

const direction = 'inbound';

interface Link {
  readonly exchange: InboundExchange;
  readonly digest: Digest;
  readonly role: Role;
}

interface Service {
  readonly piece: number;
  readonly untilArrived: boolean;
}

interface Sending {
  readonly frame: PieceFrame;
  readonly taken: () => void;
}

export class InboundLinks {
  readonly #options: { readonly sendBytesMax: number; readonly sendTimeoutMs: number };
  readonly #deps: InboundLinksDeps;
  readonly #links = new Map<LinkId, Link>();
  readonly #budget: ByteBudget;
  readonly #frames = new PieceFramePool();
  readonly #idleWaiters: (() => void)[] = [];

  constructor(options: { readonly sendBytesMax: number; readonly sendTimeoutMs: number }, deps: InboundLinksDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#budget = new ByteBudget(options.sendBytesMax);
  }

  get count(): number {
    return this.#links.size;
  }

  /** Bytes read from disk that the transport has not taken. */
  get sendBytes(): number {
    return this.#budget.takenBytes;
  }

  /** A peer opened an exchange. Its listener is set before this returns. */
  add(exchange: InboundExchange): void {
    const { engine, shelf, events } = this.#deps;
    const link = engine.newLink();
    const { digest, peer } = exchange;
    this.#links.set(link, { exchange, digest, role: identityOf(peer).role });
    shelf.linkOpened(digest);
    exchange.listen({
      requested: (pieces) => {
        if (events.active) for (const piece of pieces) events.emit({ type: 'piece-requested', digest, peer, direction, piece });
        engine.post({ type: 'pieces-requested', link, pieces });
      },
      cancelled: (pieces) => engine.post({ type: 'pieces-cancelled', link, pieces }),
      closed: (error) => {
        const entry = this.#forget(link);
        if (entry === undefined) return;
        this.#tellDown(entry, error?.message ?? 'ended by the peer');
        engine.post({ type: 'link-closed', link, failed: error !== undefined });
      },
    });
    engine.post({ type: 'link-requested', link, digest, peer });
  }

  has(link: LinkId): boolean {
    return this.#links.has(link);
  }

  accept(link: LinkId, have: Bitfield): void {
    const entry = this.#links.get(link);
    if (entry === undefined) return;
    const { events } = this.#deps;
    if (events.active) events.emit({ type: 'link-up', digest: entry.digest, peer: entry.exchange.peer, direction });
    entry.exchange.accept(have);
  }

  refuse(link: LinkId, reason: RefusalReason, retryAfterMs: number): void {
    const entry = this.#forget(link);
    if (entry === undefined) return;
    const { events } = this.#deps;
    if (events.active)
      events.emit({ type: 'link-refused', digest: entry.digest, peer: entry.exchange.peer, direction, reason, retryAfterMs });
    entry.exchange.refuse(reason, retryAfterMs);
  }

  tellHave(link: LinkId, pieces: readonly number[]): void {
    this.#links.get(link)?.exchange.have(pieces);
  }

  refusePiece(link: LinkId, piece: number, reason: RefusalReason): void {
    const entry = this.#links.get(link);
    if (entry === undefined) return;
    const { events } = this.#deps;
    if (events.active) {
      const { digest, exchange } = entry;
      events.emit({ type: 'piece-rejected', digest, peer: exchange.peer, direction, piece, reason: rejectionOf(reason) });
    }
    entry.exchange.pieceRefused(piece, reason);
  }

  close(link: LinkId, reason: CloseReason | 'shutdown'): void {
    const entry = this.#forget(link);
    if (entry === undefined) return;
    this.#tellDown(entry, reason);
    entry.exchange.close();
  }

  /** Reads the piece and sends it; the engine hears how it ended: when the transport has it, or with `untilArrived` the receiver. */
  serve(link: LinkId, piece: number, untilArrived: boolean): void {
    const entry = this.#links.get(link);
    if (entry === undefined) return;
    this.#deps.background.run(this.#serve(link, entry, { piece, untilArrived }));
  }

  /** Resolves when no link is left. */
  async idle(): Promise<void> {
    while (this.#links.size > 0) await new Promise<void>((resolve) => this.#idleWaiters.push(resolve));
  }

  closeAll(): void {
    for (const link of [...this.#links.keys()]) this.close(link, 'shutdown');
  }

  async #serve(link: LinkId, entry: Link, { piece, untilArrived }: Service): Promise<void> {
    const { engine, shelf, logger, events } = this.#deps;
    const metainfo = shelf.metainfo(entry.digest);
    if (metainfo === undefined) return engine.post({ type: 'piece-unreadable', link, piece });
    const sizeBytes = pieceSize(metainfo, piece);
    await this.#budget.take(sizeBytes);
    const release = once(() => this.#budget.release(sizeBytes));
    try {
      if (!this.#links.has(link)) return;
      const frame = pieceFrame(sizeBytes, this.#frames);
      try {
        const shared = await shelf.acquire(entry.digest);
        try {
          await shared.blob.readInto(frame.body, piece * metainfo.pieceLengthBytes);
        } finally {
          await shared.release();
        }
      } catch (error) {
        logger.warn('a piece cannot be read', { digest: entry.digest, piece, error: toAppError(error) });
        return engine.post({ type: 'piece-unreadable', link, piece });
      }
      if (!this.#links.has(link)) return;
      if (!(await this.#send(link, entry, { piece, untilArrived, frame, taken: release }))) return;
      this.#deps.metrics.sentBytes.add(sizeBytes, { role: entry.role });
      this.#deps.metrics.sentPieces.add(1, { role: entry.role });
      if (events.active) {
        events.emit({ type: 'piece-sent', digest: entry.digest, peer: entry.exchange.peer, direction, piece, sizeBytes });
      }
      engine.post({ type: 'piece-sent', link, piece, sizeBytes });
    } finally {
      release();
    }
  }

  /** True when the piece has left as far as was asked for; otherwise the link is closed. `taken` is called when its bytes are with the transport. */
  async #send(link: LinkId, { exchange }: Link, { piece, untilArrived, frame, taken }: Service & Sending): Promise<boolean> {
    const cancelTimeout = this.#deps.clock.after(this.#options.sendTimeoutMs, () => this.#fail(link, 'the receiver takes no bytes'));
    try {
      if (untilArrived) await exchange.pieceAcknowledged(piece, frame, taken);
      else await exchange.piece(piece, frame);
      return true;
    } catch (error) {
      this.#fail(link, toAppError(error).message);
      return false;
    } finally {
      cancelTimeout();
    }
  }

  #fail(link: LinkId, why: string): void {
    const entry = this.#forget(link);
    if (entry === undefined) return;
    this.#deps.logger.debug('a link was ended while serving', { digest: entry.digest, peer: entry.exchange.peer, why });
    this.#tellDown(entry, why);
    entry.exchange.close();
    this.#deps.engine.post({ type: 'link-closed', link, failed: true });
  }

  #tellDown({ digest, exchange }: Link, reason: string): void {
    const { events } = this.#deps;
    if (events.active) events.emit({ type: 'link-down', digest, peer: exchange.peer, direction, reason, wasUp: true });
  }

  #forget(link: LinkId): Link | undefined {
    const entry = this.#links.get(link);
    if (entry === undefined) return undefined;
    assert(this.#links.delete(link), 'a known link is removed');
    this.#deps.shelf.linkClosed(entry.digest);
    if (this.#links.size === 0) for (const wake of this.#idleWaiters.splice(0)) wake();
    return entry;
  }
}

/** Does it the first time. */
function once(action: () => void): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    action();
  };
}
