/**
 * The hub between those who know what happens and those who want to hear of it. While nobody listens, the price of an event is one test
 * of `active`: whoever knows of one asks that first and builds nothing otherwise.
 */
import { AppError, type Clock, type Digest } from '#core';
import type { NetworkEvent, NetworkEventKind, TimedEvent } from './network-event.ts';

/** About a second of a busy node's events, 1 to 2 MB. */
const waitingCountMaxDefault = 8192;
/** Events handed over at once. */
const batchCountMax = 256;
/** Each watcher costs a node that is busy a little; more than a few are a mistake. */
const watcherCountMax = 16;

export interface NetworkEventFilter {
  /** All blobs when absent. */
  readonly digests?: ReadonlySet<Digest>;
  /** All kinds when absent. */
  readonly kinds?: ReadonlySet<NetworkEventKind>;
}

export interface WatchOptions {
  readonly signal: AbortSignal;
  /** Events that may wait for the watcher: 8,192 by default. */
  readonly waitingCountMax?: number;
}

export class NetworkEvents {
  readonly #clock: Pick<Clock, 'wallMs'>;
  readonly #listeners = new Set<(event: TimedEvent) => void>();
  #watcherCount = 0;
  #active = false;

  constructor(deps: { readonly clock: Pick<Clock, 'wallMs'> }) {
    this.#clock = deps.clock;
  }

  /** Somebody listens. Build and emit an event only if so. */
  get active(): boolean {
    return this.#active;
  }

  emit(event: NetworkEvent): void {
    const timed = { timeMs: this.#clock.wallMs(), event };
    for (const listener of this.#listeners) listener(timed);
  }

  /** `listener` is called for each event, at once; it must be quick and must not throw. Returns the unsubscribe function. */
  listen(listener: (event: TimedEvent) => void): () => void {
    this.#listeners.add(listener);
    this.#active = true;
    return () => {
      this.#listeners.delete(listener);
      this.#active = this.#listeners.size > 0;
    };
  }

  /**
   * Yields what happens from now on in batches of 1 to 256, and a gap where events were dropped because the reader was slow. Ends when
   * the signal aborts, throwing its reason. Throws `resource-exhausted` when 16 others watch.
   */
  async *watch(filter: NetworkEventFilter, { signal, waitingCountMax = waitingCountMaxDefault }: WatchOptions) {
    signal.throwIfAborted();
    if (this.#watcherCount >= watcherCountMax) {
      throw new AppError('resource-exhausted', `${watcherCountMax} watchers are connected already; end one of them`);
    }
    const queue = new WaitingEvents(filter, waitingCountMax);
    const stop = this.listen((event) => queue.add(event));
    const onAbort = (): void => queue.wake();
    signal.addEventListener('abort', onAbort, { once: true });
    this.#watcherCount += 1;
    try {
      for (;;) {
        const batch = queue.take(this.#clock.wallMs());
        signal.throwIfAborted();
        if (batch.length > 0) yield batch;
        else await queue.filled();
      }
    } finally {
      this.#watcherCount -= 1;
      signal.removeEventListener('abort', onAbort);
      stop();
    }
  }
}

/** Events that wait for one watcher. */
class WaitingEvents {
  readonly #filter: NetworkEventFilter;
  readonly #countMax: number;
  #events: TimedEvent[] = [];
  #droppedCount = 0;
  #wake: (() => void) | undefined;

  constructor(filter: NetworkEventFilter, countMax: number) {
    this.#filter = filter;
    this.#countMax = countMax;
  }

  add(timed: TimedEvent): void {
    if (!matches(timed.event, this.#filter)) return;
    // Once something is missing, nothing follows before the gap has been told.
    if (this.#droppedCount > 0 || this.#events.length >= this.#countMax) this.#droppedCount += 1;
    else this.#events.push(timed);
    this.wake();
  }

  /** The oldest events; after the last of them the gap, if there is one. */
  take(nowMs: number): readonly TimedEvent[] {
    const batch = this.#events.splice(0, batchCountMax);
    if (this.#events.length === 0 && this.#droppedCount > 0 && batch.length < batchCountMax) {
      batch.push({ timeMs: nowMs, event: { type: 'gap', droppedCount: this.#droppedCount } });
      this.#droppedCount = 0;
    }
    return batch;
  }

  async filled(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }

  wake(): void {
    this.#wake?.();
    this.#wake = undefined;
  }
}

function matches(event: NetworkEvent, { digests, kinds }: NetworkEventFilter): boolean {
  if (event.type === 'gap') return true;
  return (kinds === undefined || kinds.has(event.type)) && (digests === undefined || digests.has(event.digest));
}
