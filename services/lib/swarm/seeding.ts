/** The serving half of the engine: who may download here, and what is sent to them when. */
import { assert, type PeerId } from '#core';
import type { SwarmContext } from './context.ts';
import { Herald } from './herald.ts';
import { InboundLink } from './inbound-link.ts';
import type { Transfer } from './transfer.ts';
import type { CloseReason, LinkId, LinkSnapshot, RefusalReason } from './types.ts';
import { UploadScheduler } from './upload-scheduler.ts';

interface Seat {
  readonly link: InboundLink;
  readonly transfer: Transfer;
}

export class Seeding {
  readonly #context: SwarmContext;
  readonly #seats = new Map<LinkId, Seat>();
  readonly #uploads: UploadScheduler;
  readonly #herald: Herald;

  constructor(context: SwarmContext) {
    this.#context = context;
    this.#uploads = new UploadScheduler(context.options, context.rng);
    this.#herald = new Herald({
      rng: context.rng,
      uploads: this.#uploads,
      tell: (link, pieces) => context.emit({ type: 'tell-have', link: link.id, pieces }),
    });
  }

  get linkCount(): number {
    return this.#seats.size;
  }

  get deadlineMs(): number | undefined {
    const earliestMs = Math.min(this.#uploads.deadlineMs ?? Number.POSITIVE_INFINITY, this.#herald.deadlineMs ?? Number.POSITIVE_INFINITY);
    return Number.isFinite(earliestMs) ? earliestMs : undefined;
  }

  applyOptions(): void {
    this.#uploads.setOptions(this.#context.options);
  }

  /** Somebody wants to download here. */
  requested(id: LinkId, transfer: Transfer | undefined, peer: PeerId, nowMs: number): void {
    assert(!this.#seats.has(id), 'a link is requested once');
    if (this.#context.draining) {
      this.#refuse(id, 'draining', 0);
      return;
    }
    if (transfer === undefined) {
      this.#refuse(id, 'unknown-blob', 0);
      return;
    }
    const before = transfer.inboundFrom(peer);
    // The peer dialled anew: the old stream is dead, even if nobody noticed yet.
    if (before !== undefined) this.close(before.id, 'exchanged');
    if (!this.#makeRoom(transfer, nowMs)) {
      this.#refuse(id, 'busy', this.#retryAfterMs());
      return;
    }
    const link = new InboundLink(id, peer, transfer.news, nowMs);
    this.#seats.set(id, { link, transfer });
    transfer.inbound.push(link);
    this.#uploads.add(link, transfer);
    this.#context.emit({ type: 'accept', link: id, digest: transfer.digest, have: transfer.have });
  }

  piecesRequested(id: LinkId, pieces: readonly number[], nowMs: number): void {
    const seat = this.#seats.get(id);
    if (seat === undefined) return;
    const { link, transfer } = seat;
    for (const piece of pieces) {
      const reason = this.#take(link, transfer, piece, nowMs);
      if (reason !== undefined) this.#context.emit({ type: 'refuse-piece', link: id, piece, reason });
    }
    this.serve(nowMs);
  }

  piecesCancelled(id: LinkId, pieces: readonly number[]): void {
    const seat = this.#seats.get(id);
    if (seat === undefined) return;
    for (const piece of pieces) if (seat.link.cancel(piece)) this.#uploads.withdrawn(seat.transfer.digest, piece);
  }

  /** A piece left, or (with `sizeBytes` undefined) could not be read. */
  finished(id: LinkId, piece: number, sizeBytes: number | undefined, nowMs: number): void {
    const seat = this.#seats.get(id);
    const serviceMs = seat?.link.finish(piece, nowMs);
    if (seat === undefined || serviceMs === undefined) return;
    this.#uploads.finished(seat.link, piece, serviceMs);
    if (sizeBytes === undefined) {
      this.#context.emit({ type: 'refuse-piece', link: id, piece, reason: 'not-have' });
    } else {
      seat.link.servedBytes += sizeBytes;
      seat.transfer.servedBytes += sizeBytes;
    }
    if (seat.link.state === 'draining' && seat.link.inServiceCount === 0) this.close(id, 'draining');
    this.serve(nowMs);
  }

  /** Links of the transfer have something to hear. */
  tell(transfer: Transfer, nowMs: number): void {
    this.#herald.add(transfer, nowMs);
    this.#herald.tell(this.#context.options, nowMs);
  }

  /** Tells whom there is room for, and starts as many services as slots and the egress rate allow. */
  serve(nowMs: number): void {
    this.#herald.tell(this.#context.options, nowMs);
    for (;;) {
      const next = this.#uploads.next(nowMs);
      if (next !== undefined) {
        const { link, digest, piece, untilArrived } = next;
        this.#context.emit({ type: 'serve-piece', link: link.id, digest, piece, untilArrived });
        continue;
      }
      const frozen = this.#uploads.frozen(nowMs);
      if (frozen === undefined) return;
      this.close(frozen.id, 'slow');
    }
  }

  /** Forgets a link that ended from outside; false when it is not one of these. */
  linkClosed(id: LinkId, nowMs: number): boolean {
    const known = this.#remove(id);
    if (known) this.serve(nowMs);
    return known;
  }

  close(id: LinkId, reason: CloseReason): void {
    if (this.#remove(id)) this.#context.emit({ type: 'close', link: id, reason });
  }

  /** Nothing more is taken on; a piece that is being sent goes out before its link closes. */
  drain(): void {
    for (const [id, { link, transfer }] of Array.from(this.#seats)) {
      const refused = link.drain();
      for (const piece of refused) {
        this.#uploads.withdrawn(transfer.digest, piece);
        this.#context.emit({ type: 'refuse-piece', link: id, piece, reason: 'draining' });
      }
      if (link.inServiceCount === 0) this.close(id, 'draining');
    }
  }

  snapshots(nowMs: number): LinkSnapshot[] {
    return Array.from(this.#seats.values(), ({ link, transfer }) => ({
      link: link.id,
      digest: transfer.digest,
      peer: link.peer,
      direction: 'inbound' as const,
      state: 'open' as const,
      inFlightCount: link.queuedCount + link.inServiceCount,
      rateBytesPerSec: Math.round((link.servedBytes * 1000) / Math.max(1, nowMs - link.openedMs)),
      openedMs: link.openedMs,
    }));
  }

  #take(link: InboundLink, transfer: Transfer, piece: number, nowMs: number): RefusalReason | undefined {
    if (link.state !== 'open') return 'draining';
    if (!transfer.have.has(piece)) return 'not-have';
    // A seed gives every piece away once before it gives one twice: until then no swarm can finish.
    if (transfer.isSeed && this.#uploads.isSpent(transfer.digest, piece) && link.steer(piece)) return 'busy';
    if (this.#uploads.isCrowded(link, transfer.digest, nowMs)) {
      link.crowdedCount += 1;
      return 'crowded';
    }
    link.crowdedCount = 0;
    const outcome = link.enqueue(piece, this.#context.options.requestQueuePerLink, nowMs);
    if (outcome === 'queued') this.#uploads.queued(transfer.digest, piece);
    return outcome === 'full' ? 'busy' : undefined;
  }

  /** A slot for the blob and one of the process, if need be that of a link which has asked for nothing for a while. */
  #makeRoom(transfer: Transfer, nowMs: number): boolean {
    const { inboundLinksPerBlob, inboundLinks } = this.#context.options;
    if (transfer.inbound.length >= inboundLinksPerBlob && !this.#evictIdle(transfer, nowMs)) return false;
    return this.#seats.size < inboundLinks || this.#evictIdle(undefined, nowMs);
  }

  #evictIdle(crowded: Transfer | undefined, nowMs: number): boolean {
    let idlest: InboundLink | undefined;
    for (const link of crowded === undefined ? Array.from(this.#seats.values(), (seat) => seat.link) : crowded.inbound) {
      if (!link.isIdle(nowMs, this.#context.options.inboundIdleMs)) continue;
      if (idlest === undefined || link.activeMs < idlest.activeMs) idlest = link;
    }
    if (idlest === undefined) return false;
    this.close(idlest.id, 'idle');
    return true;
  }

  /** Spread, so that those refused together do not return together. */
  #retryAfterMs(): number {
    const { busyRetryMs } = this.#context.options;
    return Math.ceil(busyRetryMs / 2) + this.#context.rng.below(busyRetryMs);
  }

  #refuse(id: LinkId, reason: RefusalReason, retryAfterMs: number): void {
    this.#context.emit({ type: 'refuse', link: id, reason, retryAfterMs });
  }

  #remove(id: LinkId): boolean {
    const seat = this.#seats.get(id);
    if (seat === undefined) return false;
    const { link, transfer } = seat;
    this.#seats.delete(id);
    transfer.inbound.splice(transfer.inbound.indexOf(link), 1);
    const queued = link.queue.slice();
    link.close();
    this.#uploads.remove(link, transfer.digest, queued);
    return true;
  }
}
