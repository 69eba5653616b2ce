/**
 * Owners that take an upload's bytes while they come. Where a client says the digest before the body, the owners are known: those that make up the write
 * quorum get the same bytes as the origin of the upload, and have the blob when the commit asks them to hold it. They would fetch it there otherwise,
 * after the last byte. All of it is an attempt: whatever fails costs the time that it was to save.
 */
import {
  algorithmOf,
  type Clock,
  type Counter,
  type Digest,
  isAppError,
  type Logger,
  type Meter,
  toAppError,
  type UploadChunk,
} from '#core';
import { BodyBranch, forkBody } from './forked-body.ts';
import type { OriginCluster } from './origin-cluster.ts';
import type { ClusterCallOptions } from './types.ts';
import type { SessionAt, UploadCalls } from './upload-calls.ts';

export interface UploadCopiesDeps {
  readonly calls: UploadCalls;
  readonly origins: Pick<OriginCluster, 'quorumWith'>;
  readonly clock: Pick<Clock, 'after'>;
  readonly logger: Logger;
  readonly meter: Meter;
}

/** Below this an owner fetches the blob in less time than two more calls take. */
const sizeBytesMin = 4 * 1024 * 1024;
/** How long a copy may take to settle when the upload itself is done, in milliseconds; hashing follows the bytes by less than a second. */
const settleMs = 5000;
/** How long the upload waits for an owner to begin, in milliseconds. */
const startTimeoutMs = 1000;

interface Copy {
  readonly session: SessionAt;
  readonly branch: BodyBranch;
}

export class UploadCopies {
  readonly #deps: UploadCopiesDeps;
  readonly #copies: Counter;

  constructor(deps: UploadCopiesDeps) {
    this.#deps = deps;
    this.#copies = deps.meter.counter('shoal_upload_copies', 'Uploads sent to a second owner while they came, by outcome');
  }

  /** Runs `append` with the chunk, or with one whose bytes go to other owners too; when it has succeeded, they have the blob, or will fetch it. */
  async along(
    session: SessionAt,
    chunk: UploadChunk,
    append: (chunk: UploadChunk) => Promise<number>,
    options: ClusterCallOptions,
  ): Promise<number> {
    const { last } = chunk;
    if (last === undefined || (last.lengthBytes ?? 0) < sizeBytesMin) return append(chunk);
    const copies = await this.#begin(session, last.digest, options);
    if (copies.length === 0) return append(chunk);
    const settle = new AbortController();
    const running = copies.map(async (copy) => this.#take(copy, last.digest, { signal: settle.signal }));
    try {
      const body = forkBody(
        chunk.body,
        copies.map(({ branch }) => branch),
      );
      const offsetBytes = await append({ ...chunk, body });
      const cancel = this.#deps.clock.after(settleMs, () => settle.abort());
      await Promise.all(running);
      cancel();
      return offsetBytes;
    } finally {
      // Where the upload failed its body may never have been read.
      for (const { branch } of copies) branch.fail(new Error('the upload failed'));
    }
  }

  /** Sessions at the owners, for an upload that has no byte yet. */
  async #begin(session: SessionAt, digest: Digest, options: ClusterCallOptions): Promise<readonly Copy[]> {
    const { calls, origins, clock } = this.#deps;
    const members = origins.quorumWith(session.member.id, digest);
    if (members.length === 0 || (await calls.stat(session, options)) > 0) return [];
    const algorithm = algorithmOf(digest);
    const started = await Promise.allSettled(
      members.map(async (member) => calls.start(member, session.repository, { algorithm }, { ...options, timeoutMs: startTimeoutMs })),
    );
    return started.flatMap((one) => (one.status === 'fulfilled' ? [{ session: one.value, branch: new BodyBranch(clock) }] : []));
  }

  /** Never rejects. */
  async #take({ session, branch }: Copy, digest: Digest, options: ClusterCallOptions): Promise<void> {
    const { calls, logger } = this.#deps;
    try {
      await calls.append(session, { body: branch }, options);
      await calls.commit(session, digest, { ...options, localOnly: true, timeoutMs: settleMs });
      this.#copies.add(1, { outcome: 'taken' });
    } catch (error) {
      this.#copies.add(1, { outcome: 'failed' });
      logger.debug('an owner did not take an upload along; it fetches the blob', {
        origin: session.member.id,
        error: toAppError(error).message,
      });
    } finally {
      branch.end();
      void this.#forget(session);
    }
  }

  async #forget(session: SessionAt): Promise<void> {
    try {
      await this.#deps.calls.cancel(session, { signal: new AbortController().signal });
    } catch (error) {
      // It expires by itself.
      if (!isAppError(error, 'not-found'))
        this.#deps.logger.debug('could not end a copy of an upload', { error: toAppError(error).message });
    }
  }
}
