/**
 * Garbage collection of bytes on this origin. A blob that no repository shows is marked; once it has been marked for the grace it is claimed at the
 * build-index, deleted here and in durable storage, and released. The claim is what keeps a push of the same blob safe: see fences.ts of the
 * build-index. Without an answer of the index nothing is deleted.
 */
import type { BuildIndexClient, IndexVerdict } from '#cluster';
import { AppError, type Clock, type Counter, type Digest, type Logger, type Meter, type Rng, toAppError } from '#core';
import { atIntervals } from '#runtime';
import type { BlobBackend, BlobStore } from '#storage';
import type { BlobsInUse } from './blobs-in-use.ts';
import { statDeadlineMs, withDeadline } from './deadline.ts';
import type { GarbageMarks } from './garbage-marks.ts';
import { GarbageSources } from './garbage-sources.ts';
import { IndexTrust } from './index-trust.ts';
import type { WriteBack } from './write-back.ts';

export interface BytesCollectorOptions {
  /** Between two collections; 0: only when asked for. */
  readonly intervalMs: number;
  /** Between the mark and the deletion. */
  readonly graceMs: number;
}

export interface BytesCollectorDeps {
  readonly index: Pick<BuildIndexClient, 'findUnreferencedBlobs' | 'claimBlobs' | 'releaseBlobs'>;
  readonly store: BlobStore;
  readonly backend: BlobBackend | undefined;
  readonly writeBack: Pick<WriteBack, 'forget' | 'isPending' | 'list'>;
  readonly marks: GarbageMarks;
  readonly inUse: BlobsInUse;
  /** Whether this origin looks after a blob in durable storage. */
  readonly isFirstOwner: (digest: Digest) => boolean;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
  readonly meter: Meter;
}

export interface BytesRequest {
  readonly dryRun: boolean;
  /** Instead of the configured one. */
  readonly graceMs?: number | undefined;
  /** Believe an index that has changed. */
  readonly trustIndex?: boolean;
}

export interface CollectedBlob {
  readonly digest: Digest;
  readonly diskBytes: number;
  readonly storageBytes: number;
  readonly outcome: 'deleted' | 'waiting' | 'kept' | 'failed';
  readonly markedMs: number;
}

export interface BytesProgress {
  readonly blobs: readonly CollectedBlob[];
  readonly checkedCount: number;
  readonly blobTotal: number;
}

export interface BytesRun {
  readonly endedMs: number;
  readonly checkedCount: number;
  readonly deletedCount: number;
  readonly diskBytes: number;
  readonly storageBytes: number;
  readonly waitingCount: number;
  readonly error: string | undefined;
}

/** Claims of one batch; it is deleted in a fraction of a second, so that a push of one of them waits no longer. */
const batchSize = 50;
const concurrency = 4;
/** Between two pages: some 50,000 blobs a second are looked at, at most. */
const pauseMs = 10;

export class BytesCollector {
  readonly #options: BytesCollectorOptions;
  readonly #deps: BytesCollectorDeps;
  readonly #sources: GarbageSources;
  readonly #trust: IndexTrust;
  readonly #freed: Counter;
  #running = false;
  #last: BytesRun | undefined;

  constructor(options: BytesCollectorOptions, deps: BytesCollectorDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#sources = new GarbageSources(deps);
    this.#trust = new IndexTrust(deps.marks);
    this.#freed = deps.meter.counter('shoal_origin_collected_bytes', 'Bytes of garbage deleted, by where they were');
  }

  /** The last collection that was no dry run. */
  last(): BytesRun | undefined {
    return this.#last;
  }

