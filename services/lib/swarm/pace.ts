/**
 * How fast a link delivers and how much may be asked ahead. The clock of a request starts when the piece before it arrived, so
 * a full pipeline is not mistaken for a slow one. The window follows rate x delay: a quarter above what was measured lets it
 * grow while the pipe has room, and stops growing it when the rate does.
 */
import type { SwarmOptions } from './options.ts';

/** Samples are taken over at least this long, as time comes in whole milliseconds. */
const sampleMs = 4;
const smoothing = 0.3;
const growth = 1.25;
/** Event loops are late by a few milliseconds; a window for less delay than this would run dry. */
const delayFloorMs = 8;

export class Pace {
  readonly #pieceLengthBytes: number;
  #rateBytesPerMs = 0;
  #sampleCount = 0;
  #delayMs = Number.POSITIVE_INFINITY;
  #clockMs = 0;
  #accumulatedBytes = 0;
  #accumulatedMs = 0;
  #penalty = 1;

  constructor(pieceLengthBytes: number) {
    this.#pieceLengthBytes = pieceLengthBytes;
  }

  /** Bytes per second, 0 before the first sample. */
  get rateBytesPerSec(): number {
    return this.#rateBytesPerMs * 1000;
  }

  get sampleCount(): number {
    return this.#sampleCount;
  }

  /** When the oldest outstanding request began to count. Meaningless while nothing is outstanding. */
  get clockMs(): number {
    return this.#clockMs;
  }

  /** The receiver did not read until now: that time does not count. */
  restart(nowMs: number): void {
    this.#clockMs = nowMs;
  }

  /** A request left; `idle` when none was outstanding. */
  asked(idle: boolean, nowMs: number): void {
    if (idle) this.#clockMs = nowMs;
  }

  /** A piece arrived that was asked for at `askedMs`. */
  arrived(sizeBytes: number, askedMs: number, nowMs: number): void {
    this.#delayMs = Math.min(this.#delayMs, nowMs - askedMs);
    this.#accumulatedBytes += sizeBytes;
    this.#accumulatedMs += nowMs - this.#clockMs;
    this.#clockMs = nowMs;
    this.#penalty = Math.min(1, this.#penalty * 2);
    if (this.#accumulatedMs < sampleMs) return;
    const sample = this.#accumulatedBytes / this.#accumulatedMs;
    this.#rateBytesPerMs += (sample - this.#rateBytesPerMs) * (this.#sampleCount === 0 ? 1 : smoothing);
    this.#sampleCount += 1;
    this.#accumulatedBytes = 0;
    this.#accumulatedMs = 0;
  }

  /** The link lost its requests for being late: the window halves until pieces arrive again, and the estimate admits what was waited for. */
  late(nowMs: number): void {
    const waitedMs = Math.max(1, nowMs - this.#clockMs);
    this.#rateBytesPerMs = Math.min(this.#rateBytesPerMs, this.#pieceLengthBytes / waitedMs);
    this.#penalty = Math.max(1 / 16, this.#penalty / 2);
    this.#clockMs = nowMs;
  }

  /** Bytes that may be outstanding; one piece always may. */
  windowBytes(options: SwarmOptions): number {
    const startBytes = options.windowStartPieces * this.#pieceLengthBytes;
    const ceilingBytes = Math.max(options.inFlightBytesPerLink, this.#pieceLengthBytes);
    if (this.#sampleCount === 0) return Math.min(startBytes * this.#penalty, ceilingBytes);
    const pipeBytes = this.#rateBytesPerMs * Math.max(this.#delayMs, delayFloorMs) * growth + this.#pieceLengthBytes;
    return Math.min(Math.max(pipeBytes, startBytes) * this.#penalty, ceilingBytes);
  }

  /** How long `sizeBytes` would take from now at the measured rate; infinite before the first sample. */
  etaMs(sizeBytes: number): number {
    return this.#rateBytesPerMs > 0 ? sizeBytes / this.#rateBytesPerMs : Number.POSITIVE_INFINITY;
  }
}
