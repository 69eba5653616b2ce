/** The trackers as a node sees them: which one is in charge of a blob, what each was told, and lookups that survive their loss. */
import { AppError, assertNever, type Clock, type Digest, type Logger, type Rng, toAppError } from '#core';
import {
  type AnnounceResponse,
  type BlobFailure,
  BlobState,
  type BlobUpdate,
  FailureReason,
  type PeerOffer as ProtoOffer,
} from '#gen/shoal/tracker/v1/tracker_service';
import { Ring } from '#placement';
import type { PeerOffer } from '#swarm';
import { digestFromProto, digestToProto, metainfoFromProto, peerFromProto } from '#wire';
import { Lookup, type LookupDeps } from './lookup.ts';
import type { OriginCluster } from './origin-cluster.ts';
import { TrackerSession } from './tracker-session.ts';
import type { Channels, ClusterCallOptions, LookupResult, Member, PeerDirectory } from './types.ts';

export interface TrackerDirectoryOptions {
  readonly trackers: readonly Member[];
  /** `host:port` of this node's peer service; ":port" lets the tracker fill in the host. */
  readonly advertise: string;
  /** Blobs told to trackers at a time; 20,000 by default, as a tracker takes no more from one node. The least recently told is withdrawn for a new one. */
  readonly blobsMax?: number;
  /** How long a tracker may be silent before the owners are asked as well; 300 ms by default. */
  readonly hedgeMs?: number;
  /** Peers that a lookup asks for; 50 by default. */
  readonly lookupPeersWanted?: number;
}

export interface TrackerDirectoryDeps {
  readonly channels: Channels;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
  readonly origins: Pick<OriginCluster, 'getMetainfo' | 'ownerOffers'>;
}

interface Entry {
  readonly digest: Digest;
  state: 'wanted' | 'complete';
  peersWanted: number;
  /** Made by a lookup; nobody has told yet what this node is to the blob. */
  provisional: boolean;
  tracker: TrackerSession | undefined;
}

type OfferListener = (digest: Digest, peers: readonly PeerOffer[]) => void;

/** After the owners could not answer: the tracker may have it in its cache. */
const graceMs = 2000;
/** Largest number the protocol allows. */
const peersWantedMax = 100;

export class TrackerDirectory implements PeerDirectory {
  readonly #options: Required<TrackerDirectoryOptions>;
  readonly #deps: TrackerDirectoryDeps;
  readonly #ring: Ring<Member>;
  readonly #sessions: ReadonlyMap<string, TrackerSession>;
  readonly #lookupDeps: LookupDeps;
  /** Least recently told first. */
  readonly #entries = new Map<Digest, Entry>();
  readonly #lookups = new Map<Digest, Lookup>();
  readonly #listeners = new Set<OfferListener>();
  #closed = false;

