/** One Announce stream to one tracker: opened at the start or with the first blob, kept open, reopened with backoff, watched by health probes while it is down. */
import { AppError, type Clock, type Digest, type Logger, type Rng, toAppError } from '#core';
import { type AnnounceRequest, type AnnounceResponse, type BlobUpdate, TrackerServiceService } from '#gen/shoal/tracker/v1/tracker_service';
import type { Target } from '#wire';
import { Outbox } from './outbox.ts';
import type { Channels, Member } from './types.ts';

/** `broken`: the stream ended and nobody knows yet why; `down`: the tracker did not answer since, so its blobs belong elsewhere. */
export type SessionState = 'idle' | 'open' | 'broken' | 'down' | 'closed';

export interface TrackerSessionEvents {
  message(session: TrackerSession, response: AnnounceResponse): void;
  /** The stream is open again and knows nothing: tell it everything. */
  reopened(session: TrackerSession): void;
  broken(session: TrackerSession): void;
  down(session: TrackerSession): void;
}

export interface TrackerSessionDeps {
  readonly channels: Channels;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
}

/** Bounds of the wait before a reconnect: fast enough for a restart, slow enough for 15,000 agents. */
const backoffMsMin = 100;
const backoffMsMax = 5000;
/** A stream that lived this long was a good one: the next backoff starts anew. */
const settledAfterMs = 5000;
const probeTimeoutMs = 2000;

export class TrackerSession {
  readonly member: Member;
  readonly #target: Target;
  readonly #advertise: string;
  readonly #events: TrackerSessionEvents;
  readonly #deps: TrackerSessionDeps;
  readonly #abort = new AbortController();
  #state: SessionState = 'idle';
  #outbox = new Outbox<Digest, BlobUpdate>();
  #attempt = 0;
  #running: Promise<void> = Promise.resolve();

  constructor(member: Member, advertise: string, events: TrackerSessionEvents, deps: TrackerSessionDeps) {
    this.member = member;
    this.#target = { endpoint: member.endpoint, role: 'tracker', id: member.id };
    this.#advertise = advertise;
    this.#events = events;
    this.#deps = deps;
  }

  get state(): SessionState {
    return this.#state;
  }

  /** Opens the stream before there is anything to say. */
  connect(): void {
    if (this.#state === 'idle') this.#start();
  }

  /** The update for a blob that has not left yet. */
  waiting(digest: Digest): BlobUpdate | undefined {
    return this.#outbox.get(digest);
  }

  /** Queues an update, opening the stream when it is the first. While the stream is broken it is dropped: `reopened` asks for everything. */
  send(digest: Digest, update: BlobUpdate): void {
    this.connect();
    if (this.#state === 'open') this.#outbox.set(digest, update);
  }

  /** Ends the stream, which is this node's departure from all blobs of this tracker. */
  async close(): Promise<void> {
    this.#state = 'closed';
    this.#abort.abort(new AppError('cancelled', 'this node is stopping'));
    this.#outbox.close();
    await this.#running;
  }

  #start(): void {
    this.#state = 'open';
    this.#running = this.#run();
  }

  async #run(): Promise<void> {
    while (!this.#abort.signal.aborted) {
      await this.#stream();
      if (this.#abort.signal.aborted) return;
      this.#state = 'broken';
      this.#events.broken(this);
      if (!(await this.#awaitTracker())) return;
      this.#outbox = new Outbox();
      this.#state = 'open';
      this.#events.reopened(this);
    }
  }

  async #stream(): Promise<void> {
    const { channels, clock, logger } = this.#deps;
    const startedMs = clock.nowMs();
    const outbox = this.#outbox;
    try {
      const client = channels.client(TrackerServiceService, this.#target);
      for await (const response of client.announce(requestsOf(this.#advertise, outbox), { signal: this.#abort.signal })) {
        this.#attempt = 0;
        this.#events.message(this, response);
      }
      logger.info('tracker ended the announce stream', { tracker: this.member.id });
    } catch (error) {
      if (this.#abort.signal.aborted) return;
      const { code, message } = toAppError(error);
      logger.info('announce stream broke', { tracker: this.member.id, code, error: message });
    } finally {
      outbox.close();
      if (clock.nowMs() - startedMs >= settledAfterMs) this.#attempt = 0;
    }
  }

  /** True when the tracker answers again; false when the session was closed. */
  async #awaitTracker(): Promise<boolean> {
    const { channels, clock, rng } = this.#deps;
    const { signal } = this.#abort;
    for (;;) {
      const boundMs = Math.min(backoffMsMax, backoffMsMin * 2 ** Math.min(16, this.#attempt));
      this.#attempt += 1;
      const slept = await clock.sleep(boundMs / 2 + rng.below(boundMs / 2 + 1), { signal }).then(
        () => true,
        () => false,
      );
      if (!slept) return false;
      if (await channels.health(this.#target, { signal, timeoutMs: probeTimeoutMs }).catch(() => false)) return !signal.aborted;
      if (signal.aborted) return false;
      if (this.#state !== 'broken') continue;
      this.#state = 'down';
      this.#deps.logger.warn('tracker is down; its blobs go to the next one', { tracker: this.member.id });
      this.#events.down(this);
    }
  }
}

async function* requestsOf(endpoint: string, outbox: Outbox<Digest, BlobUpdate>): AsyncGenerator<AnnounceRequest> {
  yield { message: { $case: 'hello', hello: { endpoint } } };
  for await (const [, update] of outbox) yield { message: { $case: 'update', update } };
}
