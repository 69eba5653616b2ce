/**
 * The host of the swarm engine in a real process: it carries the engine's effects out on links, files and the directory, and offers
 * blobs to the service around it.
 */
import { AppError, assertNever, type BlobReader, type Clock, type Digest, isTiny, type Logger, type Metainfo, peerIdOf } from '#core';
import { NetworkEventServiceService } from '#gen/shoal/peer/v1/network_event_service';
import { TransferServiceService } from '#gen/shoal/peer/v1/transfer_service';
import { type PeerOffer, type ReaderId, Swarm, type TransferSnapshot } from '#swarm';
import { digestFromProto, type WireServer } from '#wire';
import type { PeerNodeDeps } from './deps.ts';
import type { Download, DownloadOutcome, DownloadStart } from './download.ts';
import { Downloads } from './downloads.ts';
import { carryOut, type EffectParts } from './effects.ts';
import { Engine } from './engine.ts';
import { InboundLinks } from './inbound-links.ts';
import { Limits } from './limits.ts';
import { type PeerMetrics, peerMetrics, registerGauges } from './metrics.ts';
import { NetworkEventFile } from './network-event-file.ts';
import { networkEventHandlers } from './network-event-service.ts';
import { NetworkEvents } from './network-events.ts';
import { type PeerOptions, peerOptions, type ResolvedPeerOptions } from './options.ts';
import { OutboundLinks } from './outbound-links.ts';
import { BytesReader, DownloadReader, LargeReads, StoredReader } from './readers.ts';
import { Shelf } from './shelf.ts';
import { readTiny, TinyFetcher } from './tiny.ts';
import { TransferLog } from './transfer-log.ts';
import { transferHandlers } from './transfer-service.ts';
import type { BlobFetcher, PeerCallOptions } from './types.ts';
import { abortable, Background } from './waiting.ts';
import { watchedDirectory } from './watched-directory.ts';

/** Labels of the time to first byte: where the bytes came from. */
type FirstByteSource = 'disk' | 'tiny' | 'swarm';

export class PeerNode implements BlobFetcher, AsyncDisposable {
  readonly #options: ResolvedPeerOptions;
  readonly #deps: PeerNodeDeps;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #metrics: PeerMetrics;
  readonly #events: NetworkEvents;
  /** The limits of the swarm, which may change while transfers run. */
  readonly limits: Limits;
  readonly #engine: Engine;
  readonly #shelf: Shelf;
  readonly #inbound: InboundLinks;
  readonly #outbound: OutboundLinks;
  readonly #downloads: Downloads;
  readonly #tiny: TinyFetcher;
  readonly #log: TransferLog;
  readonly #background = new Background();
  readonly #largeReads = new LargeReads();
  readonly #stopped = new AbortController();
  readonly #unsubscribe: (() => void)[] = [];
  #eventFile: NetworkEventFile | undefined;
  #lastReader: ReaderId = 0;
  #draining = false;

  private constructor(options: ResolvedPeerOptions, deps: PeerNodeDeps) {
    const { clock, store, channels, meter, events = new NetworkEvents(deps) } = deps;
    const directory = watchedDirectory(deps.directory, events);
    this.#options = options;
    this.#deps = { ...deps, directory };
    this.#events = events;
    this.#clock = clock;
    this.#logger = deps.logger.child({ module: 'peer' });
    this.#metrics = peerMetrics(meter);
    const swarm = new Swarm(options.swarm, { self: peerIdOf(deps.self), rng: deps.rng });
    const common = {
      clock,
      store,
      directory,
      channels,
      logger: this.#logger,
      metrics: this.#metrics,
      events,
      rng: deps.rng,
      background: this.#background,
    };
    this.#log = new TransferLog(options, swarm);
    this.#engine = new Engine({ swarm, clock, carryOut: (effect) => carryOut(effect, parts) });
    this.limits = new Limits(options.swarm, { apply: (changed) => this.#engine.setOptions(changed), logger: this.#logger });
    this.#shelf = new Shelf(options, { ...common, engine: this.#engine, beforeUnload: (digest) => this.#log.update(digest) });
    this.#inbound = new InboundLinks(options, { ...common, engine: this.#engine, shelf: this.#shelf });
    this.#outbound = new OutboundLinks(options, { ...common, engine: this.#engine });
    this.#tiny = new TinyFetcher(options, { ...common, self: peerIdOf(deps.self) });
    this.#downloads = new Downloads(options, {
      ...common,
      engine: this.#engine,
      outbound: this.#outbound,
      shelf: this.#shelf,
      ended: (download, outcome) => this.#ended(download, outcome),
    });
    const parts: EffectParts = {
      ...common,
      engine: this.#engine,
      downloads: this.#downloads,
      inbound: this.#inbound,
      outbound: this.#outbound,
    };
    registerGauges(meter, {
      heldBytes: () => this.#outbound.heldBytes,
      sendBytes: () => this.#inbound.sendBytes,
      downloadCount: () => this.#downloads.count,
      outboundLinkCount: () => this.#outbound.count,
      inboundLinkCount: () => this.#inbound.count,
    });
  }

