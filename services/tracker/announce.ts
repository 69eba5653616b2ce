/** Announce: one stream for each node, which tells what it has and wants and hears of peers. The end of the stream is its departure. */
import { Outbox } from '#cluster';
import { AppError, type Clock, type Digest, isAppError, type Metainfo, type PeerId, peerIdOf, toAppError } from '#core';
import {
  type AnnounceRequest,
  type AnnounceResponse,
  BlobState,
  type BlobUpdate,
  FailureReason,
} from '#gen/shoal/tracker/v1/tracker_service';
import type { PeerOffer, Roster } from '#swarm';
import { advertisedEndpoint, type CallContext, digestFromProto, digestToProto, metainfoToProto, peerToProto } from '#wire';
import type { MetainfoCache } from './metainfo-cache.ts';
import { WantList } from './want-list.ts';

export interface AnnounceDeps {
  readonly roster: Roster;
  readonly metainfos: MetainfoCache;
  readonly clock: Pick<Clock, 'after'>;
  /** The owners of a blob as peers. */
  readonly owners: (digest: Digest) => readonly PeerOffer[];
}

/** What waits for a stream, for one blob. */
interface Waiting {
  readonly peers: ReadonlyMap<PeerId, PeerOffer>;
  readonly metainfo: Metainfo | undefined;
  readonly failure: { readonly reason: FailureReason; readonly message: string } | undefined;
}

interface Stream {
  readonly peer: PeerId;
  readonly session: number;
  readonly endpoint: string;
  readonly outbox: Outbox<Digest, Waiting>;
  readonly wanted: Set<Digest>;
  lookupCount: number;
}

const peersWantedMax = 100;
/** A handout smaller than this is completed with the owners; in larger swarms the roster rations them. */
const handoutWithoutOwnersMin = 10;
/** A newcomer is offered to this many who wait: as many as it has upload slots for at first. */
const pushFanout = 10;
/** Messages that may wait for a slow reader before its own updates wait as well. */
const waitingMax = 1000;
/** How long a stream may wait before its hello: as long as an exchange. */
const helloTimeoutMs = 10_000;
/** Questions for metainfo of one stream at a time. */
const lookupsMax = 256;

export class AnnounceService {
  readonly #deps: AnnounceDeps;
  readonly #streams = new Map<PeerId, Stream>();
  readonly #wants = new WantList<Stream>();
  #sessionCount = 0;

  constructor(deps: AnnounceDeps) {
    this.#deps = deps;
  }

  get streamCount(): number {
    return this.#streams.size;
  }

