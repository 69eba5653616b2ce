/**
 * Keeps the ring whole: a round of repair soon after this origin has started, when another one came back or has been away for too long, and every so often
 * by itself. See round.ts for what a round does.
 */
import type { OriginCluster } from '#cluster';
import { type Clock, type Counter, type Logger, type Meter, type Rng, toAppError } from '#core';
import { Pace } from './pace.ts';
import { RepairRound, type RepairRoundDeps } from './round.ts';
import { RepairSchedule } from './schedule.ts';

export interface RepairerOptions {
  /** The id of this origin. */
  readonly self: string;
  /** Between two rounds without a reason; 0: only with one. */
  readonly intervalMs: number;
  /** How long an origin must be down before the next in ring order takes its place. */
  readonly downAfterMs: number;
  /** What repairs may take on average; 0: as fast as it goes. */
  readonly bytesPerSec: number;
}

export interface RepairerDeps extends RepairRoundDeps {
  readonly origins: RepairRoundDeps['origins'] & Pick<OriginCluster, 'onHealthChange'>;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
  readonly meter: Meter;
}

/** After a start: most of the first second goes to connections. And after the return of another, who has a moment to say what it holds. */
const settleMs = 1000;
/** After a round that could not do everything, doubled up to the interval. */
const retryMsMin = 5000;
const retryMsMax = 600_000;

export class Repairer {
  readonly #options: RepairerOptions;
  readonly #deps: RepairerDeps;
  readonly #schedule: RepairSchedule;
  readonly #pace: Pace;
  readonly #blobs: Counter;
  readonly #bytes: Counter;
  /** Since when origins are down, by id, on the monotonic clock. */
  readonly #downSinceMs = new Map<string, number>();
  #retryMs = retryMsMin;
  #running: RepairRound | undefined;
  #last: { readonly round: RepairRound; readonly endedMs: number } | undefined;

  constructor(options: RepairerOptions, deps: RepairerDeps) {
    this.#options = options;
    this.#deps = { ...deps, logger: deps.logger.child({ module: 'repair' }) };
    this.#schedule = new RepairSchedule(deps);
    this.#pace = new Pace(options, deps);
    this.#blobs = deps.meter.counter('shoal_origin_repaired_blobs', 'Owned blobs that were lacking here, by what came of them in a round');
    this.#bytes = deps.meter.counter('shoal_origin_repaired_bytes', 'Bytes of owned blobs brought here from other origins');
    deps.meter.gauge('shoal_origin_repair_lacking_blobs', 'Owned blobs that the last round of repair could not bring here', () =>
      this.#last === undefined ? 0 : lackingCount(this.#last.round),
    );
  }

  /** For operators. */
  state(): { readonly healthy: boolean; readonly message: string } {
    if (this.#running !== undefined) return { healthy: true, message: `at work: ${this.#running.broughtCount} brought here so far` };
    if (this.#last === undefined) return { healthy: true, message: this.#isAlone ? 'off: there is no other origin' : 'no round yet' };
    const { round, endedMs } = this.#last;
    const agoMinutes = Math.max(0, Math.round((this.#deps.clock.nowMs() - endedMs) / 60_000));
    return { healthy: round.error === undefined && lackingCount(round) === 0, message: `${agoMinutes} min ago: ${summaryOf(round)}` };
  }

  get #isAlone(): boolean {
    return this.#deps.origins.members().length < 2;
  }

  /** Ends when `signal` aborts. */
  async run({ signal }: { readonly signal: AbortSignal }): Promise<void> {
    const { origins, rng } = this.#deps;
    if (this.#isAlone) return;
    const unsubscribe = origins.onHealthChange((id, state) => this.#healthChanged(id, state));
    this.#schedule.set('start', settleMs + rng.below(settleMs));
    try {
      for (;;) {
        this.#setInterval();
        const reasons = await this.#schedule.next({ signal });
        if (signal.aborted) return;
        await this.#round(reasons, signal);
      }
    } finally {
      unsubscribe();
    }
  }

  #setInterval(): void {
    const { intervalMs } = this.#options;
    const fifthMs = Math.floor(intervalMs / 5);
    if (intervalMs > 0) this.#schedule.set('interval', intervalMs - fifthMs + this.#deps.rng.below(2 * fifthMs + 1));
  }

  #healthChanged(id: string, state: 'up' | 'down'): void {
    const { clock, rng } = this.#deps;
    if (state === 'down') {
      this.#downSinceMs.set(id, clock.nowMs());
      this.#schedule.set(`${id} is gone`, this.#options.downAfterMs);
    } else {
      this.#downSinceMs.delete(id);
      this.#schedule.cancel(`${id} is gone`);
      this.#schedule.set(`${id} is back`, settleMs + rng.below(settleMs));
    }
  }

  /** One that restarts counts as present: its blobs come back with it. */
  #isPresent(id: string): boolean {
    const sinceMs = this.#downSinceMs.get(id);
    return sinceMs === undefined || this.#deps.clock.nowMs() - sinceMs < this.#options.downAfterMs;
  }

  async #round(reasons: readonly string[], signal: AbortSignal): Promise<void> {
    const round = new RepairRound(
      {
        self: this.#options.self,
        isPresent: (id) => this.#isPresent(id),
        pace: this.#pace,
        isOver: () => signal.aborted || this.#schedule.isDue(),
      },
      this.#deps,
    );
    this.#running = round;
    try {
      await round.run({ signal });
    } catch (error) {
      if (!signal.aborted) round.error = toAppError(error).message;
    } finally {
      this.#running = undefined;
      this.#last = { round, endedMs: this.#deps.clock.nowMs() };
    }
    if (!signal.aborted) this.#ended(round, reasons);
  }

  #ended(round: RepairRound, reasons: readonly string[]): void {
    const { broughtCount, broughtBytes, unwantedCount, failedCount, noRoomCount, error } = round;
    this.#blobs.add(broughtCount, { outcome: 'brought' });
    this.#blobs.add(unwantedCount, { outcome: 'unwanted' });
    this.#blobs.add(failedCount, { outcome: 'failed' });
    this.#blobs.add(noRoomCount, { outcome: 'no-room' });
    this.#bytes.add(broughtBytes);
    const fields = { reasons, broughtCount, broughtBytes, unwantedCount, failedCount, noRoomCount, silent: [...round.silent], error };
    if (round.error !== undefined || noRoomCount > 0) this.#deps.logger.warn('repair left owned blobs lacking here', fields);
    else if (broughtCount > 0) this.#deps.logger.info('owned blobs were brought here from other origins', fields);
    else this.#deps.logger.debug('nothing to repair', fields);
    if (round.isComplete) this.#retryMs = retryMsMin;
    else {
      this.#schedule.set('retry', this.#retryMs);
      this.#retryMs = Math.min(this.#retryMs * 2, retryMsMax);
    }
  }
}

function lackingCount({ failedCount, noRoomCount }: RepairRound): number {
  return failedCount + noRoomCount;
}

function summaryOf(round: RepairRound): string {
  const { broughtCount, failedCount, noRoomCount, error, silent } = round;
  const parts = [`${broughtCount} brought here`];
  if (noRoomCount > 0) parts.push(`no room for ${noRoomCount}`);
  if (failedCount > 0) parts.push(`${failedCount} failed`);
  if (silent.size > 0) parts.push(`no list from ${[...silent].join(', ')}`);
  if (error !== undefined) parts.push(error);
  return parts.join('; ');
}
