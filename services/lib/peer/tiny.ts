/** Tiny blobs without a swarm: one unary RPC to an owner, a second one when the first is slow, verified and stored. */

import type { PeerDirectory } from '#cluster';
import {
  AppError,
  algorithmOf,
  type Clock,
  type Digest,
  digestOf,
  identityOf,
  type Logger,
  leafSizeBytes,
  type PeerId,
  type Rng,
  shuffle,
  toAppError,
} from '#core';
import { PeerServiceService } from '#gen/shoal/peer/v1/peer_service';
import type { BlobStore } from '#storage';
import type { PeerOffer } from '#swarm';
import { digestToProto } from '#wire';
import type { PeerChannels } from './deps.ts';
import type { PeerMetrics } from './metrics.ts';
import type { NetworkEvents } from './network-events.ts';
import type { ResolvedPeerOptions } from './options.ts';
import { QuietMoment } from './quiet-moment.ts';
import { type Background, ByteBudget } from './waiting.ts';

export interface TinyDeps {
  readonly self: PeerId;
  readonly channels: PeerChannels;
  readonly directory: PeerDirectory;
  readonly store: BlobStore;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
  readonly metrics: PeerMetrics;
  readonly events: NetworkEvents;
  readonly background: Background;
}

/** Bytes that are answered with before the disk has them; beyond it answers wait for the disk. From half of it on they are stored at once. */
const unstoredBytesMax = 16 * 1024 * 1024;
/** Blobs that are written at a time: in a burst, what somebody waits for goes first. */
const storingCountMax = 2;

/** One tiny blob on its way. */
interface Fetch {
  readonly bytes: Promise<Uint8Array | undefined>;
  /** Rejects when the blob could not be stored. */
  readonly stored: Promise<void>;
}

const answered = new AppError('cancelled', 'another owner answered first');

export class TinyFetcher {
  readonly #options: ResolvedPeerOptions;
  readonly #deps: TinyDeps;
  readonly #running = new Map<Digest, Fetch>();
  /** In a burst, what somebody waits for goes before the disk. */
  readonly #quiet: QuietMoment;
  #closed = false;
  readonly #unstored = new ByteBudget(unstoredBytesMax);
  /** Counts blobs. */
  readonly #storing = new ByteBudget(storingCountMax);

  constructor(options: ResolvedPeerOptions, deps: TinyDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#quiet = new QuietMoment(deps);
  }

  /** Nothing is put off any more: what has been fetched is stored at once. */
  close(): void {
    this.#closed = true;
    this.#quiet.now();
  }

  /**
   * The verified bytes of the blob, which is stored and announced a moment later; undefined when no owner has it or answers, so that the
   * directory must say what to do. Concurrent callers share one fetch.
   */
  async bytes(digest: Digest): Promise<Uint8Array | undefined> {
    return await this.#join(digest).bytes;
  }

  /** True when the blob is complete in the store; false when no owner has it or answers. Throws what storing it throws. */
  async fetch(digest: Digest): Promise<boolean> {
    const { bytes, stored } = this.#join(digest);
    await bytes.catch(() => undefined);
    this.#quiet.now();
    await stored;
    return (await bytes) !== undefined;
  }

  #join(digest: Digest): Fetch {
    const known = this.#running.get(digest);
    if (known !== undefined) return known;
    const bytes = this.#fetch(digest);
    const stored = this.#store(digest, bytes);
    const fetch = { bytes, stored };
    this.#running.set(digest, fetch);
    this.#deps.background.run(
      stored
        .catch((error: unknown) => this.#deps.logger.warn('a tiny blob could not be stored', { digest, error: toAppError(error) }))
        .finally(() => this.#running.delete(digest)),
    );
    return fetch;
  }

  async #store(digest: Digest, fetched: Promise<Uint8Array | undefined>): Promise<void> {
    const startedMs = this.#deps.clock.nowMs();
    const bytes = await fetched.catch(() => undefined);
    if (bytes === undefined) return;
    if (!this.#closed && this.#unstored.takenBytes <= unstoredBytesMax / 2) await this.#quiet.come();
    await this.#storing.take(1);
    try {
      await this.#deps.store.put(digest, bytes, { fsync: this.#options.fsync });
    } finally {
      this.#storing.release(1);
      this.#unstored.release(bytes.byteLength);
    }
    const { directory, events, clock } = this.#deps;
    directory.update(digest, { state: 'complete', peersWanted: 0 });
    if (events.active) events.emit({ type: 'blob-complete', digest, sizeBytes: bytes.byteLength, durationMs: clock.nowMs() - startedMs });
  }