  /** The handler. Throws `invalid-argument` for a malformed message, `aborted` when a newer stream of the same node replaces this one. */
  async *announce(requests: AsyncIterable<AnnounceRequest>, context: CallContext): AsyncGenerator<AnnounceResponse> {
    const { signal } = context;
    const iterator = requests[Symbol.asyncIterator]();
    const stream = this.#join(await this.#first(iterator, signal), context);
    const onAbort = (): void => stream.outbox.close(toAppError(signal.reason));
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    const reading = this.#read(stream, iterator).then(
      () => stream.outbox.close(),
      (error: unknown) => stream.outbox.close(toAppError(error)),
    );
    try {
      for await (const [digest, waiting] of stream.outbox) yield responseOf(digest, waiting);
      await reading;
    } finally {
      signal.removeEventListener('abort', onAbort);
      stream.outbox.close();
      this.#leave(stream);
    }
  }

  /** The first message, within the time for it. */
  async #first(iterator: AsyncIterator<AnnounceRequest>, signal: AbortSignal): Promise<IteratorResult<AnnounceRequest>> {
    let release = (): void => undefined;
    const over = new Promise<never>((_resolve, reject) => {
      const cancelTimer = this.#deps.clock.after(helloTimeoutMs, () => {
        reject(new AppError('deadline-exceeded', 'no hello came in time; send it as the first message of Announce'));
      });
      const onAbort = (): void => reject(toAppError(signal.reason));
      if (signal.aborted) onAbort();
      signal.addEventListener('abort', onAbort, { once: true });
      release = () => {
        cancelTimer();
        signal.removeEventListener('abort', onAbort);
      };
    });
    try {
      return await Promise.race([iterator.next(), over]);
    } finally {
      release();
    }
  }

  #join(first: IteratorResult<AnnounceRequest>, { caller, callerAddress }: CallContext): Stream {
    const message = first.done === true ? undefined : first.value.message;
    if (message?.$case !== 'hello') throw new AppError('invalid-argument', 'the first message of Announce is hello');
    const peer = peerIdOf(caller);
    const endpoint = advertisedEndpoint(message.hello.endpoint, callerAddress);
    this.#sessionCount += 1;
    const stream: Stream = { peer, session: this.#sessionCount, endpoint, outbox: new Outbox(), wanted: new Set(), lookupCount: 0 };
    this.#deps.roster.apply({ type: 'peer-joined', peer, session: stream.session, endpoint });
    const before = this.#streams.get(peer);
    this.#streams.set(peer, stream);
    before?.outbox.close(new AppError('aborted', 'a newer stream of this node took over; two nodes must not share an identity'));
    return stream;
  }

  #leave(stream: Stream): void {
    for (const digest of stream.wanted) this.#wants.delete(digest, stream);
    this.#deps.roster.apply({ type: 'peer-left', peer: stream.peer, session: stream.session });
    if (this.#streams.get(stream.peer) === stream) this.#streams.delete(stream.peer);
  }

  async #read(stream: Stream, iterator: AsyncIterator<AnnounceRequest>): Promise<void> {
    for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) {
      const { message } = next.value;
      if (message?.$case !== 'update') throw new AppError('invalid-argument', 'after hello come updates');
      // A stream that was replaced or cut off must not come back into the roster.
      if (this.#streams.get(stream.peer) !== stream) return;
      this.#update(stream, message.update);
      await stream.outbox.below(waitingMax);
    }
  }

  #update(stream: Stream, update: BlobUpdate): void {
    const digest = digestFromProto(update.digest);
    switch (update.state) {
      case BlobState.GONE:
        this.#withdraw(stream, digest);
        return;
      case BlobState.WANTED:
      case BlobState.COMPLETE:
        this.#announced(stream, digest, update);
        return;
      case BlobState.UNSPECIFIED:
        throw new AppError('invalid-argument', 'an update says what the node is to the blob');
      default:
        throw new AppError('invalid-argument', `unknown blob state ${String(update.state satisfies never)}`);
    }
  }

  #announced(stream: Stream, digest: Digest, update: BlobUpdate): void {
    const { peer, session } = stream;
    const complete = update.state === BlobState.COMPLETE;
    const { roster } = this.#deps;
    const knownCount = roster.membershipCount;
    try {
      roster.apply({ type: 'blob-announced', peer, session, digest, complete, haveCount: complete ? 1 : 0 });
    } catch (error) {
      // A limit of the roster costs the node this blob, not its stream.
      if (!isAppError(error, 'resource-exhausted')) throw error;
      fail(stream.outbox, digest, FailureReason.UNAVAILABLE, error.message);
      return;
    }
    if (complete || roster.membershipCount > knownCount) this.#push(stream, digest, complete);
    const wantedCount = Math.min(update.peersWanted, peersWantedMax);
    if (update.metainfoWanted) void this.#lookup(stream, digest, wantedCount);
    else if (wantedCount > 0) this.#offer(stream, digest, wantedCount, undefined);
    if (complete) this.#stopWanting(stream, digest);
  }

  /** Tells those who wait of a newcomer. */
  #push(stream: Stream, digest: Digest, complete: boolean): void {
    const offer: PeerOffer = { peer: stream.peer, endpoint: stream.endpoint, complete };
    for (const waiting of this.#wants.take(digest, pushFanout, stream)) add(waiting.outbox, digest, [offer]);
  }

  #offer(stream: Stream, digest: Digest, wantedCount: number, metainfo: Metainfo | undefined): void {
    const handout = wantedCount === 0 ? [] : this.#deps.roster.handout(digest, stream.peer, wantedCount);
    const owners = handout.length < Math.min(wantedCount, handoutWithoutOwnersMin) ? this.#deps.owners(digest) : [];
    const others = owners.filter(({ peer }) => peer !== stream.peer);
    add(stream.outbox, digest, [...others, ...handout], metainfo);
    this.#wants.set(digest, stream, wantedCount - handout.length);
    if (wantedCount > handout.length) stream.wanted.add(digest);
    else stream.wanted.delete(digest);
  }

  async #lookup(stream: Stream, digest: Digest, wantedCount: number): Promise<void> {
    if (stream.lookupCount >= lookupsMax) {
      fail(stream.outbox, digest, FailureReason.UNAVAILABLE, 'too many lookups of this node are under way');
      return;
    }
    stream.lookupCount += 1;
    try {
      const metainfo = await this.#deps.metainfos.get(digest);
      if (this.#streams.get(stream.peer) === stream) this.#offer(stream, digest, wantedCount, metainfo);
    } catch (error) {
      const unknown = isAppError(error, 'not-found');
      if (unknown) this.#withdraw(stream, digest);
      fail(stream.outbox, digest, unknown ? FailureReason.UNKNOWN_BLOB : FailureReason.UNAVAILABLE, toAppError(error).message);
    } finally {
      stream.lookupCount -= 1;
    }
  }

  #withdraw(stream: Stream, digest: Digest): void {
    this.#stopWanting(stream, digest);
    this.#deps.roster.apply({ type: 'blob-withdrawn', peer: stream.peer, session: stream.session, digest });
  }

  #stopWanting(stream: Stream, digest: Digest): void {
    stream.wanted.delete(digest);
    this.#wants.delete(digest, stream);
  }
}

const nothing: Waiting = { peers: new Map(), metainfo: undefined, failure: undefined };

/** Merges peers into the offer that waits. */
function add(outbox: Stream['outbox'], digest: Digest, offers: readonly PeerOffer[], metainfo?: Metainfo): void {
  const waiting = outbox.get(digest) ?? nothing;
  const peers = new Map(waiting.peers);
  for (const offer of offers) peers.set(offer.peer, offer);
  outbox.set(digest, { peers, metainfo: metainfo ?? waiting.metainfo, failure: undefined });
}

function fail(outbox: Stream['outbox'], digest: Digest, reason: FailureReason, message: string): void {
  outbox.set(digest, { ...nothing, failure: { reason, message } });
}

function responseOf(digest: Digest, { peers, metainfo, failure }: Waiting): AnnounceResponse {
  if (failure !== undefined) return { message: { $case: 'failure', failure: { digest: digestToProto(digest), ...failure } } };
  const offer = {
    digest: digestToProto(digest),
    peers: Array.from(peers.values(), peerToProto),
    metainfo: metainfo === undefined ? undefined : metainfoToProto(metainfo),
  };
  return { message: { $case: 'offer', offer } };
}
