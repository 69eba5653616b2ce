/**
 * The bodies of uploads that this node is receiving, for the origins to read: a body is offered under a token, read once by the origin the token
 * was made for, and gathered into messages on the way. Nothing of it stays here.
 */
import { randomBytes } from 'node:crypto';
import { AppError, type Clock, type Counter, type Meter } from '#core';
import { ChunkMessage, type Handlers, type OutgoingMessage, rawUploadSourceService, type WireServer } from '#wire';

export interface UploadSourceOptions {
  /** Bodies on their way at a time; 768 by default, fewer than the streams of a connection, and more than one client may have. */
  readonly bodiesMax?: number;
  /**
   * Bodies that are fast enough to fill messages of 256 KiB and may do so; 128 by default, those of others are of 32 KiB. Some five messages of a body
   * are in memory: one that is gathered, two that wait, and what the transport and the socket hold; so 260 MiB in all.
   */
  readonly fastBodiesMax?: number;
  /** Bodies that wait for one of these; 1,024 by default. Meanwhile their clients are not read. */
  readonly waitingMax?: number;
  /** How long an origin may take nothing although there is something to take, in milliseconds; 5 minutes by default, since after its restart it hashes what it has. */
  readonly originIdleMs?: number;
}

export interface UploadSourceDeps {
  readonly clock: Clock;
  readonly meter: Meter;
}

/** A body while an origin is asked to read it. */
export interface OfferedBody {
  readonly token: Uint8Array;
  /** Aborted, with the reason, when the origin does not take the body. */
  readonly signal: AbortSignal;
}

/** Bytes of slow clients are sent on after this long, in milliseconds, so that what the proxy may lose is little. */
const gatherMs = 100;

/** How long an origin may take to put away what it was sent when the client has gone, in milliseconds. */
const settleMs = 5000;

/** The most bytes of a message: of bodies that are slow or have just begun, and of fast ones. A message costs as much as copying some 100 KiB. */
const smallMessageBytes = 32 * 1024;
const largeMessageBytes = 256 * 1024;
/** Bodies come in chunks of at most 64 KiB; larger ones are split. */
const partBytesMax = 64 * 1024;

interface Body {
  readonly lane: FastLane;
  readonly origin: string;
  readonly bytes: AsyncIterable<Uint8Array>;
  readonly watch: IdleWatch;
  /** Why the bytes broke off. */
  failure: unknown;
  /** Nobody asks for the bytes any more. */
  closed: boolean;
  /** Ends the wait for the next bytes. */
  wake: () => void;
}

export class UploadSource {
  readonly #options: Required<UploadSourceOptions>;
  readonly #deps: UploadSourceDeps;
  readonly #sentBytes: Counter;
  readonly #offered = new Map<string, Body>();
  readonly #waiters: (() => void)[] = [];
  readonly #lane: FastLane;
  #runningCount = 0;

