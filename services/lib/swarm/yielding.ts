/** How a download goes on beside much smaller ones: a piece at a time, even for readers, and a rest after each. */
import type { SwarmContext } from './context.ts';

/** Times as long as the piece took: what is in the way of the small blob is a quarter of one flow, and the rest is short where links are fast. */
const restFactor = 3;

export class Yielding {
  readonly #context: Pick<SwarmContext, 'downloadCount' | 'isPressed'>;
  readonly #sizeBytes: number;
  #restUntilMs = Number.NEGATIVE_INFINITY;

  constructor(context: Pick<SwarmContext, 'downloadCount' | 'isPressed'>, sizeBytes: number) {
    this.#context = context;
    this.#sizeBytes = sizeBytes;
  }

  /** A piece may be asked for while `requestCount` are under way. */
  mayAsk(requestCount: number, nowMs: number): boolean {
    return !this.#isOn(nowMs) || (requestCount === 0 && nowMs >= this.#restUntilMs);
  }

  /** Nothing arrives because nothing is asked for. */
  isResting(nowMs: number): boolean {
    return nowMs < this.#restUntilMs && this.#isOn(nowMs);
  }

  /** A piece came that was asked for at `askedMs`. */
  arrived(askedMs: number, nowMs: number): void {
    if (this.#isOn(nowMs)) this.#restUntilMs = nowMs + restFactor * (nowMs - askedMs);
  }

  #isOn(nowMs: number): boolean {
    return this.#context.downloadCount > 1 && this.#context.isPressed(this.#sizeBytes, nowMs);
  }
}
