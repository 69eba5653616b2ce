/**
 * One round of repair: asks the other origins what they hold, and brings here what this origin should have and lacks; first the blobs of which there is
 * one copy left. What no repository shows is left alone: it is garbage, which another origin may just not have deleted yet.
 */
import type { BuildIndexClient, MemberStatus, OriginCluster } from '#cluster';
import { AppError, type Clock, type Digest, type Logger, toAppError } from '#core';
import type { BlobStore } from '#storage';
import type { BlobKeeper } from '../blob-keeper.ts';
import type { BlobsInUse } from '../blobs-in-use.ts';
import type { GarbageMarks } from '../garbage-marks.ts';
import { IndexTrust } from '../index-trust.ts';
import type { Pace } from './pace.ts';
import { type SurveyedBlob, survey } from './survey.ts';

export interface RepairRoundDeps {
  readonly origins: Pick<OriginCluster, 'members' | 'listBlobs' | 'findLost' | 'shouldTake'>;
  readonly store: Pick<BlobStore, 'stat' | 'usage'>;
  readonly keeper: Pick<BlobKeeper, 'takeFromOthers'>;
  readonly inUse: Pick<BlobsInUse, 'has'>;
  readonly marks: Pick<GarbageMarks, 'index' | 'setIndex'>;
  /** Undefined where no build-index is configured: nothing is garbage then. */
  readonly index: Pick<BuildIndexClient, 'findUnreferencedBlobs'> | undefined;
  /** Whether durable storage is configured: what it holds is not copied, and may make room for what it does not. */
  readonly hasStorage: boolean;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface RepairRoundOptions {
  readonly self: string;
  readonly isPresent: (id: string) => boolean;
  readonly pace: Pace;
  /** Leave off: there is news, and the next round begins at once. */
  readonly isOver: () => boolean;
}

/** Blobs that are brought here at a time. */
const concurrency = 2;
/** Blobs between two questions to the index, so that its word is fresh. */
const batchSize = 32;
/** The first one when it is a blob's turn, the others at the end of the round, so that nobody waits for a blob that does not come. */
const attemptsMax = 3;
/** With so many that did not come, something is wrong that the next round may find mended. */
const failedMax = 1000;
/** What a transfer may take: to be connected, and a pace below which something is broken. */
const stallMs = 5000;
const paceBytesPerMs = 1024;
const pauseMsMin = 1000;
/** Without storage every blob counts: none is brought while it would fill more of the disk, below where eviction stops (0.85), or evicted ones came back. */
const fillMax = 0.8;

export class RepairRound {
  broughtCount = 0;
  broughtBytes = 0;
  /** Blobs that no repository shows. */
  unwantedCount = 0;
  /** Blobs that are still lacking because of errors, and because there is no room. */
  failedCount = 0;
  noRoomCount = 0;
  /** Origins that did not list their blobs. */
  readonly silent = new Set<string>();
  /** What went wrong last. */
  error: string | undefined;
  readonly #options: RepairRoundOptions;
  readonly #deps: RepairRoundDeps;
  readonly #trust: IndexTrust;
  readonly #failed: SurveyedBlob[] = [];
  #failure: string | undefined;

  constructor(options: RepairRoundOptions, deps: RepairRoundDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#trust = new IndexTrust(deps.marks);
  }

  /** Everything that could be brought here is here. */
  get isComplete(): boolean {
    return this.failedCount === 0 && this.silent.size === 0 && this.error === undefined;
  }

