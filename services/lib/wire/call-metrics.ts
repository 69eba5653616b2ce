/** Counts and times of calls, and bytes of pieces, for one side of the wire. */
import type { Clock, Counter, Histogram, Meter } from '#core';
import { methodOf, serviceOf } from './access.ts';
import { statusName } from './status.ts';

export class CallMetrics {
  readonly #clock: Pick<Clock, 'nowMs'>;
  readonly #calls: Counter;
  readonly #durations: Histogram;

  constructor(side: 'server' | 'client', deps: { readonly meter: Meter; readonly clock: Pick<Clock, 'nowMs'> }) {
    this.#clock = deps.clock;
    this.#calls = deps.meter.counter(
      `shoal_wire_${side}_calls_total`,
      `Calls ended on the ${side} side, by service, method and gRPC code.`,
    );
    this.#durations = deps.meter.histogram(`shoal_wire_${side}_call_duration_seconds`, `Duration of calls on the ${side} side.`);
  }

  /** Starts the clock of a call; the returned function ends it with its gRPC code and counts once. */
  start(path: string): (code: number) => void {
    const startedMs = this.#clock.nowMs();
    let ended = false;
    return (code) => {
      if (ended) return;
      ended = true;
      const labels = { service: serviceOf(path), method: methodOf(path) };
      this.#calls.add(1, { ...labels, code: statusName(code) });
      this.#durations.record((this.#clock.nowMs() - startedMs) / 1000, labels);
    };
  }
}

/** Bytes of pieces that went out of or came into this process. */
export function pieceBytesCounter(direction: 'sent' | 'received', meter: Meter): Counter {
  return meter.counter(`shoal_wire_piece_${direction}_bytes`, `Bytes of pieces ${direction} over exchanges.`);
}
