/**
 * The engine: one instance a process, for all of its blobs. It takes one event at a time and answers with effects; it has no
 * socket, file, timer, clock or randomness of its own. The host's side of the contract stands in types.ts.
 */
import { assert, assertNever, Bitfield, type Digest, type PeerId, type Rng } from '#core';
import type { SwarmContext } from './context.ts';
import type { Download } from './download.ts';
import { Intake } from './intake.ts';
import type { SwarmOptions } from './options.ts';
import type { OutboundLink } from './outbound-link.ts';
import { PenaltyBook } from './penalty.ts';
import { isMuchSmaller } from './places.ts';
import { Seeding } from './seeding.ts';
import { Transfer, type Wanted } from './transfer.ts';
import type { Effect, LinkId, LinkSnapshot, PenaltySnapshot, SwarmEvent, TransferSnapshot } from './types.ts';
import { readAgain, upkeep } from './upkeep.ts';

/** What the engine is given. */
export interface SwarmDeps {
  readonly self: PeerId;
  readonly rng: Rng;
}

/** A link on which this process downloads, and what it downloads. */
interface Outbound {
  readonly link: OutboundLink;
  readonly download: Download;
}

export class Swarm {
  readonly #context: SwarmContext;
  readonly #seeding: Seeding;
  readonly #transfers = new Map<Digest, Transfer>();
  readonly #wanted = new Set<Transfer>();
  readonly #outbound = new Map<LinkId, Outbound>();
  #effects: Effect[] = [];
  readonly #asked: OutboundLink[] = [];
  #lastLink = 0;
  #nowMs = 0;

  constructor(options: SwarmOptions, deps: SwarmDeps) {
    const wanted = this.#wanted;
    this.#context = {
      options,
      draining: false,
      readingPaused: false,
      get downloadCount() {
        return wanted.size;
      },
      isPressed: (sizeBytes, nowMs) => {
        for (const { metainfo, download } of wanted) {
          if (download === undefined || !isMuchSmaller(metainfo.sizeBytes, sizeBytes)) continue;
          if (download.pressure.isOn(nowMs - download.progressMs)) return true;
        }
        return false;
      },
      self: deps.self,
      rng: deps.rng,
      penalties: new PenaltyBook(),
      intake: new Intake(options),
      emit: (effect) => this.#effects.push(effect),
      newLink: () => this.newLink(),
      opened: (link, digest) => {
        const download = this.#transfers.get(digest)?.download;
        assert(download !== undefined, 'only a running download opens links');
        this.#outbound.set(link.id, { link, download });
      },
      forgetLink: (link) => this.#outbound.delete(link),
      markAsked: (link) => {
        if (!this.#asked.includes(link)) this.#asked.push(link);
      },
    };
    this.#seeding = new Seeding(this.#context);
  }

  /** A fresh id for a link that a peer opens; the engine takes its own ids from the same row. */
  newLink(): LinkId {
    this.#lastLink += 1;
    return this.#lastLink;
  }

