/**
 * What all downloads of the process share: the bytes in flight and the ingress rate. A download that is denied queues up, and
 * the queue is served one piece each in turn, so that a small blob does not wait for a large one.
 */
import { assert } from '#core';
import type { SwarmOptions } from './options.ts';
import { TokenBucket } from './token-bucket.ts';

/** Whoever asks for pieces. */
export interface Taker {
  /** Requests at most one piece and returns whether it did. */
  takeOne(nowMs: number): boolean;
}

export class Intake {
  readonly #bucket: TokenBucket;
  readonly #waiting: Taker[] = [];
  #bytesMax: number;
  #usedBytes = 0;
  #turn: Taker | undefined;
  #retryMs: number | undefined;
  #arrivedBytes = 0;

  constructor(options: SwarmOptions) {
    this.#bucket = new TokenBucket(options.ingressBytesPerSec);
    this.#bytesMax = options.inFlightBytes;
  }

  setOptions(options: SwarmOptions): void {
    this.#bucket.setRate(options.ingressBytesPerSec);
    this.#bytesMax = options.inFlightBytes;
    if (this.#waiting.length > 0) this.#retryMs = 0;
  }

  /** Bytes asked for or received and not yet written. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Of all pieces that came, ever. */
  get arrivedBytes(): number {
    return this.#arrivedBytes;
  }

  /** When a waiting download may ask again because of the rate; undefined when none waits for it. */
  get deadlineMs(): number | undefined {
    return this.#retryMs;
  }

  /** Reserves room for one piece, or queues the taker and returns false. */
  tryTake(taker: Taker, sizeBytes: number, nowMs: number): boolean {
    if (this.#turn !== taker && this.#waiting.length > 0) return this.#wait(taker);
    if (this.#usedBytes > 0 && this.#usedBytes + sizeBytes > this.#bytesMax) return this.#wait(taker);
    if (!this.#bucket.tryTake(sizeBytes, nowMs)) {
      this.#retryMs = this.#bucket.readyAtMs(sizeBytes, nowMs);
      return this.#wait(taker);
    }
    this.#usedBytes += sizeBytes;
    return true;
  }

  /** The bytes are written, or will not come; in the second case they are refunded to the rate. */
  release(sizeBytes: number, arrived: boolean): void {
    assert(this.#usedBytes >= sizeBytes, 'only reserved bytes are released');
    this.#usedBytes -= sizeBytes;
    if (arrived) this.#arrivedBytes += sizeBytes;
    else this.#bucket.refund(sizeBytes);
  }

  /** The taker is gone. */
  forget(taker: Taker): void {
    const at = this.#waiting.indexOf(taker);
    if (at >= 0) this.#waiting.splice(at, 1);
    if (this.#waiting.length === 0) this.#retryMs = undefined;
  }

  /** Lets the queue ask, one piece each in turn, as far as there is room. */
  serve(nowMs: number): void {
    if (this.#waiting.length === 0 || (this.#retryMs !== undefined && this.#retryMs > nowMs)) return;
    this.#retryMs = undefined;
    for (;;) {
      const taker = this.#waiting.shift();
      if (taker === undefined) return;
      this.#turn = taker;
      const took = taker.takeOne(nowMs);
      this.#turn = undefined;
      const denied = this.#waiting.at(-1) === taker;
      if (denied) {
        // It keeps its place at the head: it was the one in turn.
        this.#waiting.pop();
        this.#waiting.unshift(taker);
        return;
      }
      if (took) this.#waiting.push(taker);
    }
  }

  #wait(taker: Taker): false {
    if (!this.#waiting.includes(taker)) this.#waiting.push(taker);
    return false;
  }
}
