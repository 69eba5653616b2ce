/** One blob of this process: wanted -> complete, with the links that are served from it. */
import { assert, type Bitfield, type Digest, type Metainfo, type PeerId, pieceSize } from '#core';
import type { SwarmContext } from './context.ts';
import { Download } from './download.ts';
import type { InboundLink } from './inbound-link.ts';
import { News } from './news.ts';
import { type SeedShare, seedShareOf } from './seed-share.ts';
import { type CloseReason, isOrigin, type PeerOffer, type SourceCount, type TransferSnapshot } from './types.ts';

/** A blob, and the origins that own it. */
export interface Wanted {
  readonly metainfo: Metainfo;
  readonly owners?: readonly PeerOffer[];
}

export class Transfer {
  readonly metainfo: Metainfo;
  readonly have: Bitfield;
  readonly inbound: InboundLink[] = [];
  readonly news: News;
  readonly startedMs: number;
  readonly share: SeedShare | undefined;
  completedMs: number | undefined;
  servedBytes = 0;
  #download: Download | undefined;
  #sources: readonly SourceCount[] = [];
  readonly #context: SwarmContext;

  /** `have` is taken over; a full set makes a seed. */
  constructor({ metainfo, owners = [] }: Wanted, have: Bitfield, context: SwarmContext, nowMs: number) {
    assert(have.length === metainfo.pieceCount, 'what is there fits the metainfo');
    this.metainfo = metainfo;
    this.have = have;
    this.news = new News(have.length - have.count);
    this.startedMs = nowMs;
    this.share = seedShareOf(context.self, owners);
    this.#context = context;
    if (have.isFull) this.completedMs = nowMs;
    else this.#download = new Download(metainfo, have, context, nowMs);
  }

  get digest(): Digest {
    return this.metainfo.digest;
  }

  /** The wanted part; undefined once complete. */
  get download(): Download | undefined {
    return this.#download;
  }

  /** It was complete from the start; an origin may have got it a moment ago, by the push that the swarm follows. */
  get isSeed(): boolean {
    return this.completedMs === this.startedMs || (this.completedMs !== undefined && isOrigin(this.#context.self));
  }

  sizeOf(piece: number): number {
    return pieceSize(this.metainfo, piece);
  }

  inboundFrom(peer: PeerId): InboundLink | undefined {
    return this.inbound.find((link) => link.peer === peer);
  }

  /** What the peer of an inbound link is known to have, from downloading there. */
  knownOf(link: InboundLink): Bitfield | undefined {
    const download = this.#download;
    if (download === undefined) return undefined;
    if (link.twinVersion !== download.linksVersion) {
      link.twin = download.linkTo(link.peer);
      link.twinVersion = download.linksVersion;
    }
    return link.twin?.source.have;
  }

  /** A piece is on disk: those who download from here are to hear of it. */
  verified(piece: number, nowMs: number): void {
    const download = this.#download;
    if (download?.isWriting(piece) !== true) return;
    download.verified(piece);
    this.have.add(piece);
    this.news.add(piece, nowMs);
    if (this.have.isFull) this.#complete(nowMs);
  }

  /** wanted -> complete, because the whole blob turned up on disk. */
  seeded(nowMs: number): void {
    if (this.#download === undefined) return;
    const missing: number[] = [];
    for (let piece = this.have.nextMissing(); piece < this.have.length; piece = this.have.nextMissing(piece + 1)) missing.push(piece);
    for (const piece of missing) {
      this.have.add(piece);
      this.news.add(piece, nowMs);
    }
    this.#complete(nowMs);
  }

  /** Ends the wanted part and its links. */
  end(reason: CloseReason, nowMs: number): void {
    this.#sources = this.#download?.sources.snapshot() ?? this.#sources;
    this.#download?.end(reason, nowMs);
    this.#download = undefined;
  }

  snapshot(): TransferSnapshot {
    return {
      digest: this.digest,
      sizeBytes: this.metainfo.sizeBytes,
      pieceCount: this.metainfo.pieceCount,
      verifiedCount: this.have.count,
      complete: this.have.isFull,
      startedMs: this.startedMs,
      completedMs: this.completedMs,
      sources: this.#download?.sources.snapshot() ?? this.#sources,
      outboundLinkCount: this.#download?.links.length ?? 0,
      inboundLinkCount: this.inbound.length,
      servedBytes: this.servedBytes,
    };
  }

  #complete(nowMs: number): void {
    this.completedMs = nowMs;
    this.end('complete', nowMs);
    this.#context.emit({ type: 'announce', digest: this.digest, complete: true, peersWanted: 0 });
    this.#context.emit({ type: 'complete', digest: this.digest });
  }
}