  /** Applies one event. The returned array is valid until the next call. `nowMs` never goes back. */
  apply(event: SwarmEvent, nowMs: number): readonly Effect[] {
    if (this.#effects.length > 0) this.#effects = [];
    this.#nowMs = nowMs;
    this.#dispatch(event, nowMs);
    this.#context.intake.serve(nowMs);
    this.#flushRequests();
    return this.#effects;
  }

  /** When `tick` is due; undefined while nothing waits for time, as with idle seeds. It may lie in the past. */
  nextDeadlineMs(): number | undefined {
    let deadlineMs = this.#context.intake.deadlineMs ?? Number.POSITIVE_INFINITY;
    deadlineMs = Math.min(deadlineMs, this.#seeding.deadlineMs ?? Number.POSITIVE_INFINITY);
    if (!this.#context.draining)
      for (const transfer of this.#wanted) deadlineMs = Math.min(deadlineMs, transfer.download?.checkMs ?? deadlineMs);
    return Number.isFinite(deadlineMs) ? deadlineMs : undefined;
  }

  /** Replaces the limits while transfers run. Links beyond a lowered limit end on their own. */
  setOptions(options: SwarmOptions): void {
    this.#context.options = options;
    this.#context.intake.setOptions(options);
    this.#seeding.applyOptions();
  }

  /** True after `drain` once no link is left: the process may end without cutting a piece short. */
  get isDrained(): boolean {
    return this.#context.draining && this.#outbound.size === 0 && this.#seeding.linkCount === 0;
  }

  /** Every blob this process wants or seeds. */
  transfers(): TransferSnapshot[] {
    return Array.from(this.#transfers.values(), (transfer) => transfer.snapshot());
  }

  /** Every link, as of the last event. */
  links(): LinkSnapshot[] {
    const snapshots: LinkSnapshot[] = [];
    for (const transfer of this.#wanted) {
      for (const link of transfer.download?.links ?? []) {
        snapshots.push({
          link: link.id,
          digest: transfer.digest,
          peer: link.peer,
          direction: 'outbound',
          state: link.state === 'dialing' ? 'dialing' : 'open',
          inFlightCount: link.requests.length,
          rateBytesPerSec: Math.round(link.pace.rateBytesPerSec),
          openedMs: link.state === 'dialing' ? link.dialledMs : link.openedMs,
        });
      }
    }
    return snapshots.concat(this.#seeding.snapshots(this.#nowMs));
  }

  /** Peers left alone, as of the last event. */
  penalties(): PenaltySnapshot[] {
    return this.#context.penalties.snapshot(this.#nowMs);
  }

  #dispatch(event: SwarmEvent, nowMs: number): void {
    switch (event.type) {
      case 'blob-wanted':
        this.#want(event, event.have.clone(), nowMs);
        return;
      case 'blob-seeded':
        this.#seed(event, nowMs);
        return;
      case 'blob-forgotten':
        this.#forget(event.digest, nowMs);
        return;
      case 'link-requested':
        this.#seeding.requested(event.link, this.#transfers.get(event.digest), event.peer, nowMs);
        return;
      case 'pieces-requested':
        this.#seeding.piecesRequested(event.link, event.pieces, nowMs);
        return;
      case 'pieces-cancelled':
        this.#seeding.piecesCancelled(event.link, event.pieces);
        return;
      case 'piece-sent':
        this.#seeding.finished(event.link, event.piece, event.sizeBytes, nowMs);
        return;
      case 'piece-unreadable':
        this.#seeding.finished(event.link, event.piece, undefined, nowMs);
        return;
      case 'link-accepted':
      case 'link-refused':
      case 'peer-has':
      case 'piece-received':
      case 'piece-refused':
      case 'link-closed':
        this.#onLink(event, nowMs);
        return;
      case 'peers-offered':
      case 'reader-moved':
      case 'reader-closed':
      case 'piece-verified':
      case 'piece-corrupt':
      case 'piece-unwritable':
        this.#onDownload(event, nowMs);
        return;
      case 'reading-paused':
        this.#context.readingPaused = event.paused;
        if (!event.paused) for (const { download } of this.#wanted) if (download !== undefined) readAgain(download, nowMs);
        return;
      case 'drain':
        this.#drain(nowMs);
        return;
      case 'tick':
        this.#tick(nowMs);
        return;
      default:
        assertNever(event);
        return;
    }
  }

  #onLink(event: Extract<SwarmEvent, { type: OutboundEventType }>, nowMs: number): void {
    const outbound = this.#outbound.get(event.link);
    if (outbound === undefined) {
      if (event.type === 'link-closed') this.#seeding.linkClosed(event.link, nowMs);
      return;
    }
    const { link, download } = outbound;
    switch (event.type) {
      case 'link-accepted':
        download.accepted(link, event.have, nowMs);
        return;
      case 'link-refused':
        download.refused(link, event.reason, event.retryAfterMs, nowMs);
        return;
      case 'peer-has':
        download.peerHas(link, event.pieces, nowMs);
        return;
      case 'piece-received':
        download.received(link, event.piece, event.sizeBytes, nowMs);
        this.#closeDrained(download, nowMs);
        return;
      case 'piece-refused':
        download.pieceRefused(link, event.piece, event.reason, nowMs);
        this.#closeDrained(download, nowMs);
        return;
      case 'link-closed':
        download.linkClosed(link, event.failed, nowMs);
        return;
      default:
        assertNever(event);
        return;
    }
  }

  #onDownload(event: Extract<SwarmEvent, { type: DownloadEventType }>, nowMs: number): void {
    const transfer = this.#transfers.get(event.digest);
    const download = transfer?.download;
    if (transfer === undefined || download === undefined) return;
    switch (event.type) {
      case 'peers-offered':
        download.offer(event.peers, nowMs);
        return;
      case 'reader-moved':
        download.readerMoved(event.reader, event.firstPiece, event.endPiece, nowMs);
        return;
      case 'reader-closed':
        download.readers.delete(event.reader);
        return;
      case 'piece-verified':
        transfer.verified(event.piece, nowMs);
        this.#seeding.tell(transfer, nowMs);
        if (transfer.download === undefined) this.#wanted.delete(transfer);
        return;
      case 'piece-corrupt':
        if (download.isWriting(event.piece)) download.corrupt(event.piece, event.peer, nowMs);
        return;
      case 'piece-unwritable':
        if (download.isWriting(event.piece)) download.unwritable(event.piece, nowMs);
        return;
      default:
        assertNever(event);
        return;
    }
  }

  /** Wanting what is wanted already changes nothing; what is complete is reported complete again. */
  #want(wanted: Wanted, have: Bitfield, nowMs: number): void {
    const { metainfo } = wanted;
    const known = this.#transfers.get(metainfo.digest);
    if (known !== undefined) {
      if (known.download === undefined) this.#context.emit({ type: 'complete', digest: metainfo.digest });
      return;
    }
    const transfer = new Transfer(wanted, have, this.#context, nowMs);
    this.#transfers.set(metainfo.digest, transfer);
    if (transfer.download !== undefined) {
      this.#wanted.add(transfer);
      return;
    }
    this.#context.emit({ type: 'announce', digest: metainfo.digest, complete: true, peersWanted: 0 });
    this.#context.emit({ type: 'complete', digest: metainfo.digest });
  }

  #seed(seeded: Wanted, nowMs: number): void {
    const { metainfo } = seeded;
    const known = this.#transfers.get(metainfo.digest);
    if (known !== undefined) {
      known.seeded(nowMs);
      this.#seeding.tell(known, nowMs);
      this.#wanted.delete(known);
      return;
    }
    this.#transfers.set(metainfo.digest, new Transfer(seeded, Bitfield.full(metainfo.pieceCount), this.#context, nowMs));
    this.#context.emit({ type: 'announce', digest: metainfo.digest, complete: true, peersWanted: 0 });
  }

  #forget(digest: Digest, nowMs: number): void {
    const transfer = this.#transfers.get(digest);
    if (transfer === undefined) return;
    for (const link of transfer.inbound.slice()) this.#seeding.close(link.id, 'forgotten');
    transfer.end('forgotten', nowMs);
    this.#wanted.delete(transfer);
    this.#transfers.delete(digest);
    this.#seeding.serve(nowMs);
  }

  #drain(nowMs: number): void {
    this.#context.draining = true;
    this.#seeding.drain();
    for (const transfer of this.#wanted) if (transfer.download !== undefined) this.#closeDrained(transfer.download, nowMs);
  }

  /** While draining, a link that owes nothing closes. */
  #closeDrained(download: Download, nowMs: number): void {
    if (!this.#context.draining) return;
    for (const link of download.links.slice()) {
      if (link.requests.length === 0) download.close(link, 'draining', nowMs);
    }
  }

  #tick(nowMs: number): void {
    if (!this.#context.draining) {
      for (const { download } of this.#wanted)
        if (download !== undefined && download.checkMs <= nowMs) upkeep(download, this.#context, nowMs);
    }
    this.#seeding.serve(nowMs);
  }

  #flushRequests(): void {
    if (this.#asked.length === 0) return;
    for (const link of this.#asked) {
      if (link.unsent.length > 0) this.#effects.push({ type: 'request', link: link.id, pieces: link.unsent.splice(0) });
    }
    this.#asked.length = 0;
  }
}

type OutboundEventType = 'link-accepted' | 'link-refused' | 'peer-has' | 'piece-received' | 'piece-refused' | 'link-closed';
type DownloadEventType = 'peers-offered' | 'reader-moved' | 'reader-closed' | 'piece-verified' | 'piece-corrupt' | 'piece-unwritable';
