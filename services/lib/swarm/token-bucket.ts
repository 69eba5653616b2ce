/** A limit in bytes per second, without timers: it says whether bytes may pass now and when to ask again. */
import { assert } from '#core';

/** What may pass at once after silence: long enough to hide timer jitter, short enough to keep the rate honest. */
const burstMs = 250;

export class TokenBucket {
  #rateBytesPerSec = 0;
  #balanceBytes = 0;
  #updatedMs: number | undefined;

  /** `rateBytesPerSec` 0 is unlimited. */
  constructor(rateBytesPerSec: number) {
    this.setRate(rateBytesPerSec);
    this.#balanceBytes = this.#burstBytes();
  }

  /** Changes the rate at once; a debt stays a debt. */
  setRate(rateBytesPerSec: number): void {
    assert(rateBytesPerSec >= 0, 'a rate is not negative');
    this.#rateBytesPerSec = rateBytesPerSec;
    this.#balanceBytes = Math.min(this.#balanceBytes, this.#burstBytes());
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
    if (this.#balanceBytes < Math.min(sizeBytes, this.#burstBytes())) return false;
    this.#balanceBytes -= sizeBytes;
    return true;
  }

  /** Gives back bytes that were taken and will not flow. */
  refund(sizeBytes: number): void {
    if (!this.isUnlimited) this.#balanceBytes = Math.min(this.#balanceBytes + sizeBytes, this.#burstBytes());
  }

  /** The first whole millisecond at which {@link tryTake} of `sizeBytes` succeeds. */
  readyAtMs(sizeBytes: number, nowMs: number): number {
    if (this.isUnlimited) return nowMs;
    this.#refill(nowMs);
    const lackingBytes = Math.min(sizeBytes, this.#burstBytes()) - this.#balanceBytes;
    return lackingBytes <= 0 ? nowMs : nowMs + Math.ceil((lackingBytes * 1000) / this.#rateBytesPerSec);
  }

  #burstBytes(): number {
    return Math.max(1, (this.#rateBytesPerSec * burstMs) / 1000);
  }

  #refill(nowMs: number): void {
    const elapsedMs = nowMs - (this.#updatedMs ?? nowMs);
    this.#updatedMs = nowMs;
    this.#balanceBytes = Math.min(this.#balanceBytes + (elapsedMs * this.#rateBytesPerSec) / 1000, this.#burstBytes());
  }
}
