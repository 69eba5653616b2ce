/**
 * Drives the pure engine: one event at a time, its effects in order, one timer. Events raised while effects are carried out wait in
 * a queue, so nothing is ever re-entered.
 */
import type { Clock } from '#core';
import type { Effect, LinkId, Swarm, SwarmEvent, SwarmOptions } from '#swarm';

/** The part of the engine that is driven. */
export type DrivenSwarm = Pick<Swarm, 'apply' | 'newLink' | 'nextDeadlineMs' | 'setOptions'>;

export interface EngineDeps {
  readonly swarm: DrivenSwarm;
  readonly clock: Clock;
  /** Carries out one effect; must not throw for operating errors. */
  readonly carryOut: (effect: Effect) => void;
}

export class Engine {
  readonly #swarm: DrivenSwarm;
  readonly #clock: Clock;
  readonly #carryOut: (effect: Effect) => void;
  readonly #queue: { readonly event: SwarmEvent; readonly applied: (() => void) | undefined }[] = [];
  #running = false;
  #stopped = false;
  #armedMs: number | undefined;
  #disarm: (() => void) | undefined;

  constructor({ swarm, clock, carryOut }: EngineDeps) {
    this.#swarm = swarm;
    this.#clock = clock;
    this.#carryOut = carryOut;
  }

  newLink(): LinkId {
    return this.#swarm.newLink();
  }

  /**
   * Applies the event now, or after those that are being carried out. `applied` is called when its effects have been carried out.
   * Does nothing once stopped.
   */
  post(event: SwarmEvent, applied?: () => void): void {
    if (this.#stopped) return;
    this.#queue.push({ event, applied });
    if (this.#running) return;
    this.#running = true;
    try {
      for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
        for (const effect of this.#swarm.apply(next.event, this.#clock.nowMs())) this.#carryOut(effect);
        next.applied?.();
      }
    } finally {
      this.#running = false;
    }
    this.#arm();
  }

  /** Replaces the limits and looks at once what they allow now. */
  setOptions(options: SwarmOptions): void {
    this.#swarm.setOptions(options);
    this.post({ type: 'tick' });
  }

  /** No event is applied any more and no timer is left. */
  stop(): void {
    this.#stopped = true;
    this.#queue.length = 0;
    this.#disarm?.();
    this.#disarm = undefined;
  }

  /** A timer that fires early is cheaper than one that is moved with each event, so an armed one is only replaced by an earlier one. */
  #arm(): void {
    const dueMs = this.#swarm.nextDeadlineMs();
    if (this.#stopped || dueMs === undefined || !Number.isFinite(dueMs)) return;
    if (this.#armedMs !== undefined && this.#armedMs <= dueMs) return;
    this.#disarm?.();
    this.#armedMs = dueMs;
    this.#disarm = this.#clock.after(Math.max(0, dueMs - this.#clock.nowMs()), () => {
      this.#armedMs = undefined;
      this.#disarm = undefined;
      const nowDueMs = this.#swarm.nextDeadlineMs();
      if (nowDueMs !== undefined && nowDueMs <= this.#clock.nowMs()) this.post({ type: 'tick' });
      else this.#arm();
    });
  }
}
