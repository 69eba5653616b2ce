/** Collects the outcome of every check: nothing is thrown at the program, so one failure never hides another. */

export type Outcome = 'passed' | 'failed' | 'skipped';

export interface CheckResult {
  readonly target: string;
  readonly area: string;
  readonly name: string;
  readonly outcome: Outcome;
  readonly elapsedMs: number;
  /** Why it did not pass. */
  readonly message?: string;
}

/** Thrown by a check when the registry declines something the specification leaves open. Counted apart; a run with a skip is not a pass. */
export class Skip extends Error {
  override readonly name = 'Skip';
}

/** Runs one named check. */
export type Check = (name: string, body: () => Promise<void>) => Promise<void>;

const messageMax = 2000;

export class Recorder {
  readonly results: CheckResult[] = [];

  /** A function that records checks of one area of one target. */
  area(target: string, area: string): Check {
    return async (name, body) => {
      const startMs = performance.now();
      const done = (outcome: Outcome, message?: string): void => {
        const elapsedMs = Math.round((performance.now() - startMs) * 10) / 10;
        this.results.push({ target, area, name, outcome, elapsedMs, ...(message === undefined ? {} : { message }) });
      };
      try {
        await body();
        done('passed');
      } catch (error) {
        const text = error instanceof Error ? error.message : String(error);
        done(error instanceof Skip ? 'skipped' : 'failed', text.slice(0, messageMax));
      }
    };
  }
}

export interface Totals {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export function totalsOf(results: readonly CheckResult[]): Totals {
  const count = (outcome: Outcome): number => results.filter((result) => result.outcome === outcome).length;
  return { passed: count('passed'), failed: count('failed'), skipped: count('skipped') };
}

/** Whether a run holds: nothing failed, nothing was skipped, and at least `passedMin` checks passed, so that an empty run is no success. */
export function isClean(totals: Totals, passedMin: number): boolean {
  return totals.failed === 0 && totals.skipped === 0 && totals.passed >= passedMin;
}
