/**
 * Which queued request is served next. Blobs take turns; within a blob the links take turns, except that a piece this process
 * has sent less often goes first, so that a seeder gives each newcomer something different. Few pieces are in service at
 * once: a piece that is finished early can be passed on early.
 */
import { assert, type Digest, type Rng } from '#core';
import type { InboundLink } from './inbound-link.ts';
import type { SwarmOptions } from './options.ts';
import { isMuchSmaller, placesMin, refusedInRowMax, requestMax, serviceMax } from './places.ts';
import { isInShare } from './seed-share.ts';
import { TokenBucket } from './token-bucket.ts';
import { isActive, openQueue, pauseMs, pressedUntilMs, type Queue, type Served, smallerServedMs } from './upload-queue.ts';

/** Below this a late send is jitter of the event loop. */
const stuckMsMin = 10;
const stuckFactor = 1.5;
/** Services at once, stuck ones included, in multiples of the slots. */
const stuckShare = 4;
/** When no more services may start, a link that has been stuck for so many times the bound yields its place. */
const evictFactor = 2;

/** A blob is new to its downloaders until this process sent so many pieces of it. */
const newCount = 100;
/** Beside much smaller blobs, a piece of a large one is served for each so many times its bytes of theirs. */
const pressedFactor = 7;
/** So few links of a blob queue what they like: they may have nobody else to ask. */
const fewLinks = 8;

interface Choice {
  readonly link: InboundLink;
  readonly piece: number;
}

/** A piece in service. */
interface Running {
  readonly link: InboundLink;
  readonly queue: Queue;
  readonly piece: number;
  readonly untilArrived: boolean;
  readonly sinceMs: number;
}

/** A piece to be served now. */
export interface Service {
  readonly link: InboundLink;
  readonly digest: Digest;
  readonly piece: number;
  /** It ends when the receiver has it: one that is to serve few at once must know when it may take on the next. */
  readonly untilArrived: boolean;
}

export class UploadScheduler {
  readonly #egress: TokenBucket;
  readonly #queues: Queue[] = [];
  readonly #byDigest = new Map<Digest, Queue>();
  readonly #rng: Rng;
  #options: SwarmOptions;
  /** In service, oldest first. */
  readonly #services: Running[] = [];
  #queuedCount = 0;
  #usualMs: number | undefined;
  /** The same of services that end when the receiver has the piece. */
  #usualArrivalMs: number | undefined;
  #deadlineMs: number | undefined;

  constructor(options: SwarmOptions, rng: Rng) {
    this.#options = options;
    this.#rng = rng;
    this.#egress = new TokenBucket(options.egressBytesPerSec);
  }

