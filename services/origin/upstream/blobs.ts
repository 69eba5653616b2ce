/** Blobs of upstreams: fetched once however many ask, hashed on the way, in the store only when they are what their digest names. */
import { mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { BuildIndexClient, OriginCluster } from '#cluster';
import {
  AppError,
  algorithmOf,
  type Clock,
  type Counter,
  type Digest,
  DigestHasher,
  hexOf,
  isAppError,
  isTiny,
  type Logger,
  type Metainfo,
  MetainfoBuilder,
  type Meter,
  toAppError,
} from '#core';
import { placeAndPublish } from '#images';
import type { BlobFetcher } from '#peer';
import { type BlobStore, onDisk } from '#storage';
import type { PeerOffer } from '#swarm';
import { abortable, type UpstreamBlob } from '#upstream';
import type { BlobKeeper } from '../blob-keeper.ts';
import { requireRoom } from '../room.ts';
import type { CallerAccess } from './caller-access.ts';
import { Gate } from './gate.ts';
import type { UpstreamTarget } from './upstreams.ts';

export interface UpstreamBlobsDeps {
  readonly access: CallerAccess;
  readonly index: Pick<BuildIndexClient, 'fence' | 'getBlobLink' | 'linkBlob'>;
  readonly origins: Pick<OriginCluster, 'ingest'>;
  readonly keeper: Pick<BlobKeeper, 'metainfo'>;
  readonly store: Pick<BlobStore, 'adopt' | 'usage' | 'open'>;
  readonly peer: Pick<BlobFetcher, 'seed'>;
  readonly self: PeerOffer;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly meter: Meter;
}

/** A blob on its way into the mesh. */
export interface BlobFetch {
  /** Undefined until it is known. */
  readonly sizeBytes: number | undefined;
  readonly receivedBytes: number;
  /** Resolves when `sizeBytes` is known, or will not be known before the end. */
  readonly sized: Promise<void>;
  /** Resolves when the blob is in the mesh and visible in the repository. */
  readonly done: Promise<void>;
}

class RunningFetch implements BlobFetch {
  sizeBytes: number | undefined;
  receivedBytes = 0;
  readonly sized: Promise<void>;
  readonly done: Promise<void>;

  constructor(work: (fetch: RunningFetch, sized: () => void) => Promise<void>) {
    let resolve = (): void => undefined;
    this.sized = new Promise((onResolve) => {
      resolve = onResolve;
    });
    this.done = work(this, resolve).finally(resolve);
    this.done.catch(() => undefined);
  }
}

/** More would only share the line to the upstream, and registries limit connections. */
const runningMax = 16;
/** Layers of a few hundred images. */
const waitingMax = 4096;
/** Questions that move no bytes. */
const questionMs = 30_000;
/** Handing a blob on to the other owners. */
const replicateMs = 3_600_000;

export class UpstreamBlobs {
  readonly #root: string;
  readonly #deps: UpstreamBlobsDeps;
  readonly #running = new Map<string, RunningFetch>();
  readonly #gate = new Gate({ runningMax, waitingMax });
  readonly #stopped = new AbortController();
  readonly #receivedBytes: Counter;
  #fetchCount = 0;
  /** Sizes of the copies under way. */
  #copyingBytes = 0;

  private constructor(root: string, deps: UpstreamBlobsDeps) {
    this.#root = root;
    this.#deps = deps;
    this.#receivedBytes = deps.meter.counter('shoal_origin_upstream_bytes', 'Bytes of blobs that came from upstreams');
    deps.meter.gauge('shoal_origin_upstream_fetches', 'Blobs that are being fetched from upstreams', () => this.#running.size);
  }

  /** Empties folder `root`, which is this object's alone, of what an earlier run did not finish. Throws `unavailable`. */
  static async open(options: { readonly root: string }, deps: UpstreamBlobsDeps): Promise<UpstreamBlobs> {
    await onDisk('emptying the folder of upstream blobs', async () => {
      await rm(options.root, { recursive: true, force: true });
      await mkdir(options.root, { recursive: true });
    });
    return new UpstreamBlobs(options.root, deps);
  }

  /** Begins to fetch the blob, or joins those who wait for it already. Throws what the upstream refuses with. */
  async ensure(target: UpstreamTarget, digest: Digest, options: { readonly signal: AbortSignal }): Promise<BlobFetch> {
    await this.#requireAccess(target, digest, options);
    const key = `${target.repository}@${digest}`;
    let running = this.#running.get(key);
    if (running === undefined) {
      running = new RunningFetch((fetch, sized) => this.#ensure(target, digest, fetch, sized).finally(() => this.#running.delete(key)));
      this.#running.set(key, running);
    }
    return running;
  }

  /** The size, without fetching. Throws `not-found` (kind `blob`). */
  async stat(target: UpstreamTarget, digest: Digest, options: { readonly signal: AbortSignal }): Promise<number> {
    await this.#requireAccess(target, digest, options);
    const linked = await this.#linkedBytes(target, digest);
    const sizeBytes = linked ?? (await abortable(this.#head(target, digest), options.signal));
    if (sizeBytes !== undefined) return sizeBytes;
    throw new AppError('unavailable', 'the upstream does not say how large the blob is; fetch it instead', { data: { kind: 'upstream' } });
  }

  /** Ends what is under way; it begins anew when somebody asks again. */
  stop(): void {
    this.#stopped.abort(new AppError('cancelled', 'this origin is stopping'));
  }

  async #requireAccess(target: UpstreamTarget, digest: Digest, options: { readonly signal: AbortSignal }): Promise<void> {
    await this.#deps.access.require(target, () => this.#head(target, digest), options);
  }

  async #ensure(target: UpstreamTarget, digest: Digest, fetch: RunningFetch, sized: () => void): Promise<void> {
    const linkedBytes = await this.#linkedBytes(target, digest);
    if (linkedBytes !== undefined) {
      const held = await this.#held(digest);
      fetch.sizeBytes = held?.sizeBytes;
      if (held !== undefined) return;
    }
    const { index } = this.#deps;
    let sizeBytes = 0;
    await placeAndPublish(
      {
        place: async () => {
          sizeBytes = await this.#place(target, digest, fetch, sized);
        },
        publish: async (fence) =>
          index.linkBlob(target.repository, { digest, sizeBytes }, fence, { signal: AbortSignal.timeout(questionMs) }),
      },
      this.#deps,
      { signal: this.#stopped.signal },
    );
  }

  /** Makes an owner hold the blob; returns its size. */
  async #place(target: UpstreamTarget, digest: Digest, fetch: RunningFetch, sized: () => void): Promise<number> {
    const held = await this.#held(digest);
    if (held === undefined) return this.#gate.run(() => this.#fetch(target, digest, fetch, sized));
    // The mesh has these bytes from elsewhere: only the upstream can say whether they are in this repository too.
    await this.#head(target, digest);
    fetch.sizeBytes = held.sizeBytes;
    return held.sizeBytes;
  }

  async #fetch(target: UpstreamTarget, digest: Digest, fetch: RunningFetch, sized: () => void): Promise<number> {
    const { signal } = this.#stopped;
    const { upstream, name, credentials, repository } = target;
    const startedMs = this.#deps.clock.nowMs();
    const blob = await upstream.client.openBlob(name, digest, { credentials, signal });
    fetch.sizeBytes = blob.sizeBytes;
    sized();
    this.#fetchCount += 1;
    const path = join(this.#root, `${hexOf(digest)}-${this.#fetchCount}`);
    const reservedBytes = blob.sizeBytes ?? 0;
    this.#copyingBytes += reservedBytes;
    try {
      await requireRoom({ root: this.#root, sizeBytes: reservedBytes, copyingBytes: this.#copyingBytes }, this.#deps);
      const metainfo = await this.#copy(blob, digest, { path, fetch, target });
      await this.#deps.store.adopt(path, metainfo, { fsync: true });
      this.#deps.peer.seed(metainfo);
      const durationMs = this.#deps.clock.nowMs() - startedMs;
      this.#deps.logger.info('blob fetched from an upstream', { repository, digest, sizeBytes: metainfo.sizeBytes, durationMs });
      void this.#replicate(metainfo);
      return metainfo.sizeBytes;
    } catch (error) {
      // Bytes that nobody reads would keep one of the few connections to the upstream.
      blob.drop();
      throw error;
    } finally {
      this.#copyingBytes -= reservedBytes;
      await rm(path, { force: true });
    }
  }

  async #copy(
    blob: UpstreamBlob,
    digest: Digest,
    to: { readonly path: string; readonly fetch: RunningFetch; readonly target: UpstreamTarget },
  ): Promise<Metainfo> {
    const hasher = new DigestHasher(algorithmOf(digest));
    const builder = new MetainfoBuilder();
    const sizeBytesMax = blob.sizeBytes ?? this.#deps.store.usage().capacityBytes;
    await using file = await onDisk('fetching a blob', () => open(to.path, 'w'));
    for await (const chunk of blob.chunks) {
      hasher.update(chunk);
      builder.update(chunk);
      if (hasher.sizeBytes > sizeBytesMax) break;
      await onDisk('fetching a blob', () => file.appendFile(chunk));
      to.fetch.receivedBytes += chunk.byteLength;
      this.#receivedBytes.add(chunk.byteLength);
    }
    if (hasher.finish() === digest) return builder.finish(digest);
    const { namespace } = to.target.upstream;
    this.#deps.logger.error('an upstream sent other bytes than the digest names', { digest, namespace, receivedBytes: builder.sizeBytes });
    throw new AppError('unavailable', `the upstream ${namespace} sent other bytes than the digest names; ask its operator`, {
      data: { kind: 'upstream', digest },
    });
  }

  /** The other owners take it from here, as after a push; the caller does not wait. */
  async #replicate(metainfo: Metainfo): Promise<void> {
    const { origins, self, logger } = this.#deps;
    const signal = AbortSignal.any([this.#stopped.signal, AbortSignal.timeout(replicateMs)]);
    try {
      const inline = isTiny(metainfo.sizeBytes) ? await this.#bytes(metainfo) : undefined;
      await origins.ingest(metainfo, [self], inline, { signal });
    } catch (error) {
      if (signal.aborted) return;
      logger.warn('a blob of an upstream has fewer copies than it should', { digest: metainfo.digest, error: toAppError(error).message });
    }
  }

  async #bytes({ digest, sizeBytes }: Metainfo): Promise<Uint8Array | undefined> {
    await using blob = await this.#deps.store.open(digest);
    if (blob === undefined) return undefined;
    const bytes = Buffer.allocUnsafe(sizeBytes);
    await blob.readInto(bytes, 0);
    return bytes;
  }

  async #linkedBytes({ repository }: UpstreamTarget, digest: Digest): Promise<number | undefined> {
    try {
      return (await this.#deps.index.getBlobLink(repository, digest, { signal: AbortSignal.timeout(questionMs) })).sizeBytes;
    } catch (error) {
      if (isAppError(error, 'not-found')) return undefined;
      throw error;
    }
  }

  /** Its metainfo when an owner or durable storage has it. One that does not answer counts as without it: the upstream has it. */
  async #held(digest: Digest): Promise<Metainfo | undefined> {
    try {
      return await this.#deps.keeper.metainfo(digest, { localOnly: false }, { signal: AbortSignal.timeout(questionMs) });
    } catch (error) {
      if (isAppError(error, 'not-found', 'unavailable', 'deadline-exceeded')) return undefined;
      throw error;
    }
  }

  #head({ upstream, name, credentials }: UpstreamTarget, digest: Digest): Promise<number | undefined> {
    return upstream.client.headBlob(name, digest, { credentials, signal: AbortSignal.timeout(questionMs) });
  }
}