  constructor(options: UploadSourceOptions, deps: UploadSourceDeps) {
    this.#options = { bodiesMax: 768, fastBodiesMax: 128, waitingMax: 1024, originIdleMs: 300_000, ...options };
    this.#deps = deps;
    this.#lane = new FastLane(this.#options.fastBodiesMax);
    this.#sentBytes = deps.meter.counter('shoal_upload_source_bytes', 'Bytes of uploads sent on to origins');
    deps.meter.gauge('shoal_upload_source_bodies', 'Bodies of uploads on their way to origins', () => this.#runningCount);
  }

  /** Serves UploadSourceService; before the server listens. */
  attach(server: WireServer): void {
    const handlers: Handlers<typeof rawUploadSourceService> = {
      readChunk: ({ token }, { caller }) => this.#read(Buffer.from(token).toString('hex'), caller.id),
    };
    server.addService('shoal.proxy.v1.UploadSourceService', rawUploadSourceService, handlers);
  }

  /**
   * Offers `bytes` to the origin with the id `origin` while `ask` runs. Throws what the bytes broke off with, or else what `ask` throws;
   * `resource-exhausted` when too many bodies wait. When `signal` is aborted, `ask` is given 5 s: the end of the bytes reaches the origin by itself,
   * after what was sent before it.
   */
  async offer<T>(
    origin: string,
    bytes: AsyncIterable<Uint8Array>,
    ask: (body: OfferedBody) => Promise<T>,
    { signal }: { readonly signal: AbortSignal },
  ): Promise<T> {
    await this.#enter(signal);
    const { clock } = this.#deps;
    const token = randomBytes(16);
    const key = token.toString('hex');
    const abort = new AbortController();
    const watch = new IdleWatch(this.#options.originIdleMs, clock, () =>
      abort.abort(new AppError('unavailable', 'the origin takes no more bytes of this upload; try again', { retryAfterMs: 1000 })),
    );
    const body: Body = { lane: this.#lane, origin, bytes, watch, failure: undefined, closed: false, wake: () => undefined };
    let cancelSettling = (): void => undefined;
    const onGone = (): void => {
      cancelSettling = clock.after(settleMs, () => abort.abort(signal.reason));
    };
    signal.addEventListener('abort', onGone, { once: true });
    this.#offered.set(key, body);
    try {
      const answer = await ask({ token, signal: abort.signal });
      if (body.failure !== undefined) throw body.failure;
      return answer;
    } catch (error) {
      throw body.failure ?? (abort.signal.aborted ? abort.signal.reason : error);
    } finally {
      signal.removeEventListener('abort', onGone);
      cancelSettling();
      watch.stop();
      this.#offered.delete(key);
      body.closed = true;
      body.wake();
      this.#leave();
    }
  }

  async *#read(key: string, origin: string): AsyncGenerator<OutgoingMessage> {
    const body = this.#offered.get(key);
    if (body === undefined || body.origin !== origin)
      throw new AppError('not-found', 'there is no such chunk: a token serves once', { data: { kind: 'chunk' } });
    this.#offered.delete(key);
    for await (const message of gathered(body, this.#deps.clock)) {
      this.#sentBytes.add(message.byteLength);
      yield message;
    }
  }

  async #enter(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#runningCount < this.#options.bodiesMax) {
      this.#runningCount += 1;
      return;
    }
    if (this.#waiters.length >= this.#options.waitingMax) {
      throw new AppError('resource-exhausted', 'too many uploads are under way here; try again', { retryAfterMs: 1000 });
    }
    await new Promise<void>((resolve, reject) => {
      const onAbort = (): void => {
        this.#waiters.splice(this.#waiters.indexOf(onTurn), 1);
        reject(signal.reason);
      };
      // The place is handed over, so the count stays.
      const onTurn = (): void => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiters.push(onTurn);
    });
  }

  #leave(): void {
    const next = this.#waiters.shift();
    if (next === undefined) this.#runningCount -= 1;
    else next();
  }
}

/** The body in messages of up to 256 KiB. What was gathered when the body breaks off is sent before its error is thrown. */
async function* gathered(body: Body, clock: Clock): AsyncGenerator<OutgoingMessage> {
  const iterator = body.bytes[Symbol.asyncIterator]();
  const batch = new Batch(body, clock);
  let ended = false;
  try {
    yield* messagesOf(iterator, batch, body);
    ended = true;
  } catch (error) {
    ended = !body.closed;
    if (ended) {
      body.failure = error;
      yield* batch.take();
    }
    // What is no AppError is the registry's own refusal, and its client's affair: towards the origin the bytes end here.
    throw error instanceof AppError ? error : new AppError('cancelled', 'the bytes of the chunk broke off', { cause: error });
  } finally {
    batch.end();
    body.watch.originsTurn();
    // One that is waiting ends only when its wait does, so nobody waits for it here.
    if (!ended) void iterator.return?.().catch(() => undefined);
  }
}

async function* messagesOf(iterator: AsyncIterator<Uint8Array>, batch: Batch, body: Body): AsyncGenerator<OutgoingMessage> {
  let next = iterator.next();
  for (;;) {
    body.watch.clientsTurn();
    const item = await Promise.race([next, batch.due]);
    if (body.closed) throw new AppError('cancelled', 'the chunk is not asked for any more');
    if (item === undefined) yield* batch.takeDue();
    else if (item.done === true) break;
    else {
      yield* batch.fill(item.value);
      next = iterator.next();
      // Waited for in the next round; until then a failure must not count as unhandled.
      next.catch(() => undefined);
    }
  }
  yield* batch.take();
}

