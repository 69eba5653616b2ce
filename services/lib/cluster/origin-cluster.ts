/** The origins as a node sees them: who owns a blob, who answers, and calls that survive the loss of one of them. */
import {
  AppError,
  type Clock,
  type Digest,
  isAppError,
  type Logger,
  type Metainfo,
  parseDigest,
  peerIdOf,
  type Rng,
  toAppError,
} from '#core';
import { OriginServiceService } from '#gen/shoal/origin/v1/origin_service';
import { type HealthState, Ring, shouldTake } from '#placement';
import type { PeerOffer } from '#swarm';
import { type Client, digestFromProto, digestToProto, metainfoFromProto, metainfoToProto, peerToProto } from '#wire';
import { type Answer, firstAnswer } from './first-answer.ts';
import { type HealthListener, HealthMonitor, type ProbeMode } from './health-monitor.ts';
import { type IngestOutcome, type IngestPlan, ingestAtOwners, longestIngestMs, usualIngestMs } from './ingest.ts';
import type { Channels, ClusterCallOptions, Member, MemberStatus } from './types.ts';

export interface OriginClusterOptions {
  readonly members: readonly Member[];
  /** Owners of each blob. */
  readonly replicas: number;
  /** Origins that must hold a blob before a push is acknowledged; 2 by default. Fewer suffice when fewer are healthy, but never none. */
  readonly writeQuorum?: number;
  /** The id of this node when it is an origin itself: it counts as healthy and is not asked. */
  readonly self?: string;
  /** `all` by default; `suspects` for agents. */
  readonly probe?: ProbeMode;
  /** Of a metainfo call, which may have to reach durable storage; 30 s by default. */
  readonly metainfoTimeoutMs?: number;
  /** How long an owner may be silent before the next is asked as well; 2 s by default. */
  readonly hedgeMs?: number;
  /** Blobs that owners may go on pulling after the caller was answered; 64 by default. Beyond it `ingest` waits for all owners. */
  readonly backgroundIngestsMax?: number;
}

export interface OriginClusterDeps {
  readonly channels: Channels;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
}

export interface IngestOptions extends ClusterCallOptions {
  /** Makes this node, an origin itself, hold the blob on disk. */
  readonly holdHere?: () => Promise<void>;
}

/** A blob's metainfo and the origins that hold it on disk. */
export interface FoundMetainfo {
  readonly metainfo: Metainfo;
  readonly holders: readonly PeerOffer[];
}

/** When an owner takes so much longer than usual over a blob, those beyond the quorum are asked as well. */
const lateMs = 2000;
/** A blob on the disk of an origin. */
export interface HeldBlob {
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** It waits to be written to durable storage. */
  readonly writeBackPending: boolean;
}

/** Owners answer from their own disk. */
const localTimeoutMs = 5000;

/** Blobs are looked for this many times as deep in the ring as they have owners: each owner that was down had a stand-in behind the owners. */
const placesSearched = 3;

export class OriginCluster implements AsyncDisposable {
  readonly #options: Required<Omit<OriginClusterOptions, 'self'>> & { readonly self?: string };
  readonly #deps: OriginClusterDeps;
  readonly #ring: Ring<Member>;
  readonly #monitor: HealthMonitor;
  readonly #abort = new AbortController();
  readonly #background = new Set<Promise<void>>();

  constructor(options: OriginClusterOptions, deps: OriginClusterDeps) {
    this.#options = { writeQuorum: 2, probe: 'all', metainfoTimeoutMs: 30_000, hedgeMs: 2000, backgroundIngestsMax: 64, ...options };
    this.#deps = deps;
    this.#ring = new Ring(options.members);
    const others = options.members.filter(({ id }) => id !== options.self);
    this.#monitor = new HealthMonitor({ members: others, role: 'origin', probe: this.#options.probe }, deps);
  }

  /** How many members own each blob. */
  get replicas(): number {
    return this.#options.replicas;
  }

  /** Every configured member, in id order. */
  members(): readonly MemberStatus[] {
    return this.#ring.members.map(({ id, endpoint }) => ({ id, endpoint, healthy: this.#monitor.isHealthy(id) }));
  }

  /** For operators: well while as many members are up as a blob has owners. */
  state(): { readonly healthy: boolean; readonly message: string } {
    const upCount = this.members().filter(({ healthy }) => healthy).length;
    const allCount = this.#ring.members.length;
    return { healthy: upCount >= Math.min(this.replicas, allCount), message: `${upCount} of ${allCount} origins up` };
  }

  /** The healthy owners, best first; the top member when none is healthy. */
  owners(digest: Digest): readonly Member[] {
    return this.#ring.owners(digest, this.replicas, ({ id }) => this.#monitor.isHealthy(id));
  }

