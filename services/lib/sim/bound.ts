/** What no swarm can beat: the fluid bound on the time until everybody has everything, and the same with pieces. */
import { assert } from '#core';

/** Hosts, bytes, and bytes per second. */
export interface BoundInput {
  readonly hostCount: number;
  readonly sizeBytes: number;
  /** All seeders together. */
  readonly seedBytesPerSec: number;
  /** All hosts together. */
  readonly upBytesPerSec: number;
  /** The host in question. */
  readonly downBytesPerSec: number;
}

/**
 * T*, in milliseconds: one copy must leave the seeders, each host takes all of it, and everything that is received is sent by
 * somebody. `max(B / us, B / d, N B / (us + N u))`.
 */
export function idealMs(input: BoundInput): number {
  const { hostCount, sizeBytes, seedBytesPerSec, upBytesPerSec, downBytesPerSec } = input;
  assert(seedBytesPerSec > 0 && downBytesPerSec > 0, 'bytes flow');
  return (
    1000 * Math.max(sizeBytes / seedBytesPerSec, sizeBytes / downBytesPerSec, (hostCount * sizeBytes) / (seedBytesPerSec + upBytesPerSec))
  );
}

/** T*_K over T*: a piece can be passed on only when it is there, so the last one starts late. `(K + ceil(log2(N + 1)) - 1) / K`. */
export function pieceFactor(hostCount: number, pieceCount: number): number {
  assert(hostCount >= 1 && pieceCount >= 1, 'somebody wants something');
  return (pieceCount + Math.ceil(Math.log2(hostCount + 1)) - 1) / pieceCount;
}