/** How many bodies may have large messages. */
class FastLane {
  readonly #placesMax: number;
  #takenCount = 0;

  constructor(placesMax: number) {
    this.#placesMax = placesMax;
  }

  enter(): boolean {
    if (this.#takenCount >= this.#placesMax) return false;
    this.#takenCount += 1;
    return true;
  }

  leave(): void {
    this.#takenCount -= 1;
  }
}

/** Gathers bytes until a message is full, or due although it is not. */
class Batch {
  readonly #body: Body;
  readonly #clock: Clock;
  #isFast = false;
  #message = new ChunkMessage();
  #due: Promise<undefined>;
  #cancel: (() => void) | undefined;

  constructor(body: Body, clock: Clock) {
    this.#body = body;
    this.#clock = clock;
    this.#due = this.#newDue();
  }

  /** Resolves with undefined when the message is due, or the body closed. */
  get due(): Promise<undefined> {
    return this.#due;
  }

  /** Takes the bytes over; the messages that this fills. None is larger than its limit: one that the bytes do not fit goes first. */
  *fill(bytes: Uint8Array): Generator<OutgoingMessage> {
    for (let at = 0; at < bytes.byteLength; ) {
      const part = bytes.subarray(at, at + Math.min(partBytesMax, this.#messageBytesMax));
      if (this.#message.sizeBytes + part.byteLength > this.#messageBytesMax) yield* this.#takeFull();
      this.#cancel ??= this.#clock.after(gatherMs, () => this.#body.wake());
      this.#message.add(part);
      at += part.byteLength;
      if (this.#message.sizeBytes === this.#messageBytesMax) yield* this.#takeFull();
    }
  }

  get #messageBytesMax(): number {
    return this.#isFast ? largeMessageBytes : smallMessageBytes;
  }

  *#takeFull(): Generator<OutgoingMessage> {
    this.#isFast ||= this.#body.lane.enter();
    yield* this.take();
  }

  /** What there is, since it waits for too long: the body is slow. */
  *takeDue(): Generator<OutgoingMessage> {
    this.#slowDown();
    yield* this.take();
  }

  /** The message, unless it is empty; the next one begins. It is the origin's turn then. */
  *take(): Generator<OutgoingMessage> {
    this.#stop();
    this.#due = this.#newDue();
    const message = this.#message;
    if (message.sizeBytes === 0) return;
    this.#message = new ChunkMessage();
    this.#body.watch.originsTurn();
    yield message.encode();
    this.#body.watch.clientsTurn();
  }

  /** The body has ended. */
  end(): void {
    this.#stop();
    this.#slowDown();
  }

  #slowDown(): void {
    if (this.#isFast) this.#body.lane.leave();
    this.#isFast = false;
  }

  #stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  #newDue(): Promise<undefined> {
    return new Promise((resolve) => {
      this.#body.wake = () => resolve(undefined);
    });
  }
}

/** Calls `onIdle` when it has been the origin's turn for too long. One timer that re-arms itself is cheaper than one for each message. */
class IdleWatch {
  readonly #idleMs: number;
  readonly #clock: Clock;
  readonly #onIdle: () => void;
  /** When the origin's turn began; undefined while the client's bytes are waited for. */
  #sinceMs: number | undefined;
  #cancel: () => void;

  constructor(idleMs: number, clock: Clock, onIdle: () => void) {
    this.#idleMs = idleMs;
    this.#clock = clock;
    this.#onIdle = onIdle;
    this.#sinceMs = clock.nowMs();
    this.#cancel = clock.after(idleMs, () => this.#check());
  }

  originsTurn(): void {
    this.#sinceMs = this.#clock.nowMs();
  }

  clientsTurn(): void {
    this.#sinceMs = undefined;
  }

  stop(): void {
    this.#cancel();
  }

  #check(): void {
    const leftMs = this.#sinceMs === undefined ? this.#idleMs : this.#sinceMs + this.#idleMs - this.#clock.nowMs();
    if (leftMs <= 0) this.#onIdle();
    else this.#cancel = this.#clock.after(leftMs, () => this.#check());
  }
}
