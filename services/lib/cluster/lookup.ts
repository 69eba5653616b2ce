/**
 * One search for a blob's metainfo, shared by all who ask: the tracker first, the owners as well when it is slow, cannot answer or breaks off. The
 * first answer wins; "there is none" is an answer.
 */
import { AppError, type Clock, type Digest, isAppError, type Metainfo, toAppError } from '#core';
import type { PeerOffer } from '#swarm';
import type { LookupResult } from './types.ts';

export interface LookupOptions {
  /** How long the tracker may be silent before the owners are asked, in milliseconds. */
  readonly hedgeMs: number;
  /** How long the tracker may still answer after the owners could not, in milliseconds. */
  readonly graceMs: number;
}

export interface LookupDeps {
  readonly clock: Clock;
  /** Asks the owners. */
  readonly askOwners: (digest: Digest, options: { readonly signal: AbortSignal }) => Promise<Metainfo>;
  readonly owners: (digest: Digest) => readonly PeerOffer[];
}

export class Lookup {
  readonly digest: Digest;
  readonly #options: LookupOptions;
  readonly #deps: LookupDeps;
  readonly #abort = new AbortController();
  readonly #result: Promise<LookupResult>;
  #settle: { readonly resolve: (result: LookupResult) => void; readonly reject: (error: AppError) => void } | undefined;
  #cancelTimer: () => void = () => undefined;
  #waiterCount = 0;
  #askedOwners = false;
  #trackerPending: boolean;
  #ownersError: AppError | undefined;

  /** `trackerAsked`: a tracker was asked; otherwise the owners are, at once. */
  constructor(digest: Digest, trackerAsked: boolean, options: LookupOptions, deps: LookupDeps) {
    this.digest = digest;
    this.#options = options;
    this.#deps = deps;
    this.#trackerPending = trackerAsked;
    this.#result = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    this.#result.catch(() => undefined);
    if (trackerAsked) this.#cancelTimer = deps.clock.after(options.hedgeMs, () => this.#askOwners());
    else this.#askOwners();
  }

  /** Resolves or rejects once, when the search ends, whoever still waits. */
  get ended(): Promise<boolean> {
    return this.#result.then(
      () => true,
      () => false,
    );
  }

  /** The shared result. When the signals of all who joined are aborted the search ends. */
  join({ signal }: { readonly signal: AbortSignal }): Promise<LookupResult> {
    if (signal.aborted) return Promise.reject(toAppError(signal.reason));
    this.#waiterCount += 1;
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#waiterCount -= 1;
        reject(toAppError(signal.reason));
        if (this.#waiterCount === 0) this.cancel(new AppError('cancelled', 'nobody waits for the blob any more'));
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#result.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
    });
  }

  /** The tracker offered peers and metainfo. */
  offered(metainfo: Metainfo, peers: readonly PeerOffer[]): void {
    this.#finish({ metainfo, peers });
  }

  /** The tracker answered that there is no such blob. */
  unknown(message: string): void {
    this.#finish(new AppError('not-found', message || 'no owner has this blob', { data: { kind: 'blob', digest: this.digest } }));
  }

  /** The tracker cannot answer: the owners are asked at once. */
  trackerFailed(): void {
    this.#trackerPending = false;
    if (this.#ownersError !== undefined) this.#finish(this.#ownersError);
    else this.#askOwners();
  }

  /** Another tracker was asked in the place of one that failed. */
  trackerReplaced(): void {
    this.#trackerPending = true;
  }

  cancel(reason: AppError): void {
    this.#finish(reason);
  }

  #askOwners(): void {
    if (this.#askedOwners || this.#settle === undefined) return;
    this.#askedOwners = true;
    this.#cancelTimer();
    this.#deps.askOwners(this.digest, { signal: this.#abort.signal }).then(
      (metainfo) => this.#finish({ metainfo, peers: this.#deps.owners(this.digest) }),
      (error: unknown) => this.#ownersFailed(toAppError(error)),
    );
  }

  #ownersFailed(error: AppError): void {
    if (this.#settle === undefined) return;
    this.#ownersError = error;
    if (!this.#trackerPending || isAppError(error, 'not-found')) this.#finish(error);
    else this.#cancelTimer = this.#deps.clock.after(this.#options.graceMs, () => this.#finish(error));
  }

  #finish(outcome: LookupResult | AppError): void {
    const settle = this.#settle;
    if (settle === undefined) return;
    this.#settle = undefined;
    this.#cancelTimer();
    if (outcome instanceof AppError) settle.reject(outcome);
    else settle.resolve(outcome);
    this.#abort.abort(new AppError('cancelled', 'the lookup ended'));
  }
}
