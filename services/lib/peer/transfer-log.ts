/** What operators can ask: running transfers from the engine, finished ones from a bounded memory. */
import type { Clock, Digest } from '#core';
import type { LinkSnapshot, PenaltySnapshot, Swarm, TransferSnapshot } from '#swarm';

export class TransferLog {
  readonly #countMax: number;
  readonly #swarm: Swarm;
  /** Oldest first. */
  readonly #finished: TransferSnapshot[] = [];

  constructor(options: { readonly historyCountMax: number }, swarm: Swarm) {
    this.#countMax = options.historyCountMax;
    this.#swarm = swarm;
  }

  /** What the engine knows of the blob now. */
  current(digest: Digest): TransferSnapshot | undefined {
    return this.#swarm.transfers().find((transfer) => transfer.digest === digest);
  }

  /** Remembers a complete download, or what it had become when it left the engine. */
  remember(snapshot: TransferSnapshot): void {
    const known = this.#finished.findIndex((other) => other.digest === snapshot.digest && other.startedMs === snapshot.startedMs);
    if (known >= 0) this.#finished[known] = snapshot;
    else this.#finished.push(snapshot);
    if (this.#finished.length > this.#countMax) this.#finished.shift();
  }

  /** The blob leaves the engine: what it served since it was complete is added to its entry, if it was downloaded here. */
  update(digest: Digest): void {
    const snapshot = this.current(digest);
    if (snapshot === undefined) return;
    const known = this.#finished.findIndex((other) => other.digest === digest && other.startedMs === snapshot.startedMs);
    if (known >= 0) this.#finished[known] = { ...snapshot, inboundLinkCount: 0 };
  }

  /** Running ones first, then blobs that are served, then finished ones; newest first in each. */
  list(): readonly TransferSnapshot[] {
    const loaded = this.#swarm.transfers().reverse();
    const isLoaded = new Set(loaded.map(({ digest, startedMs }) => `${startedMs} ${digest}`));
    const finished = this.#finished.filter(({ digest, startedMs }) => !isLoaded.has(`${startedMs} ${digest}`)).reverse();
    return [...loaded.filter(({ complete }) => !complete), ...loaded.filter(({ complete }) => complete), ...finished];
  }

  links(): readonly LinkSnapshot[] {
    return this.#swarm.links();
  }

  penalties(): readonly PenaltySnapshot[] {
    return this.#swarm.penalties();
  }
}

/** From the monotonic times of snapshots to Unix time. */
export function wallTimeOf(clock: Clock, monotonicMs: number): number {
  return clock.wallMs() - (clock.nowMs() - monotonicMs);
}
