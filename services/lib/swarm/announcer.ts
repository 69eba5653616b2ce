/** When a download asks the tracker for peers: less and less often while nobody new turns up. */
import type { Digest } from '#core';
import type { SwarmContext } from './context.ts';

export class Announcer {
  readonly #digest: Digest;
  readonly #context: SwarmContext;
  #nextMs = 0;
  #count = 0;

  constructor(digest: Digest, context: SwarmContext) {
    this.#digest = digest;
    this.#context = context;
  }

  /** Asks unless it asked a moment ago. */
  ask(nowMs: number): void {
    if (this.#count === 0 || nowMs >= this.#nextMs) this.askNow(nowMs);
  }

  askNow(nowMs: number): void {
    const { options } = this.#context;
    this.#nextMs = nowMs + options.announceIntervalMs * 2 ** Math.min(this.#count, 7);
    this.#count += 1;
    this.#context.emit({ type: 'announce', digest: this.#digest, complete: false, peersWanted: options.peersWanted });
  }

  /** Somebody new turned up. */
  heard(): void {
    this.#count = 0;
  }
}
