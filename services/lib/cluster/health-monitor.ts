/** Knows which members answer: by checking them (grpc.health.v1) and by what callers report. */
import { type Clock, type Logger, type Rng, type Role, toAppError } from '#core';
import { defaultHealthThresholds, type HealthState, type HealthThresholds, MemberHealth } from '#placement';
import type { Channels, Member } from './types.ts';

/**
 * Whom to check without a reason. `all`: servers, who are few. `suspects`: only members that failed, until they answer again; for
 * agents, as 15,000 of them checking every origin would keep as many connections open and one of its cores busy.
 */
export type ProbeMode = 'all' | 'suspects';

export interface HealthMonitorOptions {
  readonly members: readonly Member[];
  readonly role: Role;
  readonly probe?: ProbeMode;
  /** Between checks of a member that is well; 5 s by default, jittered by a fifth. */
  readonly intervalMs?: number;
  /** Before the next check of a member that failed, doubled up to `intervalMs`; 500 ms by default. */
  readonly recheckMs?: number;
  /** Of one check; 2 s by default. */
  readonly timeoutMs?: number;
  /** Checks at a time; 16 by default. */
  readonly concurrency?: number;
  readonly thresholds?: HealthThresholds;
}

export interface HealthMonitorDeps {
  readonly channels: Channels;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
}

interface Watched {
  readonly member: Member;
  readonly health: MemberHealth;
  failureCount: number;
  checking: boolean;
  cancelTimer: () => void;
}

export type HealthListener = (id: string, state: HealthState) => void;

const nothing = (): void => undefined;

export class HealthMonitor implements AsyncDisposable {
  readonly #options: Required<Omit<HealthMonitorOptions, 'members' | 'thresholds'>>;
  readonly #deps: HealthMonitorDeps;
  readonly #watched = new Map<string, Watched>();
  readonly #listeners = new Set<HealthListener>();
  readonly #queue: Watched[] = [];
  readonly #running = new Set<Promise<void>>();
  readonly #abort = new AbortController();

  /** Begins to check at once; the first checks are spread over one interval. */
  constructor(options: HealthMonitorOptions, deps: HealthMonitorDeps) {
    this.#options = { probe: 'all', intervalMs: 5000, recheckMs: 500, timeoutMs: 2000, concurrency: 16, ...options };
    this.#deps = deps;
    for (const member of options.members) {
      const health = new MemberHealth(options.thresholds ?? defaultHealthThresholds);
      const watched: Watched = { member, health, failureCount: 0, checking: false, cancelTimer: nothing };
      this.#watched.set(member.id, watched);
      if (this.#options.probe === 'all') this.#schedule(watched, deps.rng.below(this.#options.intervalMs));
    }
  }

  /** Checks every member now, also those that are no suspects: the connection that this opens is there for the first real call. */
  probeAll(): void {
    for (const watched of this.#watched.values()) if (!watched.checking) this.#schedule(watched, 0);
  }

  /** True for members that are up, and for ids that are not watched. */
  isHealthy(id: string): boolean {
    return this.#watched.get(id)?.health.state !== 'down';
  }

  /**
   * A caller found the member unavailable: counts as a failure and brings a check forward. Further reports until that check has answered count
   * for nothing, so that many callers who saw the same hiccup do not outvote it.
   */
  reportFailure(id: string): void {
    const watched = this.#watched.get(id);
    if (watched === undefined || watched.checking || this.#abort.signal.aborted) return;
    this.#record(watched, false);
    this.#enqueue(watched);
  }

  /** Calls `listener` at each change of state. Returns the unsubscribe function. */
  onChange(listener: HealthListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Stops checking and waits for running checks to end. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    for (const watched of this.#watched.values()) watched.cancelTimer();
    this.#queue.length = 0;
    await Promise.all(this.#running);
  }

  #schedule(watched: Watched, delayMs: number): void {
    watched.cancelTimer();
    watched.cancelTimer = this.#deps.clock.after(delayMs, () => this.#enqueue(watched));
  }

  #enqueue(watched: Watched): void {
    if (watched.checking || this.#abort.signal.aborted) return;
    watched.checking = true;
    watched.cancelTimer();
    this.#queue.push(watched);
    this.#startChecks();
  }

  #startChecks(): void {
    while (this.#running.size < this.#options.concurrency) {
      const watched = this.#queue.shift();
      if (watched === undefined) return;
      const check = this.#check(watched).finally(() => {
        this.#running.delete(check);
        this.#startChecks();
      });
      this.#running.add(check);
    }
  }

  async #check(watched: Watched): Promise<void> {
    const { role, timeoutMs } = this.#options;
    const { signal } = this.#abort;
    const target = { endpoint: watched.member.endpoint, role, id: watched.member.id };
    const passed = await this.#deps.channels.health(target, { signal, timeoutMs }).catch((error: unknown) => {
      this.#deps.logger.debug('health check failed', { role, id: watched.member.id, error: toAppError(error).message });
      return false;
    });
    watched.checking = false;
    if (signal.aborted) return;
    this.#record(watched, passed);
    this.#scheduleNext(watched);
  }

  #record(watched: Watched, passed: boolean): void {
    watched.failureCount = passed ? 0 : watched.failureCount + 1;
    if (!watched.health.record(passed ? 'pass' : 'fail')) return;
    const { id, endpoint } = watched.member;
    const { state } = watched.health;
    this.#deps.logger.warn('member changed its health', { role: this.#options.role, id, endpoint, state });
    for (const listener of this.#listeners) listener(id, state);
  }

  #scheduleNext(watched: Watched): void {
    const { probe, intervalMs, recheckMs } = this.#options;
    if (watched.failureCount === 0 && watched.health.state === 'up' && probe === 'suspects') return;
    const failedMs = recheckMs * 2 ** Math.min(20, Math.max(0, watched.failureCount - 1));
    const delayMs = watched.failureCount === 0 ? intervalMs : Math.min(intervalMs, failedMs);
    const fifthMs = Math.floor(delayMs / 5);
    this.#schedule(watched, delayMs - fifthMs + this.#deps.rng.below(2 * fifthMs + 1));
  }
}