  setOptions(options: SwarmOptions): void {
    this.#options = options;
    this.#egress.setRate(options.egressBytesPerSec);
    if (this.#queuedCount > 0) this.#deadlineMs = 0;
  }

  /** When {@link next} may succeed without another event; undefined when nothing waits for time. */
  get deadlineMs(): number | undefined {
    return this.#queuedCount > 0 ? this.#deadlineMs : undefined;
  }

  /** A link of the blob opened. */
  add(link: InboundLink, served: Served): void {
    const { digest } = served;
    let queue = this.#byDigest.get(digest);
    if (queue === undefined) {
      queue = openQueue(served);
      this.#byDigest.set(digest, queue);
      // Ahead of those that have had their turn.
      this.#queues.unshift(queue);
    }
    // At a random place: in order of arrival, every peer of a new swarm would serve the same few first.
    queue.links.splice(this.#rng.below(queue.links.length + 1), 0, link);
  }

  /** A link closed; call it after `link.close()`, with what it still had queued. */
  remove(link: InboundLink, digest: Digest, queued: readonly number[]): void {
    const queue = this.#queueOf(digest);
    queue.links.splice(queue.links.indexOf(link), 1);
    for (const piece of queued) this.#unqueue(queue, piece);
    for (let at = this.#services.length - 1; at >= 0; at -= 1) {
      if (this.#services[at]?.link !== link) continue;
      this.#services.splice(at, 1);
      queue.inServiceCount -= 1;
    }
    if (queue.links.length > 0) return;
    this.#byDigest.delete(digest);
    this.#queues.splice(this.#queues.indexOf(queue), 1);
  }

  /** A request for the piece was queued. */
  queued(digest: Digest, piece: number): void {
    const queue = this.#queueOf(digest);
    queue.promisedCounts[piece] = Math.min(255, (queue.promisedCounts[piece] ?? 0) + 1);
    queue.queuedCount += 1;
    this.#queuedCount += 1;
  }

  /** A queued request was withdrawn. */
  withdrawn(digest: Digest, piece: number): void {
    const queue = this.#queueOf(digest);
    this.#unqueue(queue, piece);
  }

  /** The piece was sent or promised to somebody, or is another seed's to give, while there are others that nobody has. */
  isSpent(digest: Digest, piece: number): boolean {
    const queue = this.#queueOf(digest);
    if (queue.links.length < 2 || queue.unsentCount === 0) return false;
    if (queue.unsentShareCount > 0 && !isInShare(queue.share, piece)) return true;
    return (queue.sentCounts[piece] ?? 0) > 0 || (queue.promisedCounts[piece] ?? 0) > 0;
  }

  /** Enough is asked for here, and the link has others to ask: there are many links, and it was not refused time and again. */
  isCrowded(link: InboundLink, digest: Digest, nowMs: number): boolean {
    const queue = this.#queueOf(digest);
    if (queue.links.length <= fewLinks || link.crowdedCount >= refusedInRowMax) return false;
    const countMax = requestMax(this.#slotsOf(queue, nowMs), this.#activeCount());
    return queue.queuedCount + queue.inServiceCount >= countMax && queue.queuedCount + this.#flowingCount(queue, nowMs) >= countMax;
  }

  /** Services of the blob that do not wait for a slow receiver. */
  #flowingCount(queue: Queue, nowMs: number): number {
    let count = 0;
    for (const service of this.#services) {
      if (service.queue === queue && service.sinceMs > nowMs - this.#stuckMs(service)) count += 1;
    }
    return count;
  }

  /** It is served, and few pieces of it have left. */
  isNew(digest: Digest): boolean {
    const queue = this.#byDigest.get(digest);
    return queue !== undefined && queue.sentCount < newCount;
  }

  /** Requests queued or in service. */
  get requestCount(): number {
    return this.#queuedCount + this.#services.length;
  }

  /** How long a service usually takes; undefined before the first has ended. */
  get usualMs(): number | undefined {
    return this.#usualMs;
  }

  /** The service of a piece ended after `serviceMs`. The usual time follows quick ones at once and slow ones slowly: those waited for a receiver. */
  finished(link: InboundLink, piece: number, serviceMs: number): void {
    const at = this.#services.findIndex((service) => service.link === link && service.piece === piece);
    assert(at >= 0, 'only a running service ends');
    const [{ queue, untilArrived, sinceMs = 0 } = {}] = this.#services.splice(at, 1);
    if (queue !== undefined) {
      queue.inServiceCount -= 1;
      queue.servedMs = sinceMs + serviceMs;
    }
    if (untilArrived) this.#usualArrivalMs = follow(this.#usualArrivalMs, serviceMs);
    else this.#usualMs = follow(this.#usualMs, serviceMs);
  }

  /** A service that takes longer waits for a slow receiver: half as long again as usual, within the configured bound. */
  #stuckMs({ untilArrived }: Running): number {
    const { serveStuckMs } = this.#options;
    const usualMs = untilArrived ? this.#usualArrivalMs : this.#usualMs;
    return usualMs === undefined ? serveStuckMs : Math.min(serveStuckMs, Math.max(stuckMsMin, Math.ceil(stuckFactor * usualMs)));
  }

  /** The next piece to serve, now in service; undefined when nothing may be served at this moment. */
  next(nowMs: number): Service | undefined {
    this.#deadlineMs = undefined;
    if (this.#queuedCount === 0) return undefined;
    return this.#nextOf(false, nowMs) ?? this.#nextOf(true, nowMs);
  }

  /** Of the blobs that are `pressed` by much smaller ones, or of the others. */
  #nextOf(pressed: boolean, nowMs: number): Service | undefined {
    for (let turn = 0; turn < this.#queues.length; turn += 1) {
      const queue = this.#queues[turn];
      if (queue === undefined || queue.queuedCount === 0 || this.#isPressed(queue, nowMs) !== pressed) continue;
      if (!this.#hasSlot(queue, nowMs)) continue;
      const choice = this.#choose(queue);
      if (choice === undefined) continue;
      const sizeBytes = queue.sizeOf(choice.piece);
      if (!this.#egress.tryTake(sizeBytes, nowMs)) {
        this.#dueAt(this.#egress.readyAtMs(sizeBytes, nowMs));
        return undefined;
      }
      this.#queues.splice(turn, 1);
      this.#queues.push(queue);
      return this.#start(queue, choice, nowMs);
    }
    return undefined;
  }

  /**
   * The link to close so that others are served: requests wait, everything that may be in service is, and this link has been stuck for
   * longest, over twice the bound. Undefined otherwise; {@link deadlineMs} then says when there may be one.
   */
  frozen(nowMs: number): InboundLink | undefined {
    const [oldest] = this.#services;
    if (this.#queuedCount === 0 || oldest === undefined) return undefined;
    for (const queue of this.#queues) {
      if (queue.queuedCount > 0 && queue.inServiceCount < this.#slotsOf(queue, nowMs) * stuckShare) return undefined;
    }
    const dueMs = oldest.sinceMs + evictFactor * this.#options.serveStuckMs;
    if (dueMs <= nowMs) return oldest.link;
    this.#deadlineMs = dueMs;
    return undefined;
  }

  #start(queue: Queue, { link, piece }: Choice, nowMs: number): Service {
    for (const other of queue.links) if (other !== link && other.queue.length > 0) other.passedOverCount += 1;
    queue.links.splice(queue.links.indexOf(link), 1);
    queue.links.push(link);
    link.start(piece, nowMs);
    this.#weigh(queue, queue.sizeOf(piece));
    const untilArrived = queue.links.length > 1 && this.#slotsOf(queue, nowMs) < this.#options.serveConcurrency;
    const sentCount = queue.sentCounts[piece] ?? 0;
    if (sentCount === 0) {
      queue.unsentCount -= 1;
      if (isInShare(queue.share, piece)) queue.unsentShareCount -= 1;
    }
    queue.sentCounts[piece] = Math.min(255, sentCount + 1);
    this.#unqueue(queue, piece);
    queue.inServiceCount += 1;
    queue.sentCount += 1;
    this.#services.push({ link, queue, piece, untilArrived, sinceMs: nowMs });
    return { link, digest: queue.digest, piece, untilArrived };
  }

  /** A piece of the blob starts: larger blobs may follow so much sooner, and itself must wait for smaller ones. */
  #weigh(queue: Queue, pieceBytes: number): void {
    queue.dueBytes = pressedFactor * pieceBytes;
    for (const other of this.#queues) if (isMuchSmaller(queue.sizeBytes, other.sizeBytes)) other.dueBytes -= pieceBytes;
  }

  /** Two pieces to one receiver share what it takes, so a second one goes only to a lone receiver. */
  #choose(queue: Queue): Choice | undefined {
    const { serveConcurrencyPerLink } = this.#options;
    const choice = this.#chooseWithin(queue, 1);
    if (choice !== undefined || this.#services.length >= serveConcurrencyPerLink) return choice;
    return this.#chooseWithin(queue, serveConcurrencyPerLink);
  }

  /**
   * The link in turn, with its oldest request; but as long as some piece was sent to nobody, one of those goes first. A link that
   * was passed over for two full rounds is not passed over again.
   */
  #chooseWithin(queue: Queue, perLinkMax: number): Choice | undefined {
    let best: Choice | undefined;
    let bestCount = Number.POSITIVE_INFINITY;
    for (const link of queue.links) {
      const [head] = link.queue;
      if (head === undefined || link.inServiceCount >= perLinkMax) continue;
      if (queue.unsentCount === 0 || link.passedOverCount >= 2 * queue.links.length) return { link, piece: head };
      for (const piece of link.queue) {
        const count = queue.sentCounts[piece] ?? 0;
        if (count >= bestCount) continue;
        best = { link, piece };
        bestCount = count;
      }
    }
    return best;
  }

  #unqueue(queue: Queue, piece: number): void {
    queue.promisedCounts[piece] = Math.max(0, (queue.promisedCounts[piece] ?? 0) - 1);
    queue.queuedCount -= 1;
    this.#queuedCount -= 1;
  }

  /** A seed that has not given everything away serves few at once: what leaves it early is passed on early, and it sends fewer copies. */
  #slotsOf(queue: Queue, nowMs: number): number {
    const { isSeed, unsentCount, sentCounts, sentCount, links } = queue;
    const { serveConcurrency, seedConcurrency } = this.#options;
    if (this.#isPressed(queue, nowMs)) return 1;
    if (isSeed && unsentCount > 0 && links.length > 1) return Math.min(serveConcurrency, seedConcurrency);
    return serviceMax(sentCounts.length, sentCount, this.#options);
  }

  #isPressed({ sizeBytes }: Queue, nowMs: number): boolean {
    return pressedUntilMs(this.#queues, sizeBytes, nowMs) > nowMs;
  }

  #servesMuchLarger(sizeBytes: number): boolean {
    return this.#queues.some((other) => isActive(other) && isMuchSmaller(sizeBytes, other.sizeBytes));
  }

  /** Blobs that somebody asked for pieces of, one at least. */
  #activeCount(): number {
    let count = 0;
    for (const queue of this.#queues) if (isActive(queue)) count += 1;
    return Math.max(1, count);
  }

  /**
   * Slots count services that are not stuck; stuck ones are bounded in multiples of the slots, see {@link frozen}. Pieces of a large blob that are under
   * way do not keep a much smaller one waiting: a few of its pieces are served beside them.
   */
  #hasSlot(queue: Queue, nowMs: number): boolean {
    const slotCount = this.#slotsOf(queue, nowMs);
    if (queue.inServiceCount >= slotCount * stuckShare || this.#givesWay(queue, nowMs)) return false;
    let ownCount = 0;
    let allCount = 0;
    let firstStuckMs = Number.POSITIVE_INFINITY;
    for (const service of this.#services) {
      const stuckMs = service.sinceMs + this.#stuckMs(service);
      if (stuckMs <= nowMs) continue;
      allCount += 1;
      if (service.queue === queue) ownCount += 1;
      firstStuckMs = Math.min(firstStuckMs, stuckMs);
    }
    const { serveConcurrency } = this.#options;
    const beside = ownCount < placesMin && this.#servesMuchLarger(queue.sizeBytes) ? placesMin : 0;
    if (ownCount < slotCount && allCount < serveConcurrency + beside) return true;
    this.#dueAt(firstStuckMs);
    const untilMs = pressedUntilMs(this.#queues, queue.sizeBytes, nowMs);
    if (untilMs > nowMs) this.#dueAt(untilMs);
    return false;
  }

  /**
   * A large blob that is not due waits while pieces of a much smaller one flow, and afterwards for the next request for one: no longer than
   * a piece takes, so that whoever asks rarely does not keep the uplink idle.
   */
  #givesWay(queue: Queue, nowMs: number): boolean {
    if (queue.dueBytes <= 0) return false;
    let untilMs = smallerServedMs(this.#queues, queue.sizeBytes) + Math.min(pauseMs, this.#usualArrivalMs ?? 0);
    for (const service of this.#services) {
      if (isMuchSmaller(service.queue.sizeBytes, queue.sizeBytes)) untilMs = Math.max(untilMs, service.sinceMs + this.#stuckMs(service));
    }
    if (untilMs <= nowMs) return false;
    this.#dueAt(untilMs);
    return true;
  }

  #dueAt(timeMs: number): void {
    this.#deadlineMs = Math.min(this.#deadlineMs ?? Number.POSITIVE_INFINITY, timeMs);
  }

  #queueOf(digest: Digest): Queue {
    const queue = this.#byDigest.get(digest);
    assert(queue !== undefined, 'a blob that serves has a queue');
    return queue;
  }
}

/** The usual time follows quick services at once and slow ones slowly: those waited for a receiver. */
function follow(usualMs: number | undefined, serviceMs: number): number {
  return usualMs === undefined ? serviceMs : usualMs + (serviceMs - usualMs) * (serviceMs < usualMs ? 0.5 : 0.05);
}
