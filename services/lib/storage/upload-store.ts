/** The upload sessions of an origin, on disk: they survive a restart of the process and end by commit, cancel or expiry. */
import { randomUUID } from 'node:crypto';
import { link, mkdir, open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import {
  AppError,
  assert,
  type CallOptions,
  type Clock,
  type Digest,
  type DigestAlgorithm,
  isAppError,
  isRepositoryName,
  type Logger,
  type RepositoryName,
  type UploadChunk,
  type UploadStat,
} from '#core';
import { removeFile, writeWhole } from './files.ts';
import { fsCode, onDisk } from './fs-errors.ts';
import type { HashThread } from './hash-thread.ts';
import { handoverSuffix, uploadDataPath, uploadHandoverPath, uploadHeaderPath } from './paths.ts';
import { type FinishedUpload, UploadSession } from './upload-session.ts';

export interface UploadStoreOptions {
  /** A folder of this store alone, on the same file system as the blob store that adopts its files. */
  readonly root: string;
  /** A session nobody touched for this long is removed; default 24 h. A restart counts as a touch. */
  readonly expiryMs?: number;
  /** The most sessions at once; default 1000, some 10 for each concurrent `docker push`. */
  readonly sessionsMax?: number;
  /** The most bytes of all sessions; default 256 GiB. */
  readonly capacityBytes?: number;
  /** Makes the UUID of a session; a random one by default. */
  readonly newId?: () => string;
}

export interface UploadStoreDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Hashes large uploads; without it they are hashed on this thread. */
  readonly hashing?: HashThread | undefined;
}

const headerSchema = z.strictObject({
  repository: z.custom<RepositoryName>((value) => typeof value === 'string' && isRepositoryName(value)),
  algorithm: z.enum(['sha256', 'sha512']),
  /** Unix milliseconds. */
  startedMs: z.number().int().nonnegative(),
});
type Header = z.infer<typeof headerSchema>;

/** An open session as operators see it. */
export interface OpenUpload extends UploadStat {
  readonly repository: RepositoryName;
  /** Unix milliseconds. */
  readonly startedMs: number;
  /** Unix milliseconds of the last request for it; a restart counts as one. */
  readonly touchedMs: number;
}

/** Expired sessions are looked for this many times in an expiry period. */
const sweepsPerExpiry = 10;

interface Slot {
  readonly session: UploadSession;
  readonly startedMs: number;
  touchedMs: number;
}

export class UploadStore implements AsyncDisposable {
  readonly #options: Required<UploadStoreOptions>;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #hashing: HashThread | undefined;
  readonly #slots = new Map<string, Slot>();
  #usedBytes = 0;
  #cancelTimer: (() => void) | undefined;
  #closed = false;

  private constructor(options: UploadStoreOptions, deps: UploadStoreDeps) {
    this.#options = { expiryMs: 24 * 3_600_000, sessionsMax: 1000, capacityBytes: 256 * 2 ** 30, newId: randomUUID, ...options };
    this.#clock = deps.clock;
    this.#logger = deps.logger.child({ module: 'uploads' });
    this.#hashing = deps.hashing;
  }

