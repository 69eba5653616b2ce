/** When a member counts as up or down, from the results of its checks. */
import { assert, assertNever } from '#core';

/** How many equal results in a row change a member's state. */
export interface HealthThresholds {
  /** Failures until down, 1 to 100. */
  readonly failuresUntilDown: number;
  /** Passes until up, 1 to 100. */
  readonly passesUntilUp: number;
}

/**
 * Two failures: one may be a lost connection or a pause of the collector, and each change of the ring moves blobs. One pass: a node
 * that answers SERVING says itself that it is ready, and its blobs have one owner less as long as it is not believed.
 */
export const defaultHealthThresholds: HealthThresholds = { failuresUntilDown: 2, passesUntilUp: 1 };

export type HealthState = 'up' | 'down';
export type CheckResult = 'pass' | 'fail';

/** One member's health. New members are up: a ring that starts empty would refuse everything until the first checks are in. */
export class MemberHealth {
  readonly #thresholds: HealthThresholds;
  #state: HealthState = 'up';
  #streak = 0;

  constructor(thresholds: HealthThresholds = defaultHealthThresholds) {
    for (const count of [thresholds.failuresUntilDown, thresholds.passesUntilUp]) {
      assert(Number.isSafeInteger(count) && count >= 1 && count <= 100, 'a health threshold is 1 to 100');
    }
    this.#thresholds = thresholds;
  }

  get state(): HealthState {
    return this.#state;
  }

  /** Counts one result; true when the state changed. A result that agrees with the state ends the streak against it. */
  record(result: CheckResult): boolean {
    if (agrees(this.#state, result)) {
      this.#streak = 0;
      return false;
    }
    this.#streak += 1;
    const needed = this.#state === 'up' ? this.#thresholds.failuresUntilDown : this.#thresholds.passesUntilUp;
    if (this.#streak < needed) return false;
    this.#state = this.#state === 'up' ? 'down' : 'up';
    this.#streak = 0;
    return true;
  }
}

function agrees(state: HealthState, result: CheckResult): boolean {
  switch (state) {
    case 'up':
      return result === 'pass';
    case 'down':
      return result === 'fail';
    default:
      return assertNever(state);
  }
}