  /** The owners without this node. */
  otherOwners(digest: Digest): readonly Member[] {
    return this.owners(digest).filter(({ id }) => id !== this.#options.self);
  }

  /** True when this node is an owner. */
  isOwner(digest: Digest): boolean {
    return this.owners(digest).some(({ id }) => id === this.#options.self);
  }

  /** The owners that make up the write quorum together with the member `id`, if that holds the blob; best first. */
  quorumWith(id: string, digest: Digest): readonly Member[] {
    const others = this.owners(digest).filter((owner) => owner.id !== id);
    return others.slice(0, this.#quorum - 1);
  }

  /** The healthy owners as peers to download from. */
  ownerOffers(digest: Digest): readonly PeerOffer[] {
    return this.otherOwners(digest).map((member) => offerOf(member));
  }

  onHealthChange(listener: (id: string, state: HealthState) => void): () => void {
    const forward: HealthListener = listener;
    return this.#monitor.onChange(forward);
  }

  /** A caller could not reach an origin. */
  reportFailure(id: string): void {
    this.#monitor.reportFailure(id);
  }

  /**
   * Asks the owners, best first, who in turn ask each other and durable storage. Throws `not-found` (kind `blob`) only when every
   * owner says so, otherwise `unavailable`.
   */
  async getMetainfo(digest: Digest, { signal }: ClusterCallOptions): Promise<Metainfo> {
    const { metainfoTimeoutMs: timeoutMs, hedgeMs } = this.#options;
    const answer = await this.#firstOf(
      this.otherOwners(digest),
      { digest, localOnly: false, callerLost: false, timeoutMs, hedgeMs },
      signal,
    );
    if (answer.ok) return answer.value;
    throw failureOf(digest, answer.errors);
  }

  /**
   * Looks on the disks of the other origins: the owners first, then those who would own the blob if everybody were up, then those who stood in for
   * owners that were down. Undefined when all of them answered that they do not hold it; throws `unavailable` when one of them did not answer.
   */
  async findMetainfo(digest: Digest, { signal }: ClusterCallOptions): Promise<FoundMetainfo | undefined> {
    const settled = this.#ring.order(digest).slice(0, this.replicas * placesSearched);
    const candidates = [...new Set([...this.owners(digest), ...settled])].filter(({ id }) => id !== this.#options.self);
    return this.#findAt(candidates, digest, { signal, callerLost: false });
  }

  /**
   * As {@link findMetainfo}, at members that have said they hold the blob, with word that this owner has lost it: the one that answers writes it to durable
   * storage now.
   */
  async findLost(digest: Digest, holders: readonly string[], { signal }: ClusterCallOptions): Promise<FoundMetainfo | undefined> {
    const candidates = this.#ring.order(digest).filter(({ id }) => holders.includes(id) && id !== this.#options.self);
    return this.#findAt(candidates, digest, { signal, callerLost: true });
  }

  /**
   * A page of the blobs on the disk of a member in digest order, `next` where the next one begins; of all, or of those that durable storage is not known to
   * hold. Throws `unavailable`, `deadline-exceeded`.
   */
  async listBlobs(
    member: Member,
    page: { readonly limit: number; readonly after?: Digest; readonly notInStorage: boolean },
    { signal }: ClusterCallOptions,
  ): Promise<{ readonly blobs: readonly HeldBlob[]; readonly next: Digest | undefined }> {
    const request = { pageSize: page.limit, pageToken: page.after ?? '', notInStorage: page.notInStorage };
    const { blobs, nextPageToken } = await this.#call(member, (client) => client.listBlobs(request, { signal, timeoutMs: localTimeoutMs }));
    return {
      blobs: blobs.map(({ digest, sizeBytes, ...blob }) => ({ ...blob, digest: digestFromProto(digest), sizeBytes: Number(sizeBytes) })),
      next: nextPageToken === '' ? undefined : parseDigest(nextPageToken),
    };
  }

  /** Whether this node, an origin, should bring a blob to itself that `holders` have. `isPresent` says who still counts, healthy or not. */
  shouldTake(digest: Digest, holders: readonly string[], isPresent: (id: string) => boolean): boolean {
    const { replicas, self } = this.#options;
    return self !== undefined && shouldTake({ ring: this.#ring, replicas, self, isPresent }, digest, holders);
  }

  async #findAt(
    candidates: readonly Member[],
    digest: Digest,
    { signal, callerLost }: { readonly signal: AbortSignal; readonly callerLost: boolean },
  ): Promise<FoundMetainfo | undefined> {
    const hedgeMs = Math.min(this.#options.hedgeMs, 200);
    const answer = await this.#firstOf(candidates, { digest, localOnly: true, callerLost, timeoutMs: localTimeoutMs, hedgeMs }, signal);
    if (!answer.ok) {
      if (answer.errors.every((error) => isAppError(error, 'not-found'))) return undefined;
      throw failureOf(digest, answer.errors);
    }
    // Who has said that it holds a lost blob is a source like the one that answered first.
    const offers = candidates.map((member) => ({ ...offerOf(member), complete: callerLost || member === answer.from }));
    return { metainfo: answer.value, holders: offers.sort((a, b) => Number(b.complete) - Number(a.complete)) };
  }

  /**
   * Makes the owners hold a blob. `inline` is the whole of a tiny blob; otherwise `sources` must serve it until `settled`. Resolves when the
   * write quorum holds it on disk. Throws `unavailable` when that cannot be reached. `holdHere` does what is asked of an owner at this node, which
   * counts as one of the quorum: it has the blob already, so the others beyond the quorum take it afterwards.
   */
  async ingest(
    metainfo: Metainfo,
    sources: readonly PeerOffer[],
    inline: Uint8Array | undefined,
    { signal, holdHere }: IngestOptions,
  ): Promise<IngestOutcome> {
    const plan = this.#planOf(metainfo, inline === undefined && holdHere !== undefined);
    const request = {
      metainfo: metainfoToProto(metainfo),
      sources: sources.map(peerToProto),
      inlineData: inline ?? new Uint8Array(0),
    };
    const timeoutMs = longestIngestMs(metainfo.sizeBytes);
    const outcome = await ingestAtOwners(
      plan,
      async (member, options) => {
        if (member.id === this.#options.self && holdHere !== undefined) await holdHere();
        else await this.#call(member, (client) => client.ingest(request, { ...options, timeoutMs }));
      },
      { signal, background: this.#abort.signal, clock: this.#deps.clock },
    );
    const background = outcome.settled.finally(() => this.#background.delete(background));
    this.#background.add(background);
    if (this.#background.size > this.#options.backgroundIngestsMax) await outcome.settled;
    return outcome;
  }

  /**
   * Who is asked to hold a blob: in ring order, those believed down last, in case the belief is wrong. The quorum does not shrink with it: one copy
   * would not survive one disk.
   */
  #planOf({ digest, sizeBytes }: Metainfo, isHere: boolean): IngestPlan {
    const order = [...this.#ring.order(digest)].sort(
      (a, b) => Number(this.#monitor.isHealthy(b.id)) - Number(this.#monitor.isHealthy(a.id)),
    );
    const quorum = this.#quorum;
    if (!isHere) return { candidates: order, replicas: this.replicas, quorum };
    const rank = order.findIndex(({ id }) => id === this.#options.self);
    const candidates = [...order.slice(rank, rank + 1), ...order.filter((_, place) => place !== rank)];
    const restAfterMs = lateMs + usualIngestMs(sizeBytes);
    return { candidates, replicas: rank < this.replicas ? this.replicas : this.replicas + 1, quorum, restAfterMs };
  }

  get #quorum(): number {
    return Math.max(1, Math.min(this.#options.writeQuorum, this.replicas, this.#ring.members.length));
  }

  /** Stops checks and background ingests. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort(new AppError('cancelled', 'this node is stopping'));
    await Promise.all([this.#monitor[Symbol.asyncDispose](), ...this.#background]);
  }

  #firstOf(
    candidates: readonly Member[],
    query: {
      readonly digest: Digest;
      readonly localOnly: boolean;
      readonly callerLost: boolean;
      readonly timeoutMs: number;
      readonly hedgeMs: number;
    },
    signal: AbortSignal,
  ): Promise<Answer<Member, Metainfo>> {
    const { digest, localOnly, callerLost, timeoutMs, hedgeMs } = query;
    const request = { digest: digestToProto(digest), localOnly, callerLost };
    return firstAnswer(
      candidates,
      async (member, options) => {
        const response = await this.#call(member, (client) => client.getMetainfo(request, { ...options, timeoutMs }));
        return metainfoNamed(digest, metainfoFromProto(response.metainfo));
      },
      { signal, hedgeMs },
      this.#deps,
    );
  }

  async #call<T>({ id, endpoint }: Member, call: (client: Client<typeof OriginServiceService>) => Promise<T>): Promise<T> {
    try {
      return await call(this.#deps.channels.client(OriginServiceService, { endpoint, role: 'origin', id }));
    } catch (error) {
      const failure = toAppError(error);
      if (isAppError(failure, 'unavailable', 'deadline-exceeded')) this.#monitor.reportFailure(id);
      throw failure;
    }
  }
}

function offerOf({ id, endpoint }: Member): PeerOffer {
  return { peer: peerIdOf({ role: 'origin', id }), endpoint, complete: true };
}

function metainfoNamed(digest: Digest, metainfo: Metainfo): Metainfo {
  if (metainfo.digest === digest) return metainfo;
  throw new AppError('data-loss', 'an origin answered with the metainfo of another blob', { data: { digest } });
}

function failureOf(digest: Digest, errors: readonly AppError[]): AppError {
  if (errors.length > 0 && errors.every((error) => isAppError(error, 'not-found'))) {
    return new AppError('not-found', 'no owner has this blob', { data: { kind: 'blob', digest } });
  }
  const last = errors.findLast((error) => !isAppError(error, 'not-found'));
  return new AppError('unavailable', 'the owners of the blob do not answer; try again', {
    data: { digest },
    retryAfterMs: 1000,
    ...(last === undefined ? {} : { cause: last }),
  });
}
