/**
 * Upload sessions at the origins, as a proxy uses them. The id of a session says which origin has it, so that every proxy continues every session
 * and none keeps anything. New sessions go to the origins in turn.
 */
import {
  AppError,
  assert,
  type BlobStat,
  type CallOptions,
  type Digest,
  type DigestAlgorithm,
  isAppError,
  type RepositoryName,
  type Rng,
  toAppError,
  type UploadChunk,
  type UploadStat,
} from '#core';
import { DigestAlgorithm as ProtoAlgorithm } from '#gen/shoal/common/v1/blob';
import { UploadServiceService } from '#gen/shoal/origin/v1/upload_service';
import { type Client, digestToProto, safeNumber } from '#wire';
import type { OriginCluster } from './origin-cluster.ts';
import type { Channels, Member } from './types.ts';
import { UploadIds } from './upload-id.ts';
import type { OfferedBody, UploadSource } from './upload-source.ts';

export interface OriginUploadsOptions {
  /** Where this node's UploadSourceService is reached, `host:port` or `:port`. */
  readonly advertise: string;
}

export interface OriginUploadsDeps {
  readonly channels: Channels;
  readonly origins: Pick<OriginCluster, 'members' | 'reportFailure'>;
  readonly source: UploadSource;
  readonly rng: Rng;
}

/** Origins that are asked for a new session before the client is told to try again. */
const startAttemptsMax = 3;
const startTimeoutMs = 5000;
/** A chunk may take as long as its client; idle limits on both ends and pings find what hangs. */
const appendTimeoutMs = 24 * 3_600_000;
/** The origin may have to hash everything again; its calls to the owners have deadlines of their own. */
const commitTimeoutMs = 3_600_000;

export class OriginUploads {
  readonly #options: OriginUploadsOptions;
  readonly #deps: OriginUploadsDeps;
  readonly #ids: UploadIds;
  #turn: number;

  constructor(options: OriginUploadsOptions, deps: OriginUploadsDeps) {
    this.#options = options;
    this.#deps = deps;
    const members = deps.origins.members();
    this.#ids = new UploadIds(members);
    this.#turn = deps.rng.below(members.length);
  }

  /** See `ImageWriter.startUpload`. Throws `unavailable` when no origin takes a session, or `resource-exhausted` when those asked have too many. */
  async start(repository: RepositoryName, hint: { readonly algorithm?: DigestAlgorithm }, { signal }: CallOptions): Promise<UploadStat> {
    const algorithm = hint.algorithm === 'sha512' ? ProtoAlgorithm.SHA512 : ProtoAlgorithm.UNSPECIFIED;
    let failure: AppError | undefined;
    for (const member of this.#inTurn().slice(0, startAttemptsMax)) {
      try {
        const { id } = await this.#call(member, (client) =>
          client.startUpload({ repository, algorithm }, { signal, timeoutMs: startTimeoutMs }),
        );
        return { id, offsetBytes: 0 };
      } catch (error) {
        if (!isAppError(error, 'unavailable', 'resource-exhausted')) throw error;
        failure = error;
      }
    }
    assert(failure !== undefined, 'a cluster has origins');
    throw failure;
  }

  /** See `ImageWriter.statUpload`. All that ask for a session throw `unavailable` while its origin does not answer. */
  async stat(repository: RepositoryName, id: string, { signal }: CallOptions): Promise<UploadStat> {
    const { offsetBytes } = await this.#call(this.#originOf(id), (client) => client.getUpload({ repository, id }, { signal }));
    return { id, offsetBytes: safeNumber(offsetBytes, 'offset_bytes') };
  }

  /** See `ImageWriter.appendUpload`. */
  async append(repository: RepositoryName, id: string, chunk: UploadChunk, { signal }: CallOptions): Promise<UploadStat> {
    const member = this.#originOf(id);
    const { body, startByte, lengthBytes } = chunk;
    const request = {
      repository,
      id,
      startByte: startByte === undefined ? undefined : BigInt(startByte),
      lengthBytes: lengthBytes === undefined ? undefined : BigInt(lengthBytes),
      sourceEndpoint: this.#options.advertise,
    };
    const ask = async ({ token, signal: whileOffered }: OfferedBody): Promise<bigint> => {
      const options = { signal: whileOffered, timeoutMs: appendTimeoutMs };
      const answer = await this.#call(member, (client) => client.appendUpload({ ...request, token }, options));
      return answer.offsetBytes;
    };
    try {
      return { id, offsetBytes: safeNumber(await this.#deps.source.offer(member.id, body, ask, { signal }), 'offset_bytes') };
    } catch (error) {
      if (signal.aborted || !isAppError(error, 'cancelled')) throw error;
      throw new AppError('unavailable', 'the chunk broke off on its way to its origin; ask for the offset and send the rest', {
        retryAfterMs: 1000,
        cause: error,
      });
    }
  }

  /** Returns when the write quorum holds the blob. The session stays, so that this can be asked again, until {@link cancel}. */
  async commit(repository: RepositoryName, id: string, digest: Digest, { signal }: CallOptions): Promise<BlobStat> {
    const { sizeBytes } = await this.#call(this.#originOf(id), (client) =>
      client.commitUpload({ repository, id, digest: digestToProto(digest) }, { signal, timeoutMs: commitTimeoutMs }),
    );
    return { digest, sizeBytes: safeNumber(sizeBytes, 'size_bytes') };
  }

  /** Ends a session; a blob that was committed stays. */
  async cancel(repository: RepositoryName, id: string, { signal }: CallOptions): Promise<void> {
    await this.#call(this.#originOf(id), (client) => client.cancelUpload({ repository, id }, { signal }));
  }

  /** The healthy origins, another one first each time; all when none is healthy. */
  #inTurn(): readonly Member[] {
    const members = this.#deps.origins.members();
    const healthy = members.filter((member) => member.healthy);
    const candidates = healthy.length > 0 ? healthy : members;
    this.#turn = (this.#turn + 1) % members.length;
    const first = this.#turn % candidates.length;
    return [...candidates.slice(first), ...candidates.slice(0, first)];
  }

  #originOf(id: string): Member {
    const member = this.#ids.originOf(id);
    if (member !== undefined) return member;
    throw new AppError('not-found', 'there is no such upload; start a new one', { data: { kind: 'upload' } });
  }

  async #call<T>({ id, endpoint }: Member, call: (client: Client<typeof UploadServiceService>) => Promise<T>): Promise<T> {
    try {
      return await call(this.#deps.channels.client(UploadServiceService, { endpoint, role: 'origin', id }));
    } catch (error) {
      const failure = toAppError(error);
      // One that says when to try again has answered.
      if (!isAppError(failure, 'unavailable', 'deadline-exceeded') || failure.retryAfterMs !== undefined) throw failure;
      this.#deps.origins.reportFailure(id);
      throw new AppError('unavailable', 'the origin that holds this upload does not answer; try again, or start another upload', {
        retryAfterMs: 2000,
        cause: failure,
      });
    }
  }
}
