/** The body of a request: its bytes as they arrive, under limits on how long it stands still, how slow it is, and how long it takes. */
import type { IncomingMessage } from 'node:http';
import { AppError, type Clock } from '#core';
import { Pace, type PaceOptions } from './pace.ts';

export interface BodyLimits extends PaceOptions {
  /** How long the client may send nothing, in milliseconds. Time in which nobody reads does not count. */
  readonly idleMs: number;
  /** How long the whole body may take, in milliseconds. */
  readonly totalMs?: number;
}

/** `data.kind` of the errors below. */
export const slowBody = 'slow-body';

/**
 * Reads the body. Throws `cancelled` when the client goes away and `deadline-exceeded` (kind {@link slowBody}) when it is too slow. Ending
 * early leaves the connection usable for the reply.
 */
export async function* readBody(
  request: IncomingMessage,
  limits: BodyLimits,
  deps: { readonly clock: Clock; readonly onBytes: (count: number) => void },
): AsyncGenerator<Uint8Array> {
  const { clock } = deps;
  const watch = new BodyWatch(limits, clock);
  const chunks = new BodyChunks(request);
  try {
    while (true) {
      const next = await watch.next(chunks);
      if (next === 'late') {
        throw new AppError('deadline-exceeded', 'the body came too slowly; send it faster', { data: { kind: slowBody } });
      }
      if (next === 'over') break;
      deps.onBytes(next.byteLength);
      yield next;
    }
  } finally {
    watch.stop();
    chunks.stop();
  }
  if (!request.complete) throw new AppError('cancelled', 'the client went away', { cause: chunks.error });
}

/** Bytes that may wait here before the client is not read any more. One chunk waits while another is looked at. */
const waitingBytesMax = 128 * 1024;

/** The chunks of a body as they come from the socket; Node's own iterator copies what has gathered into one. */
class BodyChunks {
  error: Error | undefined;
  readonly #request: IncomingMessage;
  readonly #chunks: Uint8Array[] = [];
  #waitingBytes = 0;
  #isOver = false;
  #wake: () => void = () => undefined;
  readonly #onData = (chunk: Uint8Array): void => {
    this.#chunks.push(chunk);
    this.#waitingBytes += chunk.byteLength;
    if (this.#waitingBytes >= waitingBytesMax) this.#request.pause();
    this.#wake();
  };
  readonly #onError = (error: Error): void => {
    this.error = error;
    this.#onOver();
  };
  readonly #onOver = (): void => {
    this.#isOver = true;
    this.#wake();
  };

  constructor(request: IncomingMessage) {
    this.#request = request;
    this.#isOver = request.readableEnded || request.destroyed;
    request.on('data', this.#onData).on('error', this.#onError).on('end', this.#onOver).on('close', this.#onOver);
  }

  /** The next chunk; `over` at the end, and when the client has gone. */
  async next(): Promise<Uint8Array | 'over'> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) {
        this.#waitingBytes -= chunk.byteLength;
        if (this.#request.isPaused() && this.#waitingBytes < waitingBytesMax / 2) this.#request.resume();
        return chunk;
      }
      if (this.#isOver) return 'over';
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  stop(): void {
    this.#request.pause();
    this.#request.off('data', this.#onData).off('error', this.#onError).off('end', this.#onOver).off('close', this.#onOver);
  }
}

/** The timer of a body. One that re-arms itself is cheaper than one for each chunk. */
class BodyWatch {
  readonly #limits: BodyLimits;
  readonly #clock: Clock;
  readonly #pace: Pace;
  readonly #startedMs: number;
  #waitingSinceMs: number | undefined;
  #disarm: () => void;
  #isLate = false;
  #tell: () => void = () => undefined;

  constructor(limits: BodyLimits, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
    this.#pace = new Pace(limits);
    this.#startedMs = clock.nowMs();
    this.#disarm = clock.after(Math.min(limits.idleMs, limits.totalMs ?? limits.idleMs, this.#pace.leftMs(0)), () => this.#check());
  }

  /** The next chunk, or `late` when the client is too slow. A promise of its own each time: racing with one that stays would keep them all. */
  async next(chunks: BodyChunks): Promise<Uint8Array | 'over' | 'late'> {
    if (this.#isLate) return 'late';
    this.#waitingSinceMs = this.#clock.nowMs();
    const next = await new Promise<Uint8Array | 'over' | 'late'>((resolve, reject) => {
      this.#tell = () => resolve('late');
      chunks.next().then(resolve, reject);
    });
    if (next !== 'late') this.#pace.add(next === 'over' ? 0 : next.byteLength, this.#waitedMs());
    this.#waitingSinceMs = undefined;
    return next;
  }

  stop(): void {
    this.#disarm();
  }

  #waitedMs(): number {
    return this.#waitingSinceMs === undefined ? 0 : this.#clock.nowMs() - this.#waitingSinceMs;
  }

  #check(): void {
    const waitedMs = this.#waitedMs();
    const { idleMs, totalMs } = this.#limits;
    const isFastEnough = this.#pace.leftMs(waitedMs) > 0 || this.#pace.endWindow(waitedMs);
    const totalLeftMs = totalMs === undefined ? idleMs : this.#startedMs + totalMs - this.#clock.nowMs();
    const leftMs = Math.min(idleMs - waitedMs, totalLeftMs, this.#pace.leftMs(waitedMs));
    if (isFastEnough && leftMs > 0) this.#disarm = this.#clock.after(leftMs, () => this.#check());
    else {
      this.#isLate = true;
      this.#tell();
    }
  }
}

/** False when the request says that it has no body. */
export function hasBody(request: IncomingMessage): boolean {
  return request.headers['transfer-encoding'] !== undefined || (contentLengthOf(request) ?? 0) > 0;
}

/** The declared length in bytes. */
export function contentLengthOf(request: IncomingMessage): number | undefined {
  const text = request.headers['content-length'];
  return text === undefined ? undefined : Number(text);
}
