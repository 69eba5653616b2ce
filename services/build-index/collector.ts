/**
 * Garbage collection of names. It walks through the repositories in small steps, plans what may go, and removes it in batches, each one transaction
 * that looks again: pushes and pulls go on meanwhile.
 */
import {
  AppError,
  type Clock,
  type Counter,
  type Digest,
  globMatcher,
  type Logger,
  type Meter,
  type RepositoryName,
  type Rng,
  toAppError,
} from '#core';
import { atIntervals } from '#runtime';
import { mayGo, type PlannedItem, type PlanTerms, planRepository } from './garbage-plan.ts';
import { wallMsOf } from './hlc.ts';
import { RepositoryRows } from './repository-view.ts';
import type { RetentionRule } from './retention.ts';
import { type IndexStore, leaseResolutionMs } from './store.ts';

export interface NamesCollectorOptions {
  /** Between two collections; 0: only when asked for. */
  readonly intervalMs: number;
  /** What a push wanted within this time stays. */
  readonly graceMs: number;
  /** Tombstones of tags go after this time. */
  readonly tombstoneMs: number;
  readonly ruleOf: (repository: string) => RetentionRule;
}

export interface NamesCollectorDeps {
  readonly store: IndexStore;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
  readonly meter: Meter;
}

export interface NamesRequest {
  readonly dryRun: boolean;
  /** Undefined: every repository. */
  readonly pattern?: string | undefined;
  /** Instead of the configured one. */
  readonly graceMs?: number | undefined;
}

/** Something that went, or in a dry run would go. */
export interface NameItem {
  readonly kind: 'tag' | 'manifest' | 'blob' | 'tombstone';
  readonly repository: string;
  readonly digest: Digest;
  readonly tag: string;
  readonly sizeBytes: number;
  /** No repository shows the bytes any more. */
  readonly freesBytes: boolean;
}

export interface NamesProgress {
  readonly items: readonly NameItem[];
  readonly repositoryCount: number;
  readonly repositoryTotal: number;
}

interface LastRun {
  readonly endedMs: number;
  readonly itemCount: number;
  readonly error: string | undefined;
}

/** A transaction of so many removals takes a few milliseconds. */
const batchSize = 100;
/** Of one repository in one collection: bounds the memory of a plan to some tens of megabytes. The next collection goes on. */
const itemsPerRepositoryMax = 100_000;
const pageSize = 1000;

export class NamesCollector {
  readonly #options: NamesCollectorOptions;
  readonly #deps: NamesCollectorDeps;
  readonly #removed: Counter;
  #running = false;
  #last: LastRun | undefined;

  constructor(options: NamesCollectorOptions, deps: NamesCollectorDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#removed = deps.meter.counter('shoal_index_collected_rows', 'Tags, manifests, links and tombstones that were collected');
  }