  async #fetch(digest: Digest): Promise<Uint8Array | undefined> {
    const { directory, rng, self } = this.#deps;
    const owners = shuffle(
      directory.owners(digest).filter(({ peer }) => peer !== self),
      rng,
    );
    if (owners.length === 0) return undefined;
    this.#quiet.busy();
    const bytes = await this.#race(digest, owners);
    if (bytes !== undefined) await this.#unstored.take(bytes.byteLength);
    return bytes;
  }

  /** Asks one owner after the other: the next when one fails, or when none has answered for the hedge time. The first answer wins. */
  async #race(digest: Digest, owners: readonly PeerOffer[]): Promise<Uint8Array | undefined> {
    const ended = new AbortController();
    let nextIndex = 0;
    let runningCount = 0;
    let cancelHedge: (() => void) | undefined;
    try {
      return await new Promise<Uint8Array | undefined>((resolve) => {
        const startNext = (): void => {
          cancelHedge?.();
          const owner = owners[nextIndex];
          if (owner === undefined) {
            if (runningCount === 0) resolve(undefined);
            return;
          }
          nextIndex += 1;
          runningCount += 1;
          cancelHedge = this.#deps.clock.after(this.#options.tinyHedgeMs, startNext);
          void this.#ask(digest, owner, ended.signal).then((bytes) => {
            runningCount -= 1;
            if (bytes !== undefined) resolve(bytes);
            else startNext();
          });
        };
        startNext();
      });
    } finally {
      cancelHedge?.();
      if (runningCount > 0) ended.abort(answered);
    }
  }

  /** Undefined for any failure. */
  async #ask(digest: Digest, owner: PeerOffer, signal: AbortSignal): Promise<Uint8Array | undefined> {
    const { channels, logger, metrics, events } = this.#deps;
    const { peer } = owner;
    const identity = identityOf(peer);
    const link = { digest, peer, direction: 'outbound', piece: 0 } as const;
    try {
      if (events.active) events.emit({ type: 'piece-requested', ...link });
      const client = channels.client(PeerServiceService, { endpoint: owner.endpoint, ...identity });
      const { data } = await client.fetchBlob({ digest: digestToProto(digest) }, { signal, timeoutMs: this.#options.tinyTimeoutMs });
      if (data.byteLength > leafSizeBytes || digestOf(data, algorithmOf(digest)) !== digest) {
        metrics.corruptPieces.add(1, { role: identity.role });
        logger.warn('an owner sent a corrupt blob', { digest, peer });
        if (events.active) events.emit({ type: 'piece-rejected', ...link, reason: 'corrupt' });
        return undefined;
      }
      metrics.receivedPieces.add(1, { role: identity.role });
      metrics.receivedBytes.add(data.byteLength, { role: identity.role });
      if (events.active) events.emit({ type: 'piece-received', ...link, sizeBytes: data.byteLength });
      return data;
    } catch (error) {
      const { code, message } = toAppError(error);
      if (!signal.aborted) logger.debug('an owner did not give a tiny blob', { digest, peer, code, why: message });
      return undefined;
    }
  }
}

/** What a handler of `FetchBlob` answers. Throws `not-found`, `failed-precondition`. */
export async function readTiny(store: BlobStore, digest: Digest): Promise<Uint8Array> {
  const stat = store.stat(digest);
  if (stat !== undefined && stat.sizeBytes > leafSizeBytes) {
    throw new AppError('failed-precondition', 'the blob is not tiny; fetch it by an exchange', { data: { sizeBytes: stat.sizeBytes } });
  }
  const blob = stat === undefined ? undefined : await store.open(digest);
  if (blob === undefined) throw new AppError('not-found', 'the blob is not here; ask another owner', { data: { kind: 'blob' } });
  await using open = blob;
  const bytes = Buffer.allocUnsafe(open.metainfo.sizeBytes);
  await open.readInto(bytes, 0);
  return bytes;
}
