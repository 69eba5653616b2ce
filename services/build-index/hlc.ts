/**
 * A hybrid logical clock: versions that follow wall time, never repeat, and never go back, not even when the wall clock does or when a version from
 * another cluster is ahead. 48 bits of Unix milliseconds, then 16 bits of counter.
 */

const counterBits = 16n;

/** Versions of this process; each is greater than every version it gave out or observed. */
export class HybridClock {
  #last: bigint;

  /** `last` is the greatest version known from before, 0 at the very start. */
  constructor(last = 0n) {
    this.#last = last;
  }

  /** A new version at Unix time `wallMs`. */
  next(wallMs: number): bigint {
    const now = BigInt(wallMs) << counterBits;
    this.#last = now > this.#last ? now : this.#last + 1n;
    return this.#last;
  }

  /** Takes note of a version from elsewhere. */
  observe(version: bigint): void {
    if (version > this.#last) this.#last = version;
  }
}

/** The Unix milliseconds in a version. */
export function wallMsOf(version: bigint): number {
  return Number(version >> counterBits);
}