  /** For operators. */
  state(): { readonly healthy: boolean; readonly message: string } {
    if (this.#last === undefined) return { healthy: true, message: this.#options.intervalMs === 0 ? 'on demand' : 'no run yet' };
    const { endedMs, error, deletedCount, waitingCount } = this.#last;
    const agoMinutes = Math.max(0, Math.round((this.#deps.clock.wallMs() - endedMs) / 60_000));
    return {
      healthy: error === undefined,
      message: `${agoMinutes} min ago: ${error ?? `${deletedCount} deleted, ${waitingCount} waiting`}`,
    };
  }

  async runAtIntervals(options: { readonly signal: AbortSignal }): Promise<void> {
    const collect: Parameters<typeof atIntervals>[1] = async (call) => {
      for await (const _progress of this.run({ dryRun: false }, call));
    };
    await atIntervals({ task: 'gc', intervalMs: this.#options.intervalMs }, collect, this.#deps, options);
  }

  /** One collection. Ends early, between two batches, when the iteration is left or `signal` aborts. Throws `aborted` while another one runs. */
  async *run(request: BytesRequest, options: { readonly signal: AbortSignal }): AsyncGenerator<BytesProgress, void> {
    if (this.#running)
      throw new AppError('aborted', 'a collection of bytes is running here; wait until it is over', { retryAfterMs: 5000 });
    this.#running = true;
    let run: BytesRun = {
      endedMs: 0,
      checkedCount: 0,
      deletedCount: 0,
      diskBytes: 0,
      storageBytes: 0,
      waitingCount: 0,
      error: 'stopped before its end',
    };
    try {
      const blobTotal = await this.#sources.countOnDisk();
      for await (const page of this.#sources.pages(options)) {
        const blobs = await this.#judge(page, request, options);
        run = withBlobs(run, page.length, blobs);
        yield { blobs, checkedCount: run.checkedCount, blobTotal };
        await this.#deps.clock.sleep(pauseMs, options);
      }
      if (!request.dryRun) await this.#sources.pruneMarks(options);
      run = { ...run, error: undefined };
    } catch (error) {
      run = { ...run, error: toAppError(error).message };
      throw error;
    } finally {
      this.#running = false;
      if (!request.dryRun) this.#end({ ...run, endedMs: this.#deps.clock.wallMs() });
    }
  }

  /** Asks the index about a page of blobs, marks what nobody shows, and deletes what is due. */
  async #judge(
    page: readonly Digest[],
    request: BytesRequest,
    options: { readonly signal: AbortSignal },
  ): Promise<readonly CollectedBlob[]> {
    const { index, marks, clock } = this.#deps;
    if (page.length === 0) return [];
    const verdict = await index.findUnreferencedBlobs(page, options);
    await this.#believe(verdict, request);
    const unreferenced = new Set(verdict.digests);
    const nowMs = clock.wallMs();
    const garbage = page.filter((digest) => unreferenced.has(digest));
    if (!request.dryRun) await marks.note({ unreferenced: garbage, referenced: page.filter((digest) => !unreferenced.has(digest)) }, nowMs);
    const graceMs = request.graceMs ?? this.#options.graceMs;
    const isDue = (digest: Digest): boolean => nowMs - (marks.sinceMs(digest) ?? nowMs) >= graceMs;
    const results: CollectedBlob[] = garbage.filter((digest) => !isDue(digest)).map((digest) => this.#blob(digest, 'waiting'));
    const due = garbage.filter(isDue);
    for (let at = 0; at < due.length; at += batchSize) {
      options.signal.throwIfAborted();
      const batch = due.slice(at, at + batchSize);
      results.push(...(request.dryRun ? await this.#sizes(batch, options) : await this.#delete(batch, request, options)));
    }
    return results;
  }

  async #believe({ index }: IndexVerdict, request: BytesRequest): Promise<void> {
    if (request.trustIndex !== true) this.#trust.check(index);
    if (!request.dryRun) await this.#trust.accept(index);
  }

  async #sizes(batch: readonly Digest[], options: { readonly signal: AbortSignal }): Promise<readonly CollectedBlob[]> {
    const sized: CollectedBlob[] = [];
    for (const digest of batch)
      sized.push({ ...this.#blob(digest, 'deleted'), storageBytes: (await this.#storageBytes(digest, options)) ?? 0 });
    return sized;
  }

  async #delete(
    batch: readonly Digest[],
    request: BytesRequest,
    options: { readonly signal: AbortSignal },
  ): Promise<readonly CollectedBlob[]> {
    const { index, clock } = this.#deps;
    const claimedAtMs = clock.nowMs();
    try {
      const claim = await index.claimBlobs(batch, options);
      await this.#believe(claim, request);
      const claimed = new Set(claim.digests);
      const queue = [...batch];
      const results: CollectedBlob[] = [];
      const worker = async (): Promise<void> => {
        for (let digest = queue.shift(); digest !== undefined; digest = queue.shift()) {
          // Half of the time is left for what is slow to be over before the claim is.
          const mayDelete = claimed.has(digest) && !options.signal.aborted && clock.nowMs() - claimedAtMs < claim.lifetimeMs / 2;
          results.push(mayDelete ? await this.#deleteOne(digest) : this.#blob(digest, 'kept'));
        }
      };
      await Promise.all(Array.from({ length: concurrency }, worker));
      return results;
    } finally {
      await this.#release(batch);
    }
  }

  /** Also when the claim failed: it may have arrived. */
  async #release(batch: readonly Digest[]): Promise<void> {
    try {
      await this.#deps.index.releaseBlobs(batch, { signal: new AbortController().signal });
    } catch (error) {
      this.#deps.logger.warn('claims could not be released; these blobs can be pushed again in five minutes', {
        count: batch.length,
        error: toAppError(error).message,
      });
    }
  }

  async #deleteOne(digest: Digest): Promise<CollectedBlob> {
    const { store, marks, inUse, writeBack, backend, clock } = this.#deps;
    // Not the caller's: what is half deleted would be deleted by the next run, but nobody would know what storage has.
    const { signal } = new AbortController();
    try {
      const deleted = await inUse.deleteUnlessHeld(digest, async () => {
        const before = this.#blob(digest, 'deleted');
        await writeBack.forget(digest);
        const storageBytes = await this.#storageBytes(digest, { signal });
        if (backend !== undefined && storageBytes !== undefined) {
          await withDeadline(statDeadlineMs, { clock, signal }, (call) => backend.delete(digest, call));
        }
        await store.delete(digest);
        await marks.clear(digest);
        return { ...before, storageBytes: storageBytes ?? 0 };
      });
      return deleted ?? this.#blob(digest, 'kept');
    } catch (error) {
      this.#deps.logger.warn('garbage could not be deleted; the next collection tries again', { digest, error: toAppError(error).message });
      return this.#blob(digest, 'failed');
    }
  }

  async #storageBytes(digest: Digest, { signal }: { readonly signal: AbortSignal }): Promise<number | undefined> {
    const { backend, clock } = this.#deps;
    if (backend === undefined) return undefined;
    return withDeadline(statDeadlineMs, { clock, signal }, (call) => backend.stat(digest, call));
  }

  #blob(digest: Digest, outcome: CollectedBlob['outcome']): CollectedBlob {
    const { store, marks, clock } = this.#deps;
    const diskBytes = store.stat(digest)?.sizeBytes ?? 0;
    return { digest, diskBytes, storageBytes: 0, outcome, markedMs: marks.sinceMs(digest) ?? clock.wallMs() };
  }

  #end(run: BytesRun): void {
    this.#last = run;
    this.#freed.add(run.diskBytes, { where: 'disk' });
    this.#freed.add(run.storageBytes, { where: 'storage' });
    const { endedMs: _now, ...fields } = run;
    this.#deps.logger.info('collected garbage among the blobs', fields);
  }
}

function withBlobs(run: BytesRun, checkedCount: number, blobs: readonly CollectedBlob[]): BytesRun {
  const deleted = blobs.filter(({ outcome }) => outcome === 'deleted');
  return {
    ...run,
    checkedCount: run.checkedCount + checkedCount,
    deletedCount: run.deletedCount + deleted.length,
    diskBytes: run.diskBytes + deleted.reduce((sum, { diskBytes }) => sum + diskBytes, 0),
    storageBytes: run.storageBytes + deleted.reduce((sum, { storageBytes }) => sum + storageBytes, 0),
    waitingCount: run.waitingCount + blobs.filter(({ outcome }) => outcome === 'waiting').length,
  };
}
