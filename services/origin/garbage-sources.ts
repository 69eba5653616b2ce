/** Where an origin looks for garbage: its disk, its queue of write-backs, and the part of durable storage that it looks after. */
import type { Clock, Digest } from '#core';
import type { BlobBackend, BlobStore } from '#storage';
import { copyDeadlineMs, statDeadlineMs, withDeadline } from './deadline.ts';
import type { GarbageMarks } from './garbage-marks.ts';
import type { WriteBack } from './write-back.ts';

export interface GarbageSourcesDeps {
  readonly store: Pick<BlobStore, 'list' | 'stat'>;
  readonly backend: BlobBackend | undefined;
  readonly writeBack: Pick<WriteBack, 'isPending' | 'list'>;
  readonly marks: GarbageMarks;
  readonly isFirstOwner: (digest: Digest) => boolean;
  readonly clock: Clock;
}

/** What the index answers about at a time. */
const pageSize = 500;

interface Page {
  readonly limit: number;
  readonly after?: Digest;
}

export class GarbageSources {
  readonly #deps: GarbageSourcesDeps;

  constructor(deps: GarbageSourcesDeps) {
    this.#deps = deps;
  }

  async countOnDisk(): Promise<number> {
    let count = 0;
    for await (const page of paged(async (at) => this.#onDisk(at))) count += page.length;
    return count;
  }

  /** Every blob that this origin answers for, in pages of at most 500. */
  async *pages(options: { readonly signal: AbortSignal }): AsyncGenerator<readonly Digest[]> {
    const { store, writeBack, backend, isFirstOwner, clock } = this.#deps;
    const isElsewhere = (digest: Digest): boolean => store.stat(digest) === undefined;
    yield* paged(async (at) => this.#onDisk(at));
    for await (const page of paged(async (at) => writeBack.list(at).map(({ digest }) => digest))) yield page.filter(isElsewhere);
    if (backend === undefined) return;
    const list = async (at: Page): Promise<readonly Digest[]> =>
      withDeadline(copyDeadlineMs(0), { clock, signal: options.signal }, (call) => backend.list(at, call));
    for await (const page of paged(list)) yield page.filter((digest) => isElsewhere(digest) && isFirstOwner(digest));
  }

  /** Forgets marks of blobs that have left this origin by another way. */
  async pruneMarks({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    const { marks } = this.#deps;
    for await (const page of paged(async (at) => marks.list(at))) {
      const gone: Digest[] = [];
      for (const digest of page) if (!(await this.#isHere(digest, signal))) gone.push(digest);
      await marks.note({ unreferenced: [], referenced: gone }, 0);
    }
  }

  async #isHere(digest: Digest, signal: AbortSignal): Promise<boolean> {
    const { store, writeBack, backend, isFirstOwner, clock } = this.#deps;
    if (store.stat(digest) !== undefined || writeBack.isPending(digest)) return true;
    if (backend === undefined || !isFirstOwner(digest)) return false;
    return (await withDeadline(statDeadlineMs, { clock, signal }, (call) => backend.stat(digest, call))) !== undefined;
  }

  #onDisk(page: Page): readonly Digest[] {
    return this.#deps.store.list(page).map(({ digest }) => digest);
  }
}

/** The pages of a list, letting others work between two of them. */
async function* paged(read: (page: Page) => Promise<readonly Digest[]>): AsyncGenerator<readonly Digest[]> {
  for (let after: Digest | undefined; ; ) {
    const page = await read({ limit: pageSize, ...(after === undefined ? {} : { after }) });
    yield page;
    after = page.at(-1);
    if (page.length < pageSize || after === undefined) return;
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}
