/** One blob on its way to its owners: all are asked at once, a quorum acknowledges, the rest goes on behind the caller's back. */
import { AppError, isAppError, toAppError } from '#core';
import type { Member } from './types.ts';

export interface IngestPlan {
  /** Members in ring order, healthy ones first. */
  readonly candidates: readonly Member[];
  /** Asked at once: as many as a blob has owners. */
  readonly replicas: number;
  /** Answers that make the blob safe. */
  readonly quorum: number;
}

export interface IngestOutcome {
  /** Owners that held the blob when the caller was answered. */
  readonly acknowledged: readonly Member[];
  /** Never rejects. Resolves when no owner pulls any more: until then the sources must serve. */
  readonly settled: Promise<void>;
}

/** Asks one member to hold the blob; resolves when it does. */
export type AskOwner = (member: Member, options: { readonly signal: AbortSignal }) => Promise<void>;

/**
 * Resolves when `quorum` members hold the blob; a member that fails is replaced by the next candidate. Aborting `signal` before that stops
 * everything; afterwards only `background` does. Throws `unavailable` with how many of how many when the quorum cannot be reached, or
 * what an owner said is wrong with the blob itself.
 */
export function ingestAtOwners(
  plan: IngestPlan,
  ask: AskOwner,
  options: { readonly signal: AbortSignal; readonly background: AbortSignal },
): Promise<IngestOutcome> {
  const { signal, background } = options;
  return new Promise((resolve, reject) => {
    const abort = new AbortController();
    const queue = [...plan.candidates];
    const acknowledged: Member[] = [];
    const errors: AppError[] = [];
    let runningCount = 0;
    let answered = false;
    let settle = (): void => undefined;
    const settled = new Promise<void>((done) => {
      settle = done;
    });
    const answer = (respond: () => void): void => {
      answered = true;
      signal.removeEventListener('abort', onAbort);
      respond();
    };
    const fail = (error: AppError): void => {
      if (answered) return;
      answer(() => reject(error));
      queue.length = 0;
      abort.abort(error);
    };
    const onAbort = (): void => fail(toAppError(signal.reason));
    const onEnd = (): void => {
      runningCount -= 1;
      if (!answered && acknowledged.length >= plan.quorum) answer(() => resolve({ acknowledged: [...acknowledged], settled }));
      if (acknowledged.length + runningCount < plan.quorum) fail(quorumError(plan, acknowledged, errors));
      if (runningCount > 0) return;
      background.removeEventListener('abort', onBackgroundAbort);
      settle();
    };
    const start = (member: Member | undefined): void => {
      if (member === undefined || abort.signal.aborted) return;
      runningCount += 1;
      ask(member, { signal: abort.signal })
        .then(
          () => acknowledged.push(member),
          (error: unknown) => {
            errors.push(toAppError(error));
            start(queue.shift());
          },
        )
        .finally(onEnd);
    };
    const onBackgroundAbort = (): void => {
      queue.length = 0;
      abort.abort(background.reason);
    };
    if (signal.aborted) return reject(toAppError(signal.reason));
    signal.addEventListener('abort', onAbort, { once: true });
    background.addEventListener('abort', onBackgroundAbort, { once: true });
    if (background.aborted) onBackgroundAbort();
    for (const member of queue.splice(0, plan.replicas)) start(member);
    if (runningCount === 0) fail(quorumError(plan, acknowledged, errors));
  });
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
