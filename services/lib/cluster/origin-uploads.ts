/**
 * Upload sessions at the origins, as a proxy uses them. The id of a session says which origin has it, so that every proxy continues every session
 * and none keeps anything. New sessions go to the origins in turn.
 */
import {
  AppError,
  assert,
  type BlobStat,
  type CallOptions,
  type Clock,
  type Digest,
  type DigestAlgorithm,
  isAppError,
  type Logger,
  type Meter,
  type RepositoryName,
  type Rng,
  type UploadChunk,
  type UploadStat,
} from '#core';
import type { OriginCluster } from './origin-cluster.ts';
import type { Channels, Member } from './types.ts';
import { type SessionAt, UploadCalls } from './upload-calls.ts';
import { UploadCopies } from './upload-copies.ts';
import { UploadIds } from './upload-id.ts';
import type { UploadSource } from './upload-source.ts';

export interface OriginUploadsOptions {
  /** Where this node's UploadSourceService is reached, `host:port` or `:port`. */
  readonly advertise: string;
}

export interface OriginUploadsDeps {
  readonly channels: Channels;
  readonly origins: Pick<OriginCluster, 'members' | 'quorumWith' | 'reportFailure'>;
  readonly source: Pick<UploadSource, 'offer'>;
  readonly clock: Pick<Clock, 'after'>;
  readonly rng: Rng;
  readonly logger: Logger;
  readonly meter: Meter;
}

/** Origins that are asked for a new session before the client is told to try again. */
const startAttemptsMax = 3;

export class OriginUploads {
  readonly #origins: OriginUploadsDeps['origins'];
  readonly #calls: UploadCalls;
  readonly #copies: UploadCopies;
  readonly #ids: UploadIds;
  #turn: number;

  constructor({ advertise }: OriginUploadsOptions, deps: OriginUploadsDeps) {
    this.#origins = deps.origins;
    this.#calls = new UploadCalls(advertise, deps);
    this.#copies = new UploadCopies({ ...deps, calls: this.#calls });
    const members = deps.origins.members();
    this.#ids = new UploadIds(members);
    this.#turn = deps.rng.below(members.length);
  }

  /** See `ImageWriter.startUpload`. Throws `unavailable` when no origin takes a session, or `resource-exhausted` when those asked have too many. */
  async start(repository: RepositoryName, hint: { readonly algorithm?: DigestAlgorithm }, options: CallOptions): Promise<UploadStat> {
    let failure: AppError | undefined;
    for (const member of this.#inTurn().slice(0, startAttemptsMax)) {
      try {
        const { id } = await this.#calls.start(member, repository, hint, options);
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
  async stat(repository: RepositoryName, id: string, options: CallOptions): Promise<UploadStat> {
    return { id, offsetBytes: await this.#calls.stat(this.#sessionOf(repository, id), options) };
  }

  /** See `ImageWriter.appendUpload`. */
  async append(repository: RepositoryName, id: string, chunk: UploadChunk, options: CallOptions): Promise<UploadStat> {
    const session = this.#sessionOf(repository, id);
    const append = async (one: UploadChunk): Promise<number> => this.#calls.append(session, one, options);
    return { id, offsetBytes: await this.#copies.along(session, chunk, append, options) };
  }

  /** Returns when the write quorum holds the blob. The session stays, so that this can be asked again, until {@link cancel}. */
  async commit(repository: RepositoryName, id: string, digest: Digest, options: CallOptions): Promise<BlobStat> {
    return { digest, sizeBytes: await this.#calls.commit(this.#sessionOf(repository, id), digest, options) };
  }

  /** Ends a session; a blob that was committed stays. */
  async cancel(repository: RepositoryName, id: string, options: CallOptions): Promise<void> {
    await this.#calls.cancel(this.#sessionOf(repository, id), options);
  }

  /** The healthy origins, another one first each time; all when none is healthy. */
  #inTurn(): readonly Member[] {
    const members = this.#origins.members();
    const healthy = members.filter((member) => member.healthy);
    const candidates = healthy.length > 0 ? healthy : members;
    this.#turn = (this.#turn + 1) % members.length;
    const first = this.#turn % candidates.length;
    return [...candidates.slice(first), ...candidates.slice(0, first)];
  }

  #sessionOf(repository: RepositoryName, id: string): SessionAt {
    const member = this.#ids.originOf(id);
    if (member !== undefined) return { member, repository, id };
    throw new AppError('not-found', 'there is no such upload; start a new one', { data: { kind: 'upload' } });
  }
}
