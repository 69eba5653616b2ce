/**
 * One blob on its way here, shared by everybody who asks for it: finding -> running -> committing -> complete, or -> failed from
 * anywhere. It verifies and writes pieces, hands them to readers, and gives up when nobody can or wants to go on.
 */

import type { PeerDirectory } from '#cluster';
import {
  AppError,
  assert,
  type Clock,
  type Digest,
  identityOf,
  isAppError,
  type Logger,
  type Metainfo,
  type PeerId,
  toAppError,
  verifyPiece,
} from '#core';
import type { BlobStore, PartialBlob } from '#storage';
import type { LinkId, PeerOffer, ReaderId } from '#swarm';
import type { ExchangeRefusal } from '#wire';
import type { Engine } from './engine.ts';
import type { PeerMetrics } from './metrics.ts';
import type { NetworkEvents } from './network-events.ts';
import type { ResolvedPeerOptions } from './options.ts';
import type { LinkObserver, OutboundLinks } from './outbound-links.ts';
import { PieceWaiters, SharedPiece } from './piece-waiters.ts';
import { SharedBlob } from './shared-blob.ts';
import type { Shelf } from './shelf.ts';
import { SourceSearch } from './source-search.ts';
import { type Background, Deferred } from './waiting.ts';

export interface DownloadDeps {
  readonly engine: Engine;
  readonly outbound: OutboundLinks;
  readonly shelf: Shelf;
  readonly store: BlobStore;
  readonly directory: PeerDirectory;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: PeerMetrics;
  readonly background: Background;
  readonly events: NetworkEvents;
  /** Called once, when it is complete, failed or abandoned, before its waiters hear of it. */
  readonly ended: (download: Download, outcome: DownloadOutcome) => void;
}

/** What a download is begun with. */
export interface DownloadStart {
  readonly digest: Digest;
  /** Absent: looked up. */
  readonly metainfo?: Metainfo | undefined;
  readonly sources?: readonly PeerOffer[];
  readonly fsync: boolean;
  /** After wrong metainfo: take bytes from owners only. */
  readonly ownersOnly?: boolean;
}

export type DownloadOutcome = { readonly type: 'complete' | 'abandoned' } | { readonly type: 'failed'; readonly error: AppError };

/** The disk may refuse so many pieces in a row. */
const unwritableCountMax = 4;

export class Download implements LinkObserver {
  readonly digest: Digest;
  readonly startedMs: number;
  readonly ownersOnly: boolean;
  /** Settled when the bytes can be read, i.e. `blob` is there, or the blob turned out to be complete in the store. */
  readonly ready = new Deferred<void>();
  readonly done = new Deferred<void>();
  #state: 'finding' | 'running' | 'committing' | 'complete' | 'failed' = 'finding';
  #error: AppError | undefined;
  #blob: SharedBlob<PartialBlob> | undefined;
  #fsync: boolean;
  #unwritableCount = 0;
  readonly #deps: DownloadDeps;
  readonly #waiters = new PieceWaiters();
  readonly #abort = new AbortController();
  readonly #search: SourceSearch;