  /**
   * One collection. Ends early, between two batches, when the iteration is left or `signal` aborts. Throws `aborted` while another one runs and
   * `invalid-argument` for a malformed pattern.
   */
  async *run(request: NamesRequest, { signal }: { readonly signal: AbortSignal }): AsyncGenerator<NamesProgress, void> {
    const isMeant = globMatcher([request.pattern ?? '**']);
    if (this.#running) throw new AppError('aborted', 'a collection of names is running; wait until it is over', { retryAfterMs: 5000 });
    this.#running = true;
    let itemCount = 0;
    let error: string | undefined = 'stopped before its end';
    try {
      for await (const progress of this.#collect(request, isMeant)) {
        signal.throwIfAborted();
        itemCount += progress.items.length;
        yield progress;
      }
      error = undefined;
    } catch (reason) {
      error = toAppError(reason).message;
      throw reason;
    } finally {
      this.#running = false;
      if (!request.dryRun) this.#end({ endedMs: this.#deps.clock.wallMs(), itemCount, error });
    }
  }

  /** Collects at intervals until `signal` aborts. */
  async runAtIntervals(options: { readonly signal: AbortSignal }): Promise<void> {
    const plan = { task: 'gc', intervalMs: this.#options.intervalMs };
    const collect: Parameters<typeof atIntervals>[1] = async (call) => {
      for await (const _progress of this.run({ dryRun: false }, call));
    };
    await atIntervals(plan, collect, this.#deps, options);
  }

  /** For operators. */
  state(): { readonly healthy: boolean; readonly message: string } {
    if (this.#last === undefined) return { healthy: true, message: this.#options.intervalMs === 0 ? 'on demand' : 'no run yet' };
    const { endedMs, itemCount, error } = this.#last;
    const agoMinutes = Math.max(0, Math.round((this.#deps.clock.wallMs() - endedMs) / 60_000));
    return { healthy: error === undefined, message: `${agoMinutes} min ago: ${error ?? `${itemCount} removed`}` };
  }

  async *#collect(request: NamesRequest, isMeant: (name: string) => boolean): AsyncGenerator<NamesProgress, void> {
    const repositories = await this.#repositories(isMeant);
    const promised = new Map<Digest, number>();
    let repositoryCount = 0;
    const progress = (items: readonly NameItem[]): NamesProgress => ({ items, repositoryCount, repositoryTotal: repositories.length });
    for (const repository of repositories) {
      for await (const items of this.#collectRepository(repository, request, promised)) yield progress(items);
      repositoryCount += 1;
      yield progress([]);
    }
    if (request.pattern !== undefined) return;
    for await (const items of this.#collectTombstones(request)) yield progress(items);
    if (!request.dryRun) await this.#purgeFences();
  }

  async #repositories(isMeant: (name: string) => boolean): Promise<readonly RepositoryName[]> {
    const found: RepositoryName[] = [];
    for (let after: string | undefined; ; ) {
      const page = this.#deps.store.listRepositories({ limit: pageSize, ...(after === undefined ? {} : { after }) });
      found.push(...page.items.filter(isMeant));
      after = page.items.at(-1);
      if (!page.more || after === undefined) return found;
      await breath();
    }
  }

  async *#collectRepository(
    repository: RepositoryName,
    request: NamesRequest,
    promised: Map<Digest, number>,
  ): AsyncGenerator<readonly NameItem[], void> {
    const view = new RepositoryRows(repository, this.#deps.store.rows);
    const rule = this.#options.ruleOf(repository);
    let batch: PlannedItem[] = [];
    const settle = async (): Promise<readonly NameItem[]> => {
      const items = batch;
      batch = [];
      const terms = this.#terms(rule, request);
      return request.dryRun ? items.map((item) => this.#promise(repository, item, promised)) : this.#remove(repository, view, items, terms);
    };
    for (const item of planRepository(view, this.#terms(rule, request), itemsPerRepositoryMax)) {
      if (item !== undefined) batch.push(item);
      else await breath();
      if (batch.length >= batchSize) yield await settle();
    }
    if (batch.length > 0) yield await settle();
  }

  #terms(rule: RetentionRule, request: NamesRequest): PlanTerms {
    // Leases are written with a resolution, which counts for the pusher.
    const graceMs = request.graceMs ?? this.#options.graceMs + leaseResolutionMs;
    return { rule, nowMs: this.#deps.clock.wallMs(), graceMs };
  }

  /** Removes those items that still may go, in one transaction. */
  async #remove(
    repository: RepositoryName,
    view: RepositoryRows,
    items: readonly PlannedItem[],
    terms: PlanTerms,
  ): Promise<readonly NameItem[]> {
    const { store } = this.#deps;
    const removed = await store.write(() => {
      const gone: NameItem[] = [];
      for (const item of items) {
        // The transaction may begin later than the plan: time goes on from where the leases are now.
        if (!mayGo(item, view, { ...terms, nowMs: this.#deps.clock.wallMs() })) continue;
        removeItem(store, repository, item);
        gone.push(nameItem(repository, item, (digest) => !store.fences.isReferenced(digest)));
      }
      return gone;
    });
    this.#removed.add(removed.length);
    return removed;
  }

  /** An item of a dry run: its bytes become free when every repository that shows them gives them up. */
  #promise(repository: RepositoryName, item: PlannedItem, promised: Map<Digest, number>): NameItem {
    return nameItem(repository, item, (digest) => {
      const holderCount = this.#deps.store.fences.holderCount(digest);
      const givenUpCount = (promised.get(digest) ?? 0) + 1;
      if (holderCount > 1) promised.set(digest, givenUpCount);
      return givenUpCount >= holderCount;
    });
  }

  async *#collectTombstones(request: NamesRequest): AsyncGenerator<readonly NameItem[], void> {
    const { store, clock } = this.#deps;
    const { tags } = store.rows.tables;
    const isOld = (row: { readonly deleted: boolean; readonly version: string } | undefined): boolean =>
      row?.deleted === true && clock.wallMs() - wallMsOf(BigInt(row.version)) >= this.#options.tombstoneMs;
    for (let start: string[] = ['']; ; ) {
      const page = [...tags.getRange({ start, limit: pageSize })];
      const old = page.filter(({ value }) => isOld(value));
      if (old.length > 0 && !request.dryRun) {
        await store.write(() => {
          for (const { key } of old) if (isOld(tags.get(key))) tags.removeSync(key);
        });
      }
      yield old.map(({ key: [repository, tag], value }) => ({
        kind: 'tombstone',
        repository: String(repository),
        digest: value.digest,
        tag: String(tag),
        sizeBytes: 0,
        freesBytes: false,
      }));
      const last = page.at(-1);
      if (page.length < pageSize || last === undefined) return;
      start = [...last.key, ''];
      await breath();
    }
  }

  async #purgeFences(): Promise<void> {
    const { store } = this.#deps;
    let after: readonly string[] | undefined = [];
    while (after !== undefined) {
      const from: readonly string[] = after;
      after = await store.write(() => store.fences.purge(pageSize, from));
    }
  }

  #end(run: LastRun): void {
    this.#last = run;
    this.#deps.logger.info('collected garbage among the names', {
      items: run.itemCount,
      ...(run.error === undefined ? {} : { error: run.error }),
    });
  }
}

function removeItem({ rows }: IndexStore, repository: RepositoryName, item: PlannedItem): void {
  switch (item.kind) {
    case 'tag':
      rows.deleteTag(repository, item.tag);
      return;
    case 'manifest': {
      const entry = rows.manifest(repository, item.digest);
      if (entry !== undefined) rows.deleteManifest(repository, entry);
      return;
    }
    case 'blob':
      rows.unlink(repository, item.digest);
  }
}

function nameItem(repository: RepositoryName, item: PlannedItem, isFreed: (digest: Digest) => boolean): NameItem {
  if (item.kind === 'tag') {
    const { tag, digest } = item.tag;
    return { kind: 'tag', repository, digest, tag, sizeBytes: 0, freesBytes: false };
  }
  const { kind, digest, sizeBytes } = item;
  return { kind, repository, digest, tag: '', sizeBytes, freesBytes: isFreed(digest) };
}

/** Lets requests that wait be served between two steps. */
async function breath(): Promise<void> {
  await new Promise<void>((resolve) => setImmediate(resolve));
}
