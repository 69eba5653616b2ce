/** What the other origins hold, as one list in digest order: their lists are read page by page, side by side, and merged. */
import type { HeldBlob, MemberStatus, OriginCluster } from '#cluster';
import { type Clock, type Digest, type Logger, toAppError } from '#core';

/** A blob and the origins that say they hold it. */
export interface SurveyedBlob extends HeldBlob {
  /** Ids. */
  readonly holders: readonly string[];
}

export interface SurveyDeps {
  readonly origins: Pick<OriginCluster, 'listBlobs'>;
  readonly clock: Pick<Clock, 'sleep'>;
  readonly logger: Logger;
}

const pageSize = 1000;
/** Between two pages of an origin: some 50,000 of its blobs a second are looked at, at most. */
const pauseMs = 20;

/**
 * Yields each blob once that durable storage is not known to hold; of what storage holds, `onlyPending` leaves out what an origin lists that cannot tell
 * (an older release). A member that does not answer holds nothing, and `onSilent` is told.
 */
export async function* survey(
  members: readonly MemberStatus[],
  {
    onlyPending,
    onSilent,
    signal,
  }: { readonly onlyPending: boolean; readonly onSilent: (id: string) => void; readonly signal: AbortSignal },
  deps: SurveyDeps,
): AsyncGenerator<SurveyedBlob> {
  const lists = members.map((member) => new HeldList(member, onlyPending, deps));
  for (;;) {
    await Promise.all(lists.map(async (list) => list.fill({ signal, onSilent })));
    signal.throwIfAborted();
    // A page of a list may lie wholly before the next blob of another: merged as far as each has something to show.
    while (lists.every((list) => list.isReady)) {
      const first = lists.reduce<HeldBlob | undefined>((least, { head }) => (isBefore(head, least) ? head : least), undefined);
      if (first === undefined) return;
      const holders = lists.filter(({ head }) => head?.digest === first.digest);
      for (const list of holders) list.advance();
      yield { ...first, holders: holders.map(({ id }) => id) };
    }
  }
}

function isBefore(blob: HeldBlob | undefined, other: HeldBlob | undefined): boolean {
  return blob !== undefined && (other === undefined || blob.digest < other.digest);
}

/** The list of one origin, a page of it in memory. */
class HeldList {
  readonly id: string;
  readonly #member: MemberStatus;
  readonly #onlyPending: boolean;
  readonly #deps: SurveyDeps;
  #page: readonly HeldBlob[] = [];
  #at = 0;
  #after: Digest | undefined;
  /** No page comes after this one. */
  #isLastPage = false;

  constructor(member: MemberStatus, onlyPending: boolean, deps: SurveyDeps) {
    this.id = member.id;
    this.#member = member;
    this.#onlyPending = onlyPending;
    this.#deps = deps;
  }

  get head(): HeldBlob | undefined {
    return this.#page[this.#at];
  }

  /** Whether `head` is the next blob or the end. */
  get isReady(): boolean {
    return this.#isLastPage || this.head !== undefined;
  }

  advance(): void {
    this.#at += 1;
  }

  /** Reads on until there is a blob or the end. */
  async fill({ signal, onSilent }: { readonly signal: AbortSignal; readonly onSilent: (id: string) => void }): Promise<void> {
    const { origins, clock, logger } = this.#deps;
    while (!this.isReady) {
      try {
        if (this.#after !== undefined) await clock.sleep(pauseMs, { signal });
        const page = { limit: pageSize, notInStorage: true, ...(this.#after === undefined ? {} : { after: this.#after }) };
        const { blobs, next } = await origins.listBlobs(this.#member, page, { signal });
        this.#page = this.#onlyPending ? blobs.filter(({ writeBackPending }) => writeBackPending) : blobs;
        this.#at = 0;
        this.#after = next;
        this.#isLastPage = next === undefined;
      } catch (error) {
        if (signal.aborted) return;
        logger.debug('an origin did not list its blobs', { id: this.id, error: toAppError(error).message });
        onSilent(this.id);
        this.#page = [];
        this.#isLastPage = true;
      }
    }
  }
}
