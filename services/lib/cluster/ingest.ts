/** One blob on its way to its owners: a quorum acknowledges, the rest goes on behind the caller's back. */
import { AppError, type Clock, isAppError, toAppError } from '#core';
import type { Member } from './types.ts';

/** How long an owner usually takes to fetch a blob, in milliseconds: 10 s for each GB, on busy machines. */
export function usualIngestMs(sizeBytes: number): number {
  return Math.floor(sizeBytes / 100_000);
}

/** An owner that answers is given time for connecting and syncing, and a pace below which something is broken. */
const timeoutMsMin = 60_000;
const paceBytesPerMs = 1024;

/** How long an owner may take to fetch a blob, in milliseconds: a minute, and the time at 1 MiB/s. */
export function longestIngestMs(sizeBytes: number): number {
  return timeoutMsMin + Math.ceil(sizeBytes / paceBytesPerMs);
}

export interface IngestPlan {
  /** In the order in which they are asked: members in ring order, healthy ones first. */
  readonly candidates: readonly Member[];
  /** How many are to hold the blob. */
  readonly replicas: number;
  /** Answers that make the blob safe. */
  readonly quorum: number;
  /** When those beyond the quorum are asked too: at once by default, or when the quorum holds the blob, but after so many milliseconds at the latest. */
  readonly restAfterMs?: number;
}

export interface IngestOutcome {
  /** Owners that held the blob when the caller was answered. */
  readonly acknowledged: readonly Member[];
  /** Never rejects. Resolves when no owner pulls any more: until then the sources must serve. */
  readonly settled: Promise<void>;
}

/** Asks one member to hold the blob; resolves when it does. */
export type AskOwner = (member: Member, options: { readonly signal: AbortSignal }) => Promise<void>;

export interface IngestSignals {
  readonly signal: AbortSignal;
  readonly background: AbortSignal;
  readonly clock: Pick<Clock, 'after'>;
}

/**
 * Resolves when `quorum` members hold the blob; a member that fails is replaced by the next candidate. Aborting `signal` before that stops
 * everything; afterwards only `background` does. Throws `unavailable` with how many of how many when the quorum cannot be reached, or
 * what an owner said is wrong with the blob itself.
 */
export async function ingestAtOwners(plan: IngestPlan, ask: AskOwner, options: IngestSignals): Promise<IngestOutcome> {
  const { signal, background, clock } = options;
  if (signal.aborted) throw toAppError(signal.reason);
  const ingest = new Ingest(plan, ask);
  const stop = (): void => ingest.stop(toAppError(background.reason));
  const giveUp = (): void => ingest.fail(toAppError(signal.reason));
  signal.addEventListener('abort', giveUp, { once: true });
  background.addEventListener('abort', stop, { once: true });
  void ingest.settled.then(() => background.removeEventListener('abort', stop));
  if (background.aborted) stop();
  ingest.begin(clock);
  try {
    await ingest.safe;
  } finally {
    signal.removeEventListener('abort', giveUp);
  }
  return { acknowledged: [...ingest.acknowledged], settled: ingest.settled };
}

class Ingest {
  readonly acknowledged: Member[] = [];
  /** When the quorum holds the blob, or with why it never will. */
  readonly safe: Promise<void>;
  readonly settled: Promise<void>;
  readonly #plan: IngestPlan;
  readonly #ask: AskOwner;
  readonly #queue: Member[];
  readonly #errors: AppError[] = [];
  readonly #abort = new AbortController();
  #runningCount = 0;
  /** Members that are asked when the quorum holds the blob. */
  #restCount: number;
  #cancelRest: () => void = () => undefined;
  #succeed: () => void = () => undefined;
  #reject: (error: AppError) => void = () => undefined;
  #settle: () => void = () => undefined;

  constructor(plan: IngestPlan, ask: AskOwner) {
    this.#plan = plan;
    this.#ask = ask;
    this.#queue = [...plan.candidates];
    this.#restCount = plan.restAfterMs === undefined ? 0 : Math.max(0, plan.replicas - plan.quorum);
    this.safe = new Promise((resolve, reject) => {
      this.#succeed = resolve;
      this.#reject = reject;
    });
    this.settled = new Promise((resolve) => {
      this.#settle = resolve;
    });
  }

  begin(clock: Pick<Clock, 'after'>): void {
    if (this.#restCount > 0) this.#cancelRest = clock.after(this.#plan.restAfterMs ?? 0, () => this.#startRest());
    this.#startNext(this.#plan.replicas - this.#restCount);
    if (this.#runningCount > 0) return;
    this.#fallShort();
    this.#settle();
  }

  /** Stops everything, unless the quorum holds the blob. */
  fail(error: AppError): void {
    if (this.#isSafe) return;
    this.#reject(error);
    this.stop(error);
  }

  /** Asks nobody any more, and stops those who are asked. */
  stop(error: AppError): void {
    this.#queue.length = 0;
    this.#cancelRest();
    this.#abort.abort(error);
  }

  get #isSafe(): boolean {
    return this.acknowledged.length >= this.#plan.quorum;
  }

  #startNext(count: number): void {
    for (const member of this.#queue.splice(0, count)) this.#start(member);
  }

  #startRest(): void {
    this.#cancelRest();
    this.#startNext(this.#restCount);
    this.#restCount = 0;
  }

  #start(member: Member): void {
    this.#runningCount += 1;
    this.#ask(member, { signal: this.#abort.signal })
      .then(
        () => this.acknowledged.push(member),
        (error: unknown) => {
          this.#errors.push(toAppError(error));
          this.#startNext(1);
        },
      )
      .finally(() => this.#ended());
  }

  #ended(): void {
    this.#runningCount -= 1;
    if (this.#isSafe) {
      this.#startRest();
      this.#succeed();
    } else if (this.acknowledged.length + this.#runningCount < this.#plan.quorum) this.#fallShort();
    if (this.#runningCount === 0) this.#settle();
  }

  #fallShort(): void {
    this.fail(quorumError(this.#plan, this.acknowledged, this.#errors));
  }
}

function quorumError(plan: IngestPlan, acknowledged: readonly Member[], errors: readonly AppError[]): AppError {
  const aboutTheBlob = errors.find((error) => isAppError(error, 'digest-mismatch', 'invalid-argument'));
  if (aboutTheBlob !== undefined) return aboutTheBlob;
  const last = errors.at(-1);
  return new AppError(
    'unavailable',
    `${acknowledged.length} of ${plan.quorum} owners needed hold the blob; push again when more origins are up`,
    {
      data: { acknowledged: acknowledged.length, needed: plan.quorum },
      retryAfterMs: 1000,
      ...(last === undefined ? {} : { cause: last }),
    },
  );
}
