/**
 * Keeps a download supplied: finds its metainfo, asks for peers while it has none, and gives up when nobody has served it for too
 * long. A peer that is merely busy counts as a sign of life.
 */

import type { PeerDirectory } from '#cluster';
import { AppError, type Clock, type Digest, identityOf, isAppError, type Logger, type Metainfo, type PeerId, toAppError } from '#core';
import type { BlobStore } from '#storage';
import type { PeerOffer } from '#swarm';
import type { ExchangeRefusal } from '#wire';
import type { PeerLimits } from './options.ts';
import { abortable } from './waiting.ts';

export interface SourceSearchDeps {
  readonly directory: PeerDirectory;
  readonly store: BlobStore;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Aborted when the download ends. */
  readonly signal: AbortSignal;
  readonly offer: (peers: readonly PeerOffer[]) => void;
  readonly giveUp: (error: AppError) => void;
}

type SearchLimits = Pick<PeerLimits, 'noSourceTimeoutMs' | 'noProgressTimeoutMs' | 'lookupIntervalMs'>;

/** Peers named in the message when a download fails. */
const triedCountMax = 8;
/** Peers kept for a download that is about to run; more are offered when it asks. */
const earlyCountMax = 200;

export class SourceSearch {
  readonly #digest: Digest;
  readonly #limits: SearchLimits;
  readonly #deps: SourceSearchDeps;
  readonly #early: PeerOffer[] = [];
  /** What became of the last peers. */
  readonly #tried = new Map<string, string>();
  #openCount = 0;
  /** Last sign that somebody may serve. */
  #heardMs: number;
  #progressMs: number;
  #lookingUp = false;
  /** An owner said that it has no such blob: it looks for it when it is asked. */
  #ownerLacksIt = false;
  #cancelTimer: (() => void) | undefined;

  constructor(digest: Digest, limits: SearchLimits, deps: SourceSearchDeps) {
    this.#digest = digest;
    this.#limits = limits;
    this.#deps = deps;
    this.#heardMs = deps.clock.nowMs();
    this.#progressMs = this.#heardMs;
  }

  /**
   * The metainfo, from the directory or from the pieces that an earlier attempt left on disk. Tries until the time for a download without a
   * source is over. Throws `not-found` when the owners have no such blob, `unavailable` when nobody could say.
   */
  async findMetainfo(): Promise<Metainfo> {
    const { directory, store, clock, signal } = this.#deps;
    const startedMs = clock.nowMs();
    for (;;) {
      try {
        const { metainfo, peers } = await abortable(directory.lookup(this.#digest, { signal }), signal);
        this.remember(peers);
        return metainfo;
      } catch (error) {
        const failure = toAppError(error);
        signal.throwIfAborted();
        if (!isAppError(failure, 'unavailable', 'deadline-exceeded', 'resource-exhausted', 'aborted')) throw failure;
        this.#note('directory', failure.message);
        const known = store.partials().find(({ digest }) => digest === this.#digest);
        if (known !== undefined) return known;
        const waitMs = Math.min(this.#limits.lookupIntervalMs, failure.retryAfterMs ?? this.#limits.lookupIntervalMs);
        if (clock.nowMs() + waitMs - startedMs > this.#limits.noSourceTimeoutMs) throw this.#noSource();
        await clock.sleep(waitMs, { signal });
      }
    }
  }

  /** Peers that were offered before the download runs. */
  remember(peers: readonly PeerOffer[]): void {
    this.#early.push(...peers.slice(0, earlyCountMax - this.#early.length));
  }

  remembered(): readonly PeerOffer[] {
    return this.#early.splice(0);
  }

  /** The download runs: watches it from now on, beginning with its owners as the safety net once nothing comes. */
  watch(): void {
    this.#heardMs = this.#deps.clock.nowMs();
    this.#progressMs = this.#heardMs;
    this.#arm();
  }

  stop(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  progress(): void {
    this.#progressMs = this.#deps.clock.nowMs();
    this.#heardMs = this.#progressMs;
  }

  linkOpened(): void {
    this.#openCount += 1;
    this.#heardMs = this.#deps.clock.nowMs();
  }

  linkRefused(peer: PeerId, reason: ExchangeRefusal): void {
    if (reason === 'busy') this.#heardMs = this.#deps.clock.nowMs();
    this.#note(peer, reason);
    if (reason !== 'unknown-blob' || identityOf(peer).role !== 'origin') return;
    this.#ownerLacksIt = true;
    if (this.#openCount === 0) this.now();
  }

  linkEnded(peer: PeerId, opened: boolean, error: Error | undefined): void {
    if (opened) {
      this.#openCount -= 1;
      this.#heardMs = this.#deps.clock.nowMs();
    }
    if (error !== undefined) this.#note(peer, error.message);
  }

  /** Offers the owners and asks the directory for more, unless it is being asked. */
  now(): void {
    this.#deps.offer(this.#deps.directory.owners(this.#digest));
    if (this.#lookingUp) return;
    this.#lookingUp = true;
    void this.#lookup();
  }

  async #lookup(): Promise<void> {
    const { directory, signal, offer } = this.#deps;
    const asksOwners = this.#ownerLacksIt;
    this.#ownerLacksIt = false;
    try {
      const { peers } = await (asksOwners ? directory.askOwners(this.#digest, { signal }) : directory.lookup(this.#digest, { signal }));
      if (asksOwners) this.#heardMs = this.#deps.clock.nowMs();
      offer(peers);
    } catch (error) {
      const { code, message } = toAppError(error);
      if (!this.#deps.signal.aborted) this.#note('directory', message);
      this.#deps.logger.debug('looking for more sources failed', { digest: this.#digest, code, why: message });
    } finally {
      this.#lookingUp = false;
    }
  }

  #arm(): void {
    const { lookupIntervalMs, noSourceTimeoutMs, noProgressTimeoutMs } = this.#limits;
    this.#cancelTimer = this.#deps.clock.after(Math.min(lookupIntervalMs, noSourceTimeoutMs), () => {
      const nowMs = this.#deps.clock.nowMs();
      const sourceless = this.#openCount === 0;
      if (sourceless && nowMs - this.#heardMs >= noSourceTimeoutMs) return this.#deps.giveUp(this.#noSource());
      if (nowMs - this.#progressMs >= noProgressTimeoutMs) return this.#deps.giveUp(this.#noProgress());
      if (sourceless) this.now();
      this.#arm();
    });
  }

  #note(who: string, what: string): void {
    this.#tried.delete(who);
    this.#tried.set(who, what.slice(0, 200));
    if (this.#tried.size <= triedCountMax) return;
    const [oldest] = this.#tried.keys();
    if (oldest !== undefined) this.#tried.delete(oldest);
  }

  #triedText(): string {
    const tried = [...this.#tried].map(([who, what]) => `${who} (${what})`);
    return tried.length === 0 ? 'no peer was offered' : `tried ${tried.join(', ')}`;
  }

  #noSource(): AppError {
    const seconds = Math.round(this.#limits.noSourceTimeoutMs / 1000);
    return new AppError('unavailable', `no source for the blob within ${seconds} s: ${this.#triedText()}; check that its owners run`, {
      data: { digest: this.#digest },
    });
  }

  #noProgress(): AppError {
    const seconds = Math.round(this.#limits.noProgressTimeoutMs / 1000);
    return new AppError('unavailable', `no piece of the blob arrived within ${seconds} s: ${this.#triedText()}`, {
      data: { digest: this.#digest },
    });
  }
}
