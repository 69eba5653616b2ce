/** The origins as the way to other registries: which upstreams there are, and calls to the one origin that fetches a tag or a blob for the whole mesh. */
import {
  AppError,
  type CallOptions,
  type Clock,
  type Digest,
  digestOf,
  isAppError,
  parseRepositoryName,
  type Reference,
  toAppError,
} from '#core';
import { UpstreamServiceService } from '#gen/shoal/origin/v1/upstream_service';
import { abortable, type UpstreamNamespace } from '#upstream';
import { type Client, digestFromProto, digestToProto, safeNumber } from '#wire';
import type { OriginCluster } from './origin-cluster.ts';
import type { Channels, Member } from './types.ts';

export interface MeshUpstreamsDeps {
  readonly channels: Pick<Channels, 'client'>;
  readonly origins: Pick<OriginCluster, 'owners' | 'members' | 'reportFailure'>;
  readonly clock: Clock;
}

/** What is asked of an upstream, and for whom. */
export interface UpstreamQuery {
  /** The repository in the mesh, with its namespace. */
  readonly repository: string;
  /** What the caller of the gateway sent; empty for nothing, or when the upstream does not check callers. */
  readonly authorization: string;
}

/** A blob that an origin is fetching. */
export interface EnsuredBlob {
  /** Its size once the origin knows it; undefined when it only knows at the end. Rejects when the origin cannot fetch it. */
  readonly sizeBytes: Promise<number | undefined>;
  /** Resolves when the blob is in the mesh. */
  readonly done: Promise<void>;
}

type UpstreamsClient = Client<typeof UpstreamServiceService>;

/** Rules change when an origin is restarted with another config. */
const refreshMs = 30_000;
const listTimeoutMs = 3000;
/** An upstream may be slow and is asked several times. */
const resolveTimeoutMs = 60_000;
/** The largest blobs over the slowest lines. */
const transferTimeoutMs = 6 * 3_600_000;

export class MeshUpstreams implements AsyncDisposable {
  readonly #deps: MeshUpstreamsDeps;
  readonly #stopped = new AbortController();
  #known: readonly UpstreamNamespace[] | undefined;
  #loading: Promise<readonly UpstreamNamespace[]> | undefined;
  #cancelTimer = (): void => undefined;

  constructor(deps: MeshUpstreamsDeps) {
    this.#deps = deps;
  }

  /** Learns the upstreams before anybody asks. */
  connect(): void {
    this.#load().catch(() => undefined);
  }

  /**
   * The upstreams, as an origin told them within the last half minute or, while none answers, before. Throws `unavailable` when no origin has told
   * them yet: without them nobody knows which repositories must be checked with an upstream.
   */
  async namespaces({ signal }: CallOptions): Promise<readonly UpstreamNamespace[]> {
    return this.#known ?? abortable(this.#load(), signal);
  }

