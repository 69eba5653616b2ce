/** Upload sessions in memory. */
import { randomUUID } from 'node:crypto';
import { AppError, type Clock, type RepositoryName, type UploadChunk, type UploadStat } from '#core';

export interface MemoryUploadsOptions {
  /** Sessions at once. */
  readonly sessionsMax: number;
  /** How long a session lives after its last byte, in milliseconds. */
  readonly sessionTtlMs: number;
}

/** Accounts for bytes; throws `resource-exhausted` when there is no room. A negative count gives back. */
export type Reserve = (byteCount: number) => void;

interface Session {
  readonly id: string;
  readonly repository: RepositoryName;
  readonly chunks: Uint8Array[];
  offsetBytes: number;
  isBusy: boolean;
  touchedMs: number;
}

export class MemoryUploads {
  readonly #options: MemoryUploadsOptions;
  readonly #reserve: Reserve;
  readonly #clock: Clock;
  readonly #sessions = new Map<string, Session>();

  constructor(options: MemoryUploadsOptions, deps: { readonly clock: Clock; readonly reserve: Reserve }) {
    this.#options = options;
    this.#clock = deps.clock;
    this.#reserve = deps.reserve;
  }

  /** Throws `resource-exhausted` when there are too many sessions. */
  start(repository: RepositoryName): UploadStat {
    this.#expire();
    if (this.#sessions.size >= this.#options.sessionsMax) {
      throw new AppError('resource-exhausted', 'too many uploads at once; try again later', { retryAfterMs: 1000 });
    }
    const id = randomUUID();
    const touchedMs = this.#clock.nowMs();
    this.#sessions.set(id, { id, repository, chunks: [], offsetBytes: 0, isBusy: false, touchedMs });
    return { id, offsetBytes: 0 };
  }

  /** Throws `not-found`. */
  stat(repository: RepositoryName, id: string): UploadStat {
    return { id, offsetBytes: this.#get(repository, id).offsetBytes };
  }

  /** Appends a chunk; see `ImageWriter.appendUpload` for its errors. Throws `aborted` while another chunk is on its way. */
  async append(repository: RepositoryName, id: string, chunk: UploadChunk): Promise<UploadStat> {
    const session = this.#idle(repository, id);
    const { startByte, lengthBytes } = chunk;
    const beforeBytes = session.offsetBytes;
    const beforeChunks = session.chunks.length;
    if (startByte !== undefined && startByte !== beforeBytes) {
      throw new AppError('out-of-range', 'the chunk does not start where the upload ends; ask for its offset', {
        data: { offsetBytes: beforeBytes },
      });
    }
    session.isBusy = true;
    const rollBack = (): never => {
      this.#reserve(beforeBytes - session.offsetBytes);
      session.chunks.length = beforeChunks;
      session.offsetBytes = beforeBytes;
      throw new AppError('invalid-argument', 'the body does not have its declared length; send the chunk again', {
        data: { reason: 'size' },
      });
    };
    try {
      for await (const bytes of chunk.body) {
        if (lengthBytes !== undefined && session.offsetBytes + bytes.byteLength - beforeBytes > lengthBytes) rollBack();
        this.#reserve(bytes.byteLength);
        session.chunks.push(Uint8Array.from(bytes));
        session.offsetBytes += bytes.byteLength;
        session.touchedMs = this.#clock.nowMs();
      }
      if (lengthBytes !== undefined && session.offsetBytes - beforeBytes !== lengthBytes) rollBack();
    } finally {
      session.isBusy = false;
      // Cancelled meanwhile: nobody else would give these bytes back.
      if (this.#sessions.get(id) !== session) this.#reserve(-session.offsetBytes);
    }
    return { id, offsetBytes: session.offsetBytes };
  }

  /** Ends a session and hands its bytes over; the room they take stays reserved. Throws `not-found` and `aborted`. */
  take(repository: RepositoryName, id: string): Uint8Array {
    const session = this.#idle(repository, id);
    this.#sessions.delete(id);
    return Buffer.concat(session.chunks, session.offsetBytes);
  }

  /** Throws `not-found`. A chunk on its way is dropped when it ends. */
  cancel(repository: RepositoryName, id: string): void {
    this.#drop(this.#get(repository, id));
  }

  #get(repository: RepositoryName, id: string): Session {
    this.#expire();
    const session = this.#sessions.get(id);
    if (session !== undefined && session.repository === repository) return session;
    throw new AppError('not-found', 'no such upload; start a new one', { data: { kind: 'upload' } });
  }

  #idle(repository: RepositoryName, id: string): Session {
    const session = this.#get(repository, id);
    if (!session.isBusy) return session;
    throw new AppError('aborted', 'another chunk of this upload is on its way; wait for it');
  }

  #expire(): void {
    const oldestMs = this.#clock.nowMs() - this.#options.sessionTtlMs;
    for (const session of this.#sessions.values()) if (!session.isBusy && session.touchedMs < oldestMs) this.#drop(session);
  }

  #drop(session: Session): void {
    this.#sessions.delete(session.id);
    if (!session.isBusy) this.#reserve(-session.offsetBytes);
  }
}