  /** Opens the store below `root` with the sessions of the run before. Throws `unavailable` when the folder cannot be used. */
  static async open(options: UploadStoreOptions, deps: UploadStoreDeps): Promise<UploadStore> {
    const store = new UploadStore(options, deps);
    await onDisk('opening the uploads', () => store.#restore());
    store.#schedule();
    return store;
  }

  /** See `ImageWriter.startUpload`. Throws `resource-exhausted` when there are too many sessions. */
  async start(repository: RepositoryName, hint: { readonly algorithm?: DigestAlgorithm }, { signal }: CallOptions): Promise<UploadStat> {
    assert(!this.#closed, 'a closed store is not used');
    signal.throwIfAborted();
    if (this.#slots.size >= this.#options.sessionsMax) {
      throw new AppError('resource-exhausted', 'too many uploads are under way; try again when some have ended', { retryAfterMs: 5_000 });
    }
    const id = this.#options.newId();
    const header: Header = { repository, algorithm: hint.algorithm ?? 'sha256', startedMs: this.#clock.wallMs() };
    const slot = this.#add(id, header);
    try {
      await onDisk('starting an upload', async () => {
        await (await open(slot.session.path, 'wx')).close();
        await writeWhole(uploadHeaderPath(this.#options.root, id), Buffer.from(JSON.stringify(header)), { fsync: false });
      });
    } catch (error) {
      await this.#remove(id, slot);
      throw error;
    }
    return statOf(slot.session);
  }

  /** See `ImageWriter.statUpload`. */
  async stat(repository: RepositoryName, id: string, { signal }: CallOptions): Promise<UploadStat> {
    signal.throwIfAborted();
    return statOf(this.#slot(repository, id).session);
  }

  /**
   * See `ImageWriter.appendUpload`. Throws `aborted` while another chunk is being received, `resource-exhausted` when all
   * sessions together hold too much; what had arrived is kept.
   */
  async append(repository: RepositoryName, id: string, chunk: UploadChunk, { signal }: CallOptions): Promise<UploadStat> {
    const slot = this.#slot(repository, id);
    try {
      await slot.session.append(chunk, signal);
    } finally {
      slot.touchedMs = this.#clock.nowMs();
    }
    return statOf(slot.session);
  }

  /**
   * Checks the digest and hands over the file, for `BlobStore.adopt`; then {@link cancel} the session. Until then it can be asked again, also when the
   * store has lost the blob since: the session keeps a link to the file. Throws `digest-mismatch`, and the session is gone.
   */
  async finish(repository: RepositoryName, id: string, digest: Digest, { signal }: CallOptions): Promise<FinishedUpload> {
    const slot = this.#slot(repository, id);
    try {
      const upload = await slot.session.finish(digest, signal);
      const path = uploadHandoverPath(this.#options.root, id);
      await onDisk('handing an upload over', () => linkFile(upload.path, path));
      return { ...upload, path };
    } catch (error) {
      if (isAppError(error, 'digest-mismatch')) await this.#remove(id, slot);
      throw error;
    } finally {
      slot.touchedMs = this.#clock.nowMs();
    }
  }

  /** Ends a session and discards its bytes, but not those of an adopted file; a chunk that is being received fails. Throws `not-found`. */
  async cancel(repository: RepositoryName, id: string, { signal }: CallOptions): Promise<void> {
    signal.throwIfAborted();
    await this.#remove(id, this.#slot(repository, id));
  }

  /** The open sessions, oldest first. */
  list(): readonly OpenUpload[] {
    const sinceMs = this.#clock.wallMs() - this.#clock.nowMs();
    return [...this.#slots.values()]
      .map(({ session, startedMs, touchedMs }) => ({
        ...statOf(session),
        repository: session.repository,
        startedMs,
        touchedMs: touchedMs + sinceMs,
      }))
      .sort((a, b) => a.startedMs - b.startedMs || a.id.localeCompare(b.id));
  }

  /** Sessions, the bytes they hold, and the most they may hold. */
  usage(): { readonly sessionCount: number; readonly usedBytes: number; readonly capacityBytes: number } {
    return { sessionCount: this.#slots.size, usedBytes: this.#usedBytes, capacityBytes: this.#options.capacityBytes };
  }

  /** Stops what is under way. The sessions stay on disk for the next start. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#cancelTimer?.();
    const reason = new AppError('unavailable', 'the registry is shutting down; continue the upload in a moment', { retryAfterMs: 2_000 });
    for (const { session } of this.#slots.values()) session.abort(reason);
  }

  #slot(repository: RepositoryName, id: string): Slot {
    assert(!this.#closed, 'a closed store is not used');
    const slot = this.#slots.get(id);
    if (slot === undefined || slot.session.repository !== repository) {
      throw new AppError('not-found', 'there is no such upload; start a new one', { data: { kind: 'upload' } });
    }
    slot.touchedMs = this.#clock.nowMs();
    return slot;
  }

  #add(id: string, { repository, algorithm, startedMs }: Header): Slot {
    const path = uploadDataPath(this.#options.root, id);
    const session = new UploadSession(
      { id, path, repository, algorithm },
      { claim: (sizeBytes) => this.#claim(sizeBytes), hashing: this.#hashing },
    );
    const slot = { session, startedMs, touchedMs: this.#clock.nowMs() };
    this.#slots.set(id, slot);
    return slot;
  }

  async #remove(id: string, slot: Slot): Promise<void> {
    if (!this.#slots.delete(id)) return;
    this.#usedBytes -= slot.session.offsetBytes;
    slot.session.abandon(new AppError('not-found', 'the upload was ended; start a new one', { data: { kind: 'upload' } }));
    await onDisk('removing an upload', async () => {
      await removeFile(uploadHeaderPath(this.#options.root, id));
      await removeFile(slot.session.path);
      await removeFile(uploadHandoverPath(this.#options.root, id));
    });
  }

  #claim(sizeBytes: number): void {
    const { capacityBytes } = this.#options;
    if (sizeBytes > 0 && this.#usedBytes + sizeBytes > capacityBytes) {
      throw new AppError('resource-exhausted', `uploads hold ${this.#usedBytes} of at most ${capacityBytes} bytes; try again later`, {
        retryAfterMs: 30_000,
      });
    }
    this.#usedBytes += sizeBytes;
  }

  async #restore(): Promise<void> {
    const { root } = this.#options;
    await mkdir(root, { recursive: true });
    const names = await readdir(root);
    const known = new Set(names);
    for (const name of names) {
      const id = name.slice(0, name.lastIndexOf('.'));
      const header = name === `${id}.json` && known.has(`${id}.data`) ? await readHeader(uploadHeaderPath(root, id)) : undefined;
      if (header === undefined) continue;
      const { session } = this.#add(id, header);
      await session.restore();
      this.#usedBytes += session.offsetBytes;
    }
    for (const name of names) {
      const dot = name.lastIndexOf('.');
      if (!this.#slots.has(name.slice(0, dot)) || name.endsWith(handoverSuffix)) await removeFile(join(root, name));
    }
  }

  #schedule(): void {
    this.#cancelTimer = this.#clock.after(this.#options.expiryMs / sweepsPerExpiry, () => {
      void this.#sweep().finally(() => {
        if (!this.#closed) this.#schedule();
      });
    });
  }

  async #sweep(): Promise<void> {
    const nowMs = this.#clock.nowMs();
    for (const [id, slot] of [...this.#slots]) {
      if (slot.session.isBusy || nowMs - slot.touchedMs < this.#options.expiryMs) continue;
      try {
        await this.#remove(id, slot);
        this.#logger.info('an upload that nobody continued was removed', { id });
      } catch (error) {
        this.#logger.warn('an expired upload could not be removed', { id, error });
      }
    }
  }
}

/** A second name for a file; quiet when another commit of the session has just made it. */
async function linkFile(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    if (fsCode(error) !== 'EEXIST') throw error;
  }
}

function statOf(session: UploadSession): UploadStat {
  return { id: session.id, offsetBytes: session.offsetBytes };
}

async function readHeader(path: string): Promise<Header | undefined> {
  const text = await readFile(path, 'utf8');
  try {
    return headerSchema.parse(JSON.parse(text));
  } catch {
    // A torn header: the session is dropped with its bytes, and the client starts again.
    return undefined;
  }
}