  constructor(start: DownloadStart, options: ResolvedPeerOptions, deps: DownloadDeps) {
    this.digest = start.digest;
    this.ownersOnly = start.ownersOnly === true;
    this.#fsync = start.fsync || options.fsync;
    this.#deps = deps;
    this.startedMs = deps.clock.nowMs();
    this.#search = new SourceSearch(this.digest, options, {
      ...deps,
      signal: this.#abort.signal,
      offer: (peers) => this.offer(peers),
      giveUp: (error) => this.fail(error),
    });
    deps.background.run(this.#begin(start));
  }

  get state(): 'finding' | 'running' | 'committing' | 'complete' | 'failed' {
    return this.#state;
  }

  get metainfo(): Metainfo | undefined {
    return this.#blob?.metainfo;
  }

  /** The partial blob; undefined while finding, and when the blob was complete in the store. */
  get blob(): SharedBlob<PartialBlob> | undefined {
    return this.#blob;
  }

  /** Throws what the download failed with, if it did. */
  throwIfFailed(): void {
    if (this.#error !== undefined) throw this.#error;
  }

  /** Syncs the blob to disk when it is complete, whatever it was begun with. */
  requireSync(): void {
    this.#fsync = true;
  }

  /** Makes a complete blob durable for one who joined too late to say so before. */
  async sync(blob: SharedBlob<PartialBlob>): Promise<void> {
    await blob.blob.commit({ fsync: true });
  }

  offer(peers: readonly PeerOffer[]): void {
    if (this.#state !== 'running') {
      this.#search.remember(peers);
      return;
    }
    const allowed = this.ownersOnly ? this.#deps.directory.owners(this.digest) : peers;
    this.#deps.engine.post({ type: 'peers-offered', digest: this.digest, peers: allowed });
  }

  /** The engine noticed a stall. */
  stalled(): void {
    this.#search.now();
  }

  /** True when the piece can be read from the blob. */
  hasPiece(piece: number): boolean {
    return this.#blob?.blob.have.has(piece) === true;
  }

  /** Waits for one piece: verified, when it happens to be in memory, and the caller is a user of it; or undefined when it is to be read from the blob. */
  async piece(piece: number, signal: AbortSignal): Promise<SharedPiece | undefined> {
    this.throwIfFailed();
    if (this.#state === 'complete' || this.hasPiece(piece)) return undefined;
    return await this.#waiters.wait(piece, signal);
  }

  /** What a reader waits for goes first. */
  readerMoved(reader: ReaderId, firstPiece: number, endPiece: number): void {
    this.#deps.engine.post({ type: 'reader-moved', digest: this.digest, reader, firstPiece, endPiece });
  }

  readerClosed(reader: ReaderId): void {
    this.#deps.engine.post({ type: 'reader-closed', digest: this.digest, reader });
  }

  linkOpened(): void {
    this.#search.linkOpened();
  }

  linkRefused(peer: PeerId, reason: ExchangeRefusal): void {
    this.#search.linkRefused(peer, reason);
  }

  linkEnded(peer: PeerId, opened: boolean, error: Error | undefined): void {
    this.#search.linkEnded(peer, opened, error);
  }

  /** Carries out `write-piece`: verifies, hands to readers, writes, and tells the engine. */
  write(link: LinkId, piece: number): void {
    const { engine, outbound, metrics, logger, events } = this.#deps;
    const { digest } = this;
    const blob = this.#blob;
    const received = outbound.take(link, piece);
    if (blob === undefined || received === undefined || this.#state !== 'running') {
      engine.post({ type: 'piece-unwritable', digest, piece });
      return;
    }
    const { peer, bytes } = received;
    const { role } = identityOf(peer);
    if (!verifyPiece(blob.metainfo, piece, bytes)) {
      metrics.corruptPieces.add(1, { role });
      logger.warn('a source sent a corrupt piece', { digest, peer, piece });
      if (events.active) events.emit({ type: 'piece-rejected', digest, peer, direction: 'outbound', piece, reason: 'corrupt' });
      engine.post({ type: 'piece-corrupt', digest, piece, peer });
      return;
    }
    metrics.receivedPieces.add(1, { role });
    metrics.receivedBytes.add(bytes.byteLength, { role });
    if (events.active) events.emit({ type: 'piece-received', digest, peer, direction: 'outbound', piece, sizeBytes: bytes.byteLength });
    const shared = new SharedPiece(bytes);
    this.#waiters.arrived(piece, shared);
    this.#deps.background.run(this.#write(blob, piece, shared));
  }

  /** Carries out `complete`: every piece is on disk. */
  completed(): void {
    if (this.#state === 'running' && this.#blob !== undefined) this.#deps.background.run(this.#commit(this.#blob));
  }

  /** The blob turned up complete in the store by another way. */
  foundInStore(): void {
    if (this.#state === 'finding' || this.#state === 'running') this.#end('complete', { type: 'complete' });
  }

  /** Nobody wants it any more: it ends unless it is as good as complete. Its pieces stay on disk. */
  abandon(): void {
    if (this.#state !== 'committing') this.stop();
  }

  /** The process ends. */
  stop(): void {
    if (this.#isOver()) return;
    this.#error = new AppError('cancelled', 'nobody waits for the blob any more', { data: { digest: this.digest } });
    this.#end('failed', { type: 'abandoned' });
  }

  fail(error: AppError): void {
    if (this.#isOver()) return;
    this.#error = error;
    this.#end('failed', { type: 'failed', error });
  }

  async #begin(start: DownloadStart): Promise<void> {
    try {
      const metainfo = start.metainfo ?? (await this.#search.findMetainfo());
      if (this.#isOver()) return;
      const partial = await this.#deps.store.openPartial(metainfo);
      if (partial === undefined) return this.foundInStore();
      const blob = new SharedBlob(partial, this.#deps.logger);
      if (this.#isOver()) return void (await blob.release());
      this.#blob = blob;
      this.#state = 'running';
      this.ready.resolve();
      this.#tellStarted(metainfo, partial.have.count);
      if (partial.have.isFull) return this.completed();
      this.#deps.shelf.host(blob);
      const owners = this.#deps.directory.owners(metainfo.digest);
      this.#deps.engine.post({ type: 'blob-wanted', metainfo, have: partial.have, owners });
      this.offer([...(start.sources ?? []), ...this.#search.remembered()]);
      this.#search.watch();
    } catch (error) {
      this.fail(toAppError(error));
    }
  }

  #tellStarted({ digest, sizeBytes, pieceCount }: Metainfo, presentCount: number): void {
    const { events } = this.#deps;
    if (events.active) events.emit({ type: 'download-started', digest, sizeBytes, pieceCount, presentCount });
  }

  async #write(blob: SharedBlob<PartialBlob>, piece: number, shared: SharedPiece): Promise<void> {
    const { engine, outbound, logger } = this.#deps;
    const sizeBytes = shared.bytes.byteLength;
    outbound.hold(sizeBytes);
    blob.retain();
    try {
      await blob.blob.writePiece(piece, shared.bytes);
      this.#unwritableCount = 0;
      this.#search.progress();
      this.#waiters.arrived(piece, shared);
      // The engine knows this piece only while this very download runs.
      if (this.#state === 'running') engine.post({ type: 'piece-verified', digest: this.digest, piece });
    } catch (error) {
      const failure = toAppError(error);
      this.#unwritableCount += 1;
      logger.warn('a piece could not be written', { digest: this.digest, piece, error: failure });
      if (this.#unwritableCount >= unwritableCountMax || isAppError(failure, 'not-found', 'aborted')) this.fail(failure);
      else if (this.#state === 'running') engine.post({ type: 'piece-unwritable', digest: this.digest, piece });
    } finally {
      shared.release();
      outbound.release(sizeBytes);
      await blob.release();
    }
  }

  async #commit(blob: SharedBlob<PartialBlob>): Promise<void> {
    this.#state = 'committing';
    blob.retain();
    try {
      const fsync = this.#fsync;
      await blob.blob.commit({ fsync });
      if (this.#fsync && !fsync) await blob.blob.commit({ fsync: true });
      if (!this.#isOver()) this.#end('complete', { type: 'complete' });
    } catch (error) {
      this.fail(commitError(toAppError(error), this.digest));
    } finally {
      await blob.release();
    }
  }

  #isOver(): boolean {
    return this.#state === 'complete' || this.#state === 'failed';
  }

  /** Any state -> complete | failed, once. */
  #end(state: 'complete' | 'failed', outcome: DownloadOutcome): void {
    assert(!this.#isOver(), 'a download ends once');
    this.#state = state;
    this.#abort.abort();
    this.#search.stop();
    this.#deps.ended(this, outcome);
    if (this.#error === undefined) {
      this.#waiters.allOnDisk();
      this.ready.resolve();
      this.done.resolve();
    } else {
      this.#waiters.fail(this.#error);
      this.ready.reject(this.#error);
      this.done.reject(this.#error);
    }
    if (this.#blob !== undefined) this.#deps.background.run(this.#blob.release());
  }
}

/** Wrong bytes in the end mean wrong metainfo, as every piece was verified against it. */
function commitError(error: AppError, digest: Digest): AppError {
  if (error.code !== 'digest-mismatch') return error;
  return new AppError('data-loss', 'the pieces do not make up the blob: its metainfo is wrong; check the tracker and the origins', {
    cause: error,
    data: { digest },
  });
}
