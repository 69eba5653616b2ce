/** Writes every network event as a line of JSON to a file of bounded size. */
import type { Clock, Logger } from '#core';
import { RotatingFile } from '#telemetry';
import { networkEventLine, type TimedEvent } from './network-event.ts';
import type { NetworkEvents } from './network-events.ts';

export interface NetworkEventFileOptions {
  readonly file: string;
  /** Of the file and the one before it (`<file>.1`) together. */
  readonly maxBytes: number;
}

export class NetworkEventFile implements AsyncDisposable {
  readonly #file: RotatingFile;
  readonly #clock: Pick<Clock, 'wallMs'>;
  readonly #stop: () => void;
  #droppedCount = 0;

  private constructor(file: RotatingFile, events: NetworkEvents, clock: Pick<Clock, 'wallMs'>) {
    this.#file = file;
    this.#clock = clock;
    this.#stop = events.listen((event) => this.#add(event));
  }

  /** Appends to the file from now on. Throws `failed-precondition` when it cannot be opened. */
  static async open(
    options: NetworkEventFileOptions,
    events: NetworkEvents,
    deps: { readonly clock: Clock; readonly logger: Logger },
  ): Promise<NetworkEventFile> {
    return new NetworkEventFile(await RotatingFile.open(options, deps), events, deps.clock);
  }

  /** Stops listening and writes what waits. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop();
    await this.#file.flush();
    if (this.#droppedCount > 0) this.#tellGap(this.#clock.wallMs());
    await this.#file[Symbol.asyncDispose]();
  }

  /** Never waits: what the file cannot take is counted and told by a gap in its place. */
  #add(timed: TimedEvent): void {
    if (this.#droppedCount > 0) this.#tellGap(timed.timeMs);
    if (this.#droppedCount > 0 || !this.#file.write(networkEventLine(timed))) this.#droppedCount += 1;
  }

  #tellGap(timeMs: number): void {
    if (this.#file.write(networkEventLine({ timeMs, event: { type: 'gap', droppedCount: this.#droppedCount } }))) this.#droppedCount = 0;
  }
}