  /** Throws when the index does not answer, and when `signal` aborts. */
  async run(options: { readonly signal: AbortSignal }): Promise<void> {
    const others = this.#deps.origins.members().filter(({ id, healthy }) => healthy && id !== this.#options.self);
    const laterCount = await this.#pass(others, (copyCount) => copyCount === 1, options);
    if (laterCount > 0) await this.#pass(others, (copyCount) => copyCount > 1, options);
    for (let attempt = 2; attempt <= attemptsMax && this.#failed.length > 0 && !this.#options.isOver(); attempt += 1) {
      await this.#deps.clock.sleep(pauseMsMin * 2 ** (attempt - 2), options);
      const again = this.#failed.splice(0);
      for (let at = 0; at < again.length && !this.#options.isOver(); at += batchSize)
        await this.#bringAll(again.slice(at, at + batchSize), options);
    }
    this.failedCount = this.#failed.length;
    if (this.failedCount > 0) this.error = this.#failure;
  }

  /** Brings blobs with so many copies here. Returns how many others are lacking. */
  async #pass(
    others: readonly MemberStatus[],
    isTurn: (copyCount: number) => boolean,
    { signal }: { readonly signal: AbortSignal },
  ): Promise<number> {
    let otherCount = 0;
    let batch: SurveyedBlob[] = [];
    const onSilent = (id: string): void => void this.silent.add(id);
    for await (const blob of survey(others, { onlyPending: this.#deps.hasStorage, onSilent, signal }, this.#deps)) {
      if (!this.#isLacking(blob)) continue;
      if (!isTurn(blob.holders.length)) {
        otherCount += 1;
        continue;
      }
      batch.push(blob);
      if (batch.length < batchSize) continue;
      await this.#bringAll(batch, { signal });
      if (this.#options.isOver() || this.#failed.length >= failedMax) return 0;
      batch = [];
    }
    await this.#bringAll(batch, { signal });
    return this.#options.isOver() ? 0 : otherCount;
  }

  /** One that is being taken in or deleted at this moment is not. */
  #isLacking({ digest, holders }: SurveyedBlob): boolean {
    const { store, inUse, origins } = this.#deps;
    return store.stat(digest) === undefined && !inUse.has(digest) && origins.shouldTake(digest, holders, this.#options.isPresent);
  }

  async #bringAll(batch: readonly SurveyedBlob[], options: { readonly signal: AbortSignal }): Promise<void> {
    const queue = [...(await this.#withoutGarbage(batch, options))];
    const worker = async (): Promise<void> => {
      for (let blob = queue.shift(); blob !== undefined && !this.#options.isOver(); blob = queue.shift()) {
        options.signal.throwIfAborted();
        await this.#bring(blob, options);
      }
    };
    await Promise.all(Array.from({ length: concurrency }, worker));
  }

  /**
   * Each blob is brought here on a fresh word of the index that some repository shows it, so no copy that is left over can go round from origin to
   * origin. An index that is not believed when it calls blobs garbage is not believed here either.
   */
  async #withoutGarbage(batch: readonly SurveyedBlob[], options: { readonly signal: AbortSignal }): Promise<readonly SurveyedBlob[]> {
    const { index } = this.#deps;
    if (index === undefined || batch.length === 0) return batch;
    const verdict = await index.findUnreferencedBlobs(
      batch.map(({ digest }) => digest),
      options,
    );
    if (!this.#trust.believes(verdict.index)) return batch;
    const unwanted = new Set<Digest>(verdict.digests);
    this.unwantedCount += unwanted.size;
    return batch.filter(({ digest }) => !unwanted.has(digest));
  }

  async #bring(blob: SurveyedBlob, { signal }: { readonly signal: AbortSignal }): Promise<void> {
    const { store, logger } = this.#deps;
    const { digest, sizeBytes, holders } = blob;
    if (store.stat(digest) !== undefined) return;
    if (!this.#hasRoom(sizeBytes)) {
      this.noRoomCount += 1;
      return;
    }
    try {
      await this.#options.pace.take(sizeBytes, { signal });
      await this.#inTime(sizeBytes, signal, (call) => this.#fetch(blob, call));
    } catch (error) {
      if (signal.aborted) throw error;
      const { code, message } = toAppError(error);
      logger.debug('an owned blob could not be brought here', { digest, holders, code, error: message });
      if (code === 'resource-exhausted') this.noRoomCount += 1;
      else {
        this.#failed.push(blob);
        this.#failure = message;
      }
    }
  }

  /** A transfer whose holder has just died would otherwise wait half a minute for another one to turn up, and keep the rest waiting. */
  async #inTime(sizeBytes: number, signal: AbortSignal, work: (options: { readonly signal: AbortSignal }) => Promise<void>): Promise<void> {
    const late = new AbortController();
    const deadlineMs = stallMs + sizeBytes / paceBytesPerMs;
    const error = new AppError('deadline-exceeded', 'the transfer took too long; see whether the holders of the blob are well');
    const cancel = this.#deps.clock.after(deadlineMs, () => late.abort(error));
    try {
      await work({ signal: AbortSignal.any([signal, late.signal]) });
    } finally {
      cancel();
    }
  }

  /** Quiet when nobody has it any more: it was deleted meanwhile. */
  async #fetch({ digest, holders }: SurveyedBlob, options: { readonly signal: AbortSignal }): Promise<void> {
    const { origins, keeper } = this.#deps;
    const found = await origins.findLost(digest, holders, options);
    if (found === undefined) return;
    await keeper.takeFromOthers(found, options);
    this.broughtCount += 1;
    this.broughtBytes += found.metainfo.sizeBytes;
  }

  #hasRoom(sizeBytes: number): boolean {
    const { usedBytes, capacityBytes } = this.#deps.store.usage();
    return this.#deps.hasStorage || usedBytes + sizeBytes <= capacityBytes * fillMax;
  }
}
