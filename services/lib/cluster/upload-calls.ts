/** UploadService of one origin, as a proxy calls it. */
import { AppError, type Digest, type DigestAlgorithm, isAppError, type RepositoryName, toAppError, type UploadChunk } from '#core';
import { DigestAlgorithm as ProtoAlgorithm } from '#gen/shoal/common/v1/blob';
import { UploadServiceService } from '#gen/shoal/origin/v1/upload_service';
import { type Client, digestToProto, safeNumber } from '#wire';
import type { OriginCluster } from './origin-cluster.ts';
import type { Channels, ClusterCallOptions, Member } from './types.ts';
import type { OfferedBody, UploadSource } from './upload-source.ts';

export interface UploadCallsDeps {
  readonly channels: Channels;
  readonly origins: Pick<OriginCluster, 'reportFailure'>;
  readonly source: Pick<UploadSource, 'offer'>;
}

/** A session at an origin. */
export interface SessionAt {
  readonly member: Member;
  readonly repository: RepositoryName;
  readonly id: string;
}

const startTimeoutMs = 5000;
/** A chunk may take as long as its client; idle limits on both ends and pings find what hangs. */
const appendTimeoutMs = 24 * 3_600_000;
/** The origin may have to hash everything again; its calls to the owners have deadlines of their own. */
const commitTimeoutMs = 3_600_000;

export class UploadCalls {
  readonly #advertise: string;
  readonly #deps: UploadCallsDeps;

  /** `advertise` is where this node's UploadSourceService is reached, `host:port` or `:port`. */
  constructor(advertise: string, deps: UploadCallsDeps) {
    this.#advertise = advertise;
    this.#deps = deps;
  }

  async start(
    member: Member,
    repository: RepositoryName,
    hint: { readonly algorithm?: DigestAlgorithm },
    { signal, timeoutMs = startTimeoutMs }: ClusterCallOptions & { readonly timeoutMs?: number },
  ): Promise<SessionAt> {
    const algorithm = hint.algorithm === 'sha512' ? ProtoAlgorithm.SHA512 : ProtoAlgorithm.UNSPECIFIED;
    const options = { signal, timeoutMs };
    const { id } = await this.#call(member, (client) => client.startUpload({ repository, algorithm }, options));
    return { member, repository, id };
  }

  /** The bytes that the session has. */
  async stat({ member, repository, id }: SessionAt, { signal }: ClusterCallOptions): Promise<number> {
    const { offsetBytes } = await this.#call(member, (client) => client.getUpload({ repository, id }, { signal }));
    return safeNumber(offsetBytes, 'offset_bytes');
  }

  /** Sends a chunk; returns the bytes that the session has then. */
  async append({ member, repository, id }: SessionAt, chunk: UploadChunk, { signal }: ClusterCallOptions): Promise<number> {
    const { body, startByte, lengthBytes } = chunk;
    const request = {
      repository,
      id,
      startByte: startByte === undefined ? undefined : BigInt(startByte),
      lengthBytes: lengthBytes === undefined ? undefined : BigInt(lengthBytes),
      sourceEndpoint: this.#advertise,
    };
    const ask = async ({ token, signal: whileOffered }: OfferedBody): Promise<bigint> => {
      const options = { signal: whileOffered, timeoutMs: appendTimeoutMs };
      const answer = await this.#call(member, (client) => client.appendUpload({ ...request, token }, options));
      return answer.offsetBytes;
    };
    try {
      return safeNumber(await this.#deps.source.offer(member.id, body, ask, { signal }), 'offset_bytes');
    } catch (error) {
      if (signal.aborted || !isAppError(error, 'cancelled')) throw error;
      throw new AppError('unavailable', 'the chunk broke off on its way to its origin; ask for the offset and send the rest', {
        retryAfterMs: 1000,
        cause: error,
      });
    }
  }

  /** Ends the bytes of a session; returns their count when the write quorum holds the blob, or only that origin when that is all that is asked. */
  async commit(
    { member, repository, id }: SessionAt,
    digest: Digest,
    {
      signal,
      localOnly = false,
      timeoutMs = commitTimeoutMs,
    }: ClusterCallOptions & { readonly localOnly?: boolean; readonly timeoutMs?: number },
  ): Promise<number> {
    const request = { repository, id, digest: digestToProto(digest), localOnly };
    const { sizeBytes } = await this.#call(member, (client) => client.commitUpload(request, { signal, timeoutMs }));
    return safeNumber(sizeBytes, 'size_bytes');
  }

  /** Ends a session; a blob that was committed stays. */
  async cancel({ member, repository, id }: SessionAt, { signal }: ClusterCallOptions): Promise<void> {
    await this.#call(member, (client) => client.cancelUpload({ repository, id }, { signal }));
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
