/**
 * One round of repair: asks the other origins what they hold, and brings here what this origin should have and lacks; first the blobs of which there is
 * one copy left. What no repository shows is left alone: it is garbage, which another origin may just not have deleted yet.
 */
import { type BuildIndexClient, longestIngestMs, type MemberStatus, type OriginCluster } from '#cluster';
import { type Clock, type Digest, isAppError, type Logger, toAppError } from '#core';
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
const attemptsMax = 3;
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
      if (this.#options.isOver()) return 0;
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
    const { store, clock, logger } = this.#deps;
    const { digest, sizeBytes } = blob;
    if (!this.#hasRoom(sizeBytes)) {
      this.noRoomCount += 1;
      return;
    }
    for (let attempt = 1; store.stat(digest) === undefined; attempt += 1) {
      try {
        await this.#options.pace.take(sizeBytes, { signal });
        await this.#fetch(blob, { signal: AbortSignal.any([signal, AbortSignal.timeout(longestIngestMs(sizeBytes))]) });
        return;
      } catch (error) {
        if (signal.aborted) throw error;
        if (isAppError(error, 'resource-exhausted')) {
          this.noRoomCount += 1;
          return;
        }
        if (attempt === attemptsMax || this.#options.isOver()) {
          this.failedCount += 1;
          this.error = toAppError(error).message;
          logger.warn('an owned blob could not be brought here; the next round tries again', {
            digest,
            holders: blob.holders,
            error,
          });
          return;
        }
        await clock.sleep(pauseMsMin * 2 ** (attempt - 1), { signal });
      }
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