  /** Makes a manifest available. `stale`: the upstream did not answer. Throws what `ResolveManifest` ends with. */
  async resolve(
    { repository, authorization }: UpstreamQuery,
    reference: Reference,
    options: CallOptions,
  ): Promise<{ readonly digest: Digest; readonly stale: boolean }> {
    const proto =
      'tag' in reference
        ? ({ $case: 'tag', tag: reference.tag } as const)
        : ({ $case: 'digest', digest: digestToProto(reference.digest) } as const);
    const key = 'tag' in reference ? digestOf(Buffer.from(`${repository}:${reference.tag}`)) : reference.digest;
    const response = await this.#firstOf(this.#deps.origins.owners(key), options, async (client, { signal }) =>
      client.resolveManifest({ repository, reference: proto, authorization }, { signal, timeoutMs: resolveTimeoutMs }),
    );
    return { digest: digestFromProto(response.digest), stale: response.stale };
  }

  async statBlob({ repository, authorization }: UpstreamQuery, digest: Digest, options: CallOptions): Promise<number> {
    const request = { repository, digest: digestToProto(digest), authorization };
    const response = await this.#firstOf(this.#deps.origins.owners(digest), options, async (client, { signal }) =>
      client.statUpstreamBlob(request, { signal, timeoutMs: resolveTimeoutMs }),
    );
    return safeNumber(response.sizeBytes, 'size_bytes');
  }

  /** Resolves when the caller may read the repository. */
  async checkAccess({ repository, authorization }: UpstreamQuery, options: CallOptions): Promise<void> {
    const key = digestOf(Buffer.from(repository));
    await this.#firstOf(this.#deps.origins.owners(key), options, async (client, { signal }) =>
      client.checkAccess({ repository, authorization }, { signal, timeoutMs: resolveTimeoutMs }),
    );
  }

  /** Has the blob fetched by its first owner that answers. Aborting ends the watch, not the fetch. */
  ensureBlob({ repository, authorization }: UpstreamQuery, digest: Digest, options: CallOptions): EnsuredBlob {
    const size = withResolvers<number | undefined>();
    const request = { repository, digest: digestToProto(digest), authorization };
    const done = this.#firstOf(this.#deps.origins.owners(digest), options, async (client, { signal }) => {
      for await (const message of client.ensureBlob(request, { signal, timeoutMs: transferTimeoutMs })) {
        if (message.sizeBytes !== undefined) size.resolve(safeNumber(message.sizeBytes, 'size_bytes'));
        if (message.complete) return;
      }
      throw new AppError('unavailable', 'an origin ended before the blob was complete; try again', { retryAfterMs: 1000 });
    });
    done.then(
      () => size.resolve(undefined),
      (error: unknown) => size.reject(error),
    );
    // Whoever waits for one of them hears of a failure.
    for (const promise of [done, size.promise]) promise.catch(() => undefined);
    return { sizeBytes: size.promise, done };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#cancelTimer();
    this.#stopped.abort(new AppError('cancelled', 'this node is stopping'));
    await this.#loading?.catch(() => undefined);
  }

  #load(): Promise<readonly UpstreamNamespace[]> {
    this.#loading ??= this.#list().finally(() => {
      this.#loading = undefined;
      if (this.#stopped.signal.aborted) return;
      this.#cancelTimer();
      this.#cancelTimer = this.#deps.clock.after(refreshMs, () => this.connect());
    });
    return this.#loading;
  }

  async #list(): Promise<readonly UpstreamNamespace[]> {
    const { signal } = this.#stopped;
    const all = this.#deps.origins.members();
    const members = [...all.filter(({ healthy }) => healthy), ...all.filter(({ healthy }) => !healthy)];
    const { upstreams } = await this.#firstOf(members, { signal }, async (client, call) =>
      client.listUpstreams({}, { ...call, timeoutMs: listTimeoutMs }),
    );
    this.#known = upstreams.map(({ namespace, hosts, library, checksCaller }) => ({
      namespace: parseRepositoryName(namespace),
      hosts,
      library,
      checksCaller,
    }));
    return this.#known;
  }

  /** Asks one origin; the next only when it does not answer, so that an upstream is asked by one of them. */
  async #firstOf<T>(
    members: readonly Member[],
    { signal }: CallOptions,
    ask: (client: UpstreamsClient, options: CallOptions) => Promise<T>,
  ): Promise<T> {
    let failure: AppError | undefined;
    for (const { id, endpoint } of members) {
      try {
        return await ask(this.#deps.channels.client(UpstreamServiceService, { endpoint, role: 'origin', id }), { signal });
      } catch (error) {
        failure = toAppError(error);
        const ownFault = isAppError(failure, 'unavailable', 'deadline-exceeded') && failure.data['kind'] !== 'upstream';
        if (signal.aborted || !ownFault) throw failure;
        this.#deps.origins.reportFailure(id);
      }
    }
    throw new AppError('unavailable', 'no origin answers; try again', { cause: failure, retryAfterMs: 1000 });
  }
}

interface Resolvers<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: unknown) => void;
}

function withResolvers<T>(): Resolvers<T> {
  let resolve: Resolvers<T>['resolve'] = () => undefined;
  let reject: Resolvers<T>['reject'] = () => undefined;
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}
