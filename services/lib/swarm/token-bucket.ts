/** A limit in bytes per second, without timers: it says whether bytes may pass now and when to ask again. */
import { assert } from '#core';

/** What may pass at once after silence: long enough to hide timer jitter, short enough to keep the rate honest. */
const burstMs = 250;

export class TokenBucket {
  #rateBytesPerSec = 0;
  /** In thousandths of a byte, so that whole milliseconds of a whole rate add up exactly. */
  #balance = 0;
  #updatedMs: number | undefined;

  /** `rateBytesPerSec` is whole; 0 is unlimited. */
  constructor(rateBytesPerSec: number) {
    this.setRate(rateBytesPerSec);
    this.#balance = this.#burst;
  }

  /** Changes the rate at once; a debt stays a debt. */
  setRate(rateBytesPerSec: number): void {
    assert(Number.isSafeInteger(rateBytesPerSec) && rateBytesPerSec >= 0, 'a rate is a whole number of bytes per second');
    this.#rateBytesPerSec = rateBytesPerSec;
    this.#balance = Math.min(this.#balance, this.#burst);
  }

  get isUnlimited(): boolean {
    return this.#rateBytesPerSec === 0;
  }

  /**
   * Takes `sizeBytes` and returns true, or takes nothing and returns false. A piece larger than the burst passes when the
   * bucket is full and leaves a debt, so that no piece is too large for a low rate.
   */
  tryTake(sizeBytes: number, nowMs: number): boolean {
    if (this.isUnlimited) return true;
    this.#refill(nowMs);
    if (this.#balance < Math.min(sizeBytes * 1000, this.#burst)) return false;
    this.#balance -= sizeBytes * 1000;
    return true;
  }

  /** Gives back bytes that were taken and will not flow. */
  refund(sizeBytes: number): void {
    if (!this.isUnlimited) this.#balance = Math.min(this.#balance + sizeBytes * 1000, this.#burst);
  }

  /** The first whole millisecond at which {@link tryTake} of `sizeBytes` succeeds. */
  readyAtMs(sizeBytes: number, nowMs: number): number {
    if (this.isUnlimited) return nowMs;
    this.#refill(nowMs);
    const lacking = Math.min(sizeBytes * 1000, this.#burst) - this.#balance;
    return lacking <= 0 ? nowMs : nowMs + Math.ceil(lacking / this.#rateBytesPerSec);
  }

  get #burst(): number {
    return this.#rateBytesPerSec * burstMs;
  }

  #refill(nowMs: number): void {
    const elapsedMs = nowMs - (this.#updatedMs ?? nowMs);
    this.#updatedMs = nowMs;
    this.#balance = Math.min(this.#balance + elapsedMs * this.#rateBytesPerSec, this.#burst);
  }
}