  constructor(options: TrackerDirectoryOptions, deps: TrackerDirectoryDeps) {
    this.#options = { blobsMax: 20_000, hedgeMs: 300, lookupPeersWanted: 50, ...options };
    this.#deps = deps;
    this.#ring = new Ring(options.trackers);
    const events = {
      message: (_: TrackerSession, response: AnnounceResponse) => this.#onMessage(response),
      reopened: (session: TrackerSession) => this.#reassign(session),
      broken: (session: TrackerSession) => this.#onBroken(session),
      down: (session: TrackerSession) => this.#reassign(session),
    };
    this.#sessions = new Map(options.trackers.map((member) => [member.id, new TrackerSession(member, options.advertise, events, deps)]));
    this.#lookupDeps = {
      clock: deps.clock,
      askOwners: async (digest, call) => deps.origins.getMetainfo(digest, call),
      owners: (digest) => this.owners(digest),
    };
  }

  /** Opens the streams before the first blob needs them. */
  connect(): void {
    for (const session of this.#sessions.values()) session.connect();
  }

  /** Blobs that trackers are told of. */
  get blobCount(): number {
    return this.#entries.size;
  }

  owners(digest: Digest): readonly PeerOffer[] {
    return this.#deps.origins.ownerOffers(digest);
  }

  onOffer(listener: OfferListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  update(digest: Digest, update: { readonly state: 'wanted' | 'complete' | 'gone'; readonly peersWanted: number }): void {
    if (this.#closed) return;
    const { state } = update;
    switch (state) {
      case 'gone':
        this.#forget(digest);
        break;
      case 'wanted':
      case 'complete': {
        const entry = this.#touch(digest);
        entry.provisional = false;
        entry.state = state;
        const asked = Math.min(update.peersWanted, peersWantedMax);
        // A mere change of state keeps the number for the next tracker; a complete blob needs nobody.
        if (asked > 0 || state === 'complete') entry.peersWanted = asked;
        this.#tell(entry, asked);
        break;
      }
      default:
        assertNever(state);
    }
  }

  async lookup(digest: Digest, options: ClusterCallOptions): Promise<LookupResult> {
    if (this.#closed) throw new AppError('unavailable', 'this node is stopping');
    const lookup = this.#lookups.get(digest) ?? this.#startLookup(digest);
    return lookup.join(options);
  }

  async askOwners(digest: Digest, options: ClusterCallOptions): Promise<LookupResult> {
    const metainfo = await this.#deps.origins.getMetainfo(digest, options);
    return { metainfo, peers: this.owners(digest) };
  }

  /** Leaves all swarms and ends all lookups. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    for (const lookup of this.#lookups.values()) lookup.cancel(new AppError('cancelled', 'this node is stopping'));
    await Promise.all(Array.from(this.#sessions.values(), (session) => session.close()));
    this.#entries.clear();
  }

  #startLookup(digest: Digest): Lookup {
    const known = this.#entries.get(digest);
    const entry = known ?? this.#touch(digest);
    if (known === undefined) entry.peersWanted = this.#options.lookupPeersWanted;
    const session = this.#trackerOf(digest);
    const lookup = new Lookup(digest, session !== undefined, { hedgeMs: this.#options.hedgeMs, graceMs }, this.#lookupDeps);
    this.#lookups.set(digest, lookup);
    void lookup.ended.then((found) => {
      this.#lookups.delete(digest);
      const left = this.#entries.get(digest);
      if (!found && left?.provisional === true) this.#forget(digest);
    });
    this.#tell(entry, Math.max(entry.peersWanted, this.#options.lookupPeersWanted));
    return lookup;
  }

  /** The blob's entry, now the most recently told one; made when there is none. */
  #touch(digest: Digest): Entry {
    const entry = this.#entries.get(digest) ?? { digest, state: 'wanted', peersWanted: 0, provisional: true, tracker: undefined };
    this.#entries.delete(digest);
    if (this.#entries.size >= this.#options.blobsMax) this.#evict();
    this.#entries.set(digest, entry);
    return entry;
  }

  /** Stops telling of one blob: the oldest that this node only seeds, or the oldest. */
  #evict(): void {
    let oldest: Digest | undefined;
    for (const entry of this.#entries.values()) {
      oldest ??= entry.digest;
      if (entry.state !== 'complete') continue;
      oldest = entry.digest;
      break;
    }
    if (oldest !== undefined) this.#forget(oldest);
  }

  #forget(digest: Digest): void {
    const entry = this.#entries.get(digest);
    if (entry === undefined) return;
    this.#entries.delete(digest);
    this.#sendGone(entry);
  }

  #sendGone({ digest, tracker }: Entry): void {
    if (tracker?.state !== 'open') return;
    tracker.send(digest, { digest: digestToProto(digest), state: BlobState.GONE, peersWanted: 0, metainfoWanted: false });
  }

  /** The first tracker in the blob's order that is not down. */
  #trackerOf(digest: Digest): TrackerSession | undefined {
    for (const { id } of this.#ring.order(digest)) {
      const session = this.#sessions.get(id);
      if (session !== undefined && session.state !== 'down' && session.state !== 'closed') return session;
    }
    return undefined;
  }

  /** Tells the blob's tracker, and the one before when it changed. */
  #tell(entry: Entry, peersWanted: number): void {
    const session = this.#trackerOf(entry.digest);
    if (session !== entry.tracker) this.#sendGone(entry);
    entry.tracker = session;
    if (session === undefined) return;
    const waiting = session.waiting(entry.digest);
    const wanted = entry.state === 'complete' ? peersWanted : Math.max(peersWanted, waiting?.peersWanted ?? 0);
    const update: BlobUpdate = {
      digest: digestToProto(entry.digest),
      state: entry.state === 'complete' ? BlobState.COMPLETE : BlobState.WANTED,
      peersWanted: wanted,
      metainfoWanted: this.#lookups.has(entry.digest),
    };
    session.send(entry.digest, update);
  }

  #onBroken(session: TrackerSession): void {
    for (const [digest, lookup] of this.#lookups) if (this.#entries.get(digest)?.tracker === session) lookup.trackerFailed();
  }

  /** A tracker went down or came back: blobs whose tracker it was or is are told anew. */
  #reassign(session: TrackerSession): void {
    for (const entry of this.#entries.values()) {
      const next = this.#trackerOf(entry.digest);
      if (entry.tracker !== session && next !== session) continue;
      this.#tell(entry, entry.state === 'wanted' ? entry.peersWanted : 0);
      if (next !== undefined) this.#lookups.get(entry.digest)?.trackerReplaced();
    }
  }

  #onMessage({ message }: AnnounceResponse): void {
    try {
      switch (message?.$case) {
        case 'offer':
          this.#onOffer(message.offer);
          break;
        case 'failure':
          this.#onFailure(message.failure);
          break;
        case undefined:
          break;
        default:
          assertNever(message);
      }
    } catch (error) {
      this.#deps.logger.warn('a tracker sent a malformed message', { error: toAppError(error).message });
    }
  }

  #onOffer(offer: ProtoOffer): void {
    const digest = digestFromProto(offer.digest);
    const peers = offer.peers.map((peer) => peerFromProto(peer));
    const lookup = this.#lookups.get(digest);
    const metainfo = lookup === undefined || offer.metainfo === undefined ? undefined : metainfoFromProto(offer.metainfo);
    if (metainfo?.digest === digest) lookup?.offered(metainfo, peers);
    else for (const listener of this.#listeners) listener(digest, peers);
  }

  #onFailure(failure: BlobFailure): void {
    const lookup = this.#lookups.get(digestFromProto(failure.digest));
    if (failure.reason === FailureReason.UNKNOWN_BLOB) lookup?.unknown(failure.message);
    else lookup?.trackerFailed();
  }
}