  /** Starts the node's part in the swarm: the blobs in the store are announced in the background. Throws `invalid-argument` for an option out of bounds, `failed-precondition` when the event file cannot be opened. */
  static async open(options: PeerOptions, deps: PeerNodeDeps): Promise<PeerNode> {
    const node = new PeerNode(peerOptions(options), deps);
    if (options.networkEvents !== undefined) node.#eventFile = await NetworkEventFile.open(options.networkEvents, node.#events, deps);
    node.#unsubscribe.push(
      deps.directory.onOffer((digest, peers) => node.#downloads.offer(digest, peers)),
      deps.store.onRemoved((digest) => node.#removed(digest)),
    );
    node.#background.run(node.#announceStored());
    return node;
  }

  /** Serves PeerService, TransferService and NetworkEventService; before the server listens. */
  attach(server: WireServer): void {
    server.addPeerService({
      exchange: (exchange) => this.#inbound.add(exchange),
      fetchBlob: async (request, { caller }) => {
        if (this.#draining) throw new AppError('unavailable', 'the node is shutting down; ask another owner');
        const digest = digestFromProto(request.digest);
        const data = await readTiny(this.#deps.store, digest);
        this.#metrics.sentPieces.add(1, { role: caller.role });
        this.#metrics.sentBytes.add(data.byteLength, { role: caller.role });
        if (this.#events.active) {
          const link = { digest, peer: peerIdOf(caller), direction: 'inbound', piece: 0 } as const;
          this.#events.emit({ type: 'piece-sent', ...link, sizeBytes: data.byteLength });
        }
        return { data };
      },
    });
    server.addService('shoal.peer.v1.TransferService', TransferServiceService, transferHandlers(this.#log, this.limits, this.#clock));
    server.addService('shoal.peer.v1.NetworkEventService', NetworkEventServiceService, networkEventHandlers(this.#events));
  }

  async open(digest: Digest, hint: { readonly sizeBytes?: number }, { signal }: PeerCallOptions): Promise<BlobReader> {
    const startedMs = this.#clock.nowMs();
    for (;;) {
      signal.throwIfAborted();
      const stored = await this.#deps.store.open(digest);
      if (stored !== undefined) {
        this.#firstByte(startedMs, 'disk');
        return new StoredReader(stored, this.#largeReads);
      }
      const tiny = this.#isTiny(digest, hint) ? await abortable(this.#tiny.bytes(digest), signal) : undefined;
      if (tiny !== undefined) {
        this.#firstByte(startedMs, 'tiny');
        return new BytesReader(tiny);
      }
      const reader = await this.#openDownload({ digest, fsync: this.#options.fsync }, startedMs, signal);
      // Undefined: it was complete in the store after all, so that is where it is read.
      if (reader !== undefined) return reader;
    }
  }

  async fetch(digest: Digest, hint: { readonly sizeBytes?: number }, { signal }: PeerCallOptions): Promise<void> {
    if (this.#deps.store.stat(digest) !== undefined) return;
    if (this.#isTiny(digest, hint) && (await abortable(this.#tiny.fetch(digest), signal))) return;
    await this.#finish({ digest, fsync: this.#options.fsync }, signal);
  }

  async ingest(metainfo: Metainfo, sources: readonly PeerOffer[], { signal }: PeerCallOptions): Promise<void> {
    if (this.#deps.store.stat(metainfo.digest) !== undefined) return;
    await this.#finish({ digest: metainfo.digest, metainfo, sources, fsync: true }, signal);
  }

  async bytes(
    digest: Digest,
    hint: { readonly sizeBytes: number; readonly sizeBytesMax: number },
    { signal }: PeerCallOptions,
  ): Promise<Uint8Array> {
    const checkSize = (sizeBytes: number): void => {
      if (sizeBytes <= hint.sizeBytesMax) return;
      throw new AppError('resource-exhausted', `the blob has ${sizeBytes} bytes, more than ${hint.sizeBytesMax}`, { data: { sizeBytes } });
    };
    checkSize(hint.sizeBytes);
    await using reader = await this.open(digest, hint, { signal });
    checkSize(reader.sizeBytes);
    const chunks: Uint8Array[] = [];
    for await (const chunk of reader.read({ startByte: 0, endByte: reader.sizeBytes }, { signal })) chunks.push(chunk);
    return chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks, reader.sizeBytes);
  }

  seed(metainfo: Metainfo): void {
    this.#downloads.get(metainfo.digest)?.foundInStore();
    this.#deps.directory.update(metainfo.digest, { state: 'complete', peersWanted: 0 });
  }

  transfers(): readonly TransferSnapshot[] {
    return this.#log.list();
  }

  /**
   * Takes on nothing new and resolves when the pieces being sent have left, or when the time for it is over. Running downloads get no more
   * pieces; they fail when the node is disposed.
   */
  async drain(): Promise<void> {
    this.#draining = true;
    this.#engine.post({ type: 'drain' });
    let cancel: (() => void) | undefined;
    const timeout = new Promise<void>((resolve) => {
      cancel = this.#clock.after(this.#options.drainTimeoutMs, resolve);
    });
    await Promise.race([this.#inbound.idle(), timeout]);
    cancel?.();
  }

  /** Ends everything: downloads fail as `cancelled` with their pieces kept, links and files close. Dispose the store and the directory afterwards. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#stopped.signal.aborted) return;
    this.#draining = true;
    this.#stopped.abort(new AppError('cancelled', 'the node is shutting down'));
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#downloads.stopAll();
    this.#inbound.closeAll();
    this.#outbound.closeAll();
    this.#engine.stop();
    this.#tiny.close();
    await this.#shelf.close();
    await this.#background.idle();
    await this.#eventFile?.[Symbol.asyncDispose]();
  }

  /** It can be fetched without a swarm. Throws `unavailable` while draining. */
  #isTiny(digest: Digest, hint: { readonly sizeBytes?: number }): boolean {
    if (hint.sizeBytes === undefined || !isTiny(hint.sizeBytes) || this.#downloads.get(digest) !== undefined) return false;
    this.#refuseWhileDraining();
    return true;
  }

  async #openDownload(start: DownloadStart, startedMs: number, signal: AbortSignal): Promise<BlobReader | undefined> {
    this.#refuseWhileDraining();
    const interest = this.#downloads.join(start);
    try {
      await abortable(interest.download.ready.promise, signal);
      const { blob } = interest.download;
      if (blob === undefined || interest.download.state === 'complete') {
        interest.release();
        return undefined;
      }
      return new DownloadReader({
        interest,
        blob,
        store: this.#deps.store,
        newReaderId: () => {
          this.#lastReader += 1;
          return this.#lastReader;
        },
        firstByte: () => this.#firstByte(startedMs, 'swarm'),
        readAheadBytes: this.#options.readAheadBytes,
      });
    } catch (error) {
      interest.release();
      throw error;
    }
  }

  async #finish(start: DownloadStart, signal: AbortSignal): Promise<void> {
    this.#refuseWhileDraining();
    const interest = this.#downloads.join(start);
    try {
      await abortable(interest.download.done.promise, signal);
    } finally {
      interest.release();
    }
  }

  #refuseWhileDraining(): void {
    if (this.#draining) throw new AppError('unavailable', 'the node is shutting down; ask another');
  }

  #firstByte(startedMs: number, source: FirstByteSource): void {
    this.#metrics.firstByteSeconds.record((this.#clock.nowMs() - startedMs) / 1000, { source });
  }

  #ended(download: Download, outcome: DownloadOutcome): void {
    const { digest } = download;
    this.#metrics.transfers.add(1, { outcome: outcome.type });
    const snapshot = this.#log.current(digest);
    this.#tellEnded(download, outcome);
    const fields = { digest, durationMs: this.#clock.nowMs() - download.startedMs, ...sourceFields(snapshot) };
    switch (outcome.type) {
      case 'complete':
        this.#completed(download, fields, snapshot);
        return;
      case 'abandoned':
        this.#logger.info('download abandoned', fields);
        break;
      case 'failed':
        if (outcome.error.code === 'data-loss') this.#logger.error('download failed', { ...fields, error: outcome.error });
        else this.#logger.warn('download failed', { ...fields, code: outcome.error.code, why: outcome.error.message });
        break;
      default:
        assertNever(outcome);
    }
    this.#shelf.drop(digest);
    this.#deps.directory.update(digest, { state: 'gone', peersWanted: 0 });
    if (outcome.type === 'failed' && outcome.error.code === 'data-loss' && !download.ownersOnly) this.#restart(digest);
  }

  #tellEnded({ digest, startedMs, metainfo }: Download, outcome: DownloadOutcome): void {
    if (!this.#events.active) return;
    if (outcome.type !== 'complete') {
      const { code, message } = outcome.type === 'failed' ? outcome.error : { code: 'cancelled', message: 'nobody waits for it any more' };
      this.#events.emit({ type: 'download-failed', digest, code, message });
      return;
    }
    const sizeBytes = metainfo?.sizeBytes ?? this.#deps.store.stat(digest)?.sizeBytes ?? 0;
    this.#events.emit({ type: 'blob-complete', digest, sizeBytes, durationMs: this.#clock.nowMs() - startedMs });
  }

  #completed(download: Download, fields: { readonly durationMs: number }, snapshot: TransferSnapshot | undefined): void {
    const { digest, metainfo } = download;
    if (snapshot !== undefined) this.#log.remember(snapshot);
    this.#metrics.transferSeconds.record(fields.durationMs / 1000);
    this.#logger.info('download finished', fields);
    // It turned up in the store by another way while the engine was fetching it.
    if (snapshot?.complete === false && metainfo !== undefined) this.#engine.post({ type: 'blob-seeded', metainfo });
    this.#shelf.completed(digest);
    this.#deps.directory.update(digest, { state: 'complete', peersWanted: 0 });
  }

  /** The metainfo was wrong: tries once more, with bytes from owners only, so that those who ask again find the blob. */
  #restart(digest: Digest): void {
    if (this.#draining) return;
    const interest = this.#downloads.join({ digest, fsync: this.#options.fsync, ownersOnly: true });
    interest.download.done.promise.then(interest.release, interest.release);
  }

  #removed(digest: Digest): void {
    const download = this.#downloads.get(digest);
    // Pieces of an earlier attempt were evicted, or a seed was deleted: one that is still looking for metainfo begins afresh.
    if (download?.state === 'finding') {
      this.#log.update(digest);
      this.#shelf.drop(digest);
      return;
    }
    if (download !== undefined) {
      if (download.state !== 'committing')
        download.fail(new AppError('aborted', 'the blob was deleted while it was being fetched; ask again'));
      return;
    }
    this.#log.update(digest);
    this.#shelf.drop(digest);
    this.#deps.directory.update(digest, { state: 'gone', peersWanted: 0 });
  }

  async #announceStored(): Promise<void> {
    const { store, directory } = this.#deps;
    const limit = this.#options.announceBatchCount;
    let after: Digest | undefined;
    for (;;) {
      const page = store.list(after === undefined ? { limit } : { limit, after });
      for (const { digest } of page) directory.update(digest, { state: 'complete', peersWanted: 0 });
      after = page.at(-1)?.digest;
      if (page.length < limit || after === undefined) return;
      try {
        await this.#clock.sleep(this.#options.announcePauseMs, { signal: this.#stopped.signal });
      } catch {
        return;
      }
    }
  }
}

/** What the log line of an ended download says of its sources. */
function sourceFields(snapshot: TransferSnapshot | undefined): Record<string, unknown> {
  if (snapshot === undefined) return {};
  const { sizeBytes, pieceCount, verifiedCount, sources } = snapshot;
  return {
    sizeBytes,
    pieceCount,
    verifiedCount,
    pieces: Object.fromEntries(sources.map((source) => [source.peer, source.pieceCount])),
    corruptCount: sources.reduce((sum, source) => sum + source.corruptCount, 0),
    duplicateCount: sources.reduce((sum, source) => sum + source.duplicateCount, 0),
  };
}
