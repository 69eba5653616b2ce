/** A link on which this process serves: open -> draining -> closed, with its bounded queue of requests. */
import { assert, type PeerId } from '#core';
import type { LinkId } from './types.ts';

interface Service {
  readonly piece: number;
  readonly sinceMs: number;
}

export class InboundLink {
  readonly id: LinkId;
  readonly peer: PeerId;
  readonly openedMs: number;
  #state: 'open' | 'draining' | 'closed' = 'open';
  readonly #queue: number[] = [];
  /** Pieces refused once in favour of fresh ones; the second time they are served. */
  readonly #steered = new Set<number>();
  readonly #inService: Service[] = [];
  activeMs: number;
  servedBytes = 0;
  /** Pieces it has not heard of yet, and since when there are any. */
  readonly untold: number[] = [];
  untoldMs = 0;
  heardMs: number | undefined;
  /** How often others were served while this one waited. */
  passedOverCount = 0;

  constructor(id: LinkId, peer: PeerId, nowMs: number) {
    this.id = id;
    this.peer = peer;
    this.openedMs = nowMs;
    this.activeMs = nowMs;
  }

  get state(): 'open' | 'draining' | 'closed' {
    return this.#state;
  }

  /** Requests not yet in service, oldest first. */
  get queue(): readonly number[] {
    return this.#queue;
  }

  get queuedCount(): number {
    return this.#queue.length;
  }

  get inServiceCount(): number {
    return this.#inService.length;
  }

  /** There is a piece to hear of. */
  learn(piece: number, nowMs: number): void {
    if (this.untold.length === 0) this.untoldMs = nowMs;
    this.untold.push(piece);
  }

  /** Takes everything there is to hear of. */
  hear(nowMs: number): number[] {
    this.heardMs = nowMs;
    return this.untold.splice(0);
  }

  /** True the first time: the peer is asked to choose another piece. */
  steer(piece: number): boolean {
    if (this.#steered.has(piece)) return false;
    this.#steered.add(piece);
    return true;
  }

  isIdle(nowMs: number, afterMs: number): boolean {
    return this.#queue.length === 0 && this.#inService.length === 0 && nowMs - this.activeMs >= afterMs;
  }

  /** Queues a request; false when the queue is full or the piece is already queued or being sent. */
  enqueue(piece: number, countMax: number, nowMs: number): 'queued' | 'duplicate' | 'full' {
    assert(this.#state === 'open', 'only an open link takes requests');
    this.activeMs = nowMs;
    if (this.#queue.includes(piece) || this.#inService.some((service) => service.piece === piece)) return 'duplicate';
    if (this.#queue.length >= countMax) return 'full';
    this.#queue.push(piece);
    return 'queued';
  }

  /** Withdraws a queued request; false for a piece that is being sent, which goes on. */
  cancel(piece: number): boolean {
    const at = this.#queue.indexOf(piece);
    if (at >= 0) this.#queue.splice(at, 1);
    return at >= 0;
  }

  /** Takes a queued piece into service. */
  start(piece: number, nowMs: number): void {
    assert(this.cancel(piece), 'only a queued piece is served');
    this.#inService.push({ piece, sinceMs: nowMs });
    this.passedOverCount = 0;
  }

  /** The piece left (or cannot be read). Returns how long it was in service; undefined when it was not. */
  finish(piece: number, nowMs: number): number | undefined {
    const at = this.#inService.findIndex((service) => service.piece === piece);
    if (at < 0) return undefined;
    const [service] = this.#inService.splice(at, 1);
    this.activeMs = nowMs;
    return nowMs - (service?.sinceMs ?? nowMs);
  }

  /** Pieces in service since `sinceMs` or earlier: they wait for a slow receiver. */
  stuckCount(sinceMs: number): number {
    let count = 0;
    for (const service of this.#inService) if (service.sinceMs <= sinceMs) count += 1;
    return count;
  }

  /** When the oldest piece in service that started after `sinceMs` began; undefined when there is none. */
  earliestAfter(sinceMs: number): number | undefined {
    let earliestMs: number | undefined;
    for (const service of this.#inService) {
      if (service.sinceMs > sinceMs && (earliestMs === undefined || service.sinceMs < earliestMs)) earliestMs = service.sinceMs;
    }
    return earliestMs;
  }

  /** open -> draining: nothing more is taken; returns the requests that will not be served. */
  drain(): readonly number[] {
    assert(this.#state === 'open', 'only an open link drains');
    this.#state = 'draining';
    return this.#queue.splice(0);
  }

  /** open | draining -> closed. Returns how many pieces were in service. */
  close(): number {
    assert(this.#state !== 'closed', 'a link closes once');
    this.#state = 'closed';
    this.#queue.length = 0;
    return this.#inService.splice(0).length;
  }
}
