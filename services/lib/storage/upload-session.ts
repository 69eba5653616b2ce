/** One upload session: a file that grows at its end, hashed as it grows. The file's size is the truth; hashes can be made again. */
import { type FileHandle, open, stat } from 'node:fs/promises';
import {
  AppError,
  algorithmOf,
  type Digest,
  type DigestAlgorithm,
  type Metainfo,
  type RepositoryName,
  toAppError,
  type UploadChunk,
} from '#core';
import { digestMismatch } from './blob-values.ts';
import { onDisk } from './fs-errors.ts';
import type { HashThread } from './hash-thread.ts';
import { UploadHashes } from './upload-hashes.ts';
import { UploadWriter } from './upload-writer.ts';

export interface UploadSessionOptions {
  readonly id: string;
  readonly repository: RepositoryName;
  readonly algorithm: DigestAlgorithm;
  readonly path: string;
}

export interface UploadSessionDeps {
  /** Claims bytes (or gives them back, when negative) of what all sessions may hold. Throws `resource-exhausted`. */
  readonly claim: (sizeBytes: number) => void;
  /** Hashes large uploads; without it they are hashed on this thread. */
  readonly hashing?: HashThread | undefined;
}

export interface FinishedUpload {
  /** The file, for `BlobStore.adopt`. */
  readonly path: string;
  readonly metainfo: Metainfo;
}

type State =
  | { readonly name: 'idle' }
  | { readonly name: 'busy'; readonly abort: AbortController }
  | { readonly name: 'finished'; readonly upload: FinishedUpload };

export class UploadSession {
  readonly id: string;
  readonly repository: RepositoryName;
  readonly path: string;
  readonly #algorithm: DigestAlgorithm;
  readonly #deps: UploadSessionDeps;
  readonly #hashes: UploadHashes;
  #offsetBytes = 0;
  #state: State = { name: 'idle' };
  #abandoned = false;
  /** A blob store has a name of the file too, so its bytes stay what they are. */
  #sealed = false;

  constructor(options: UploadSessionOptions, deps: UploadSessionDeps) {
    this.id = options.id;
    this.repository = options.repository;
    this.path = options.path;
    this.#algorithm = options.algorithm;
    this.#hashes = new UploadHashes(options.algorithm, deps.hashing);
    this.#deps = deps;
  }

  get offsetBytes(): number {
    return this.#offsetBytes;
  }

  get isBusy(): boolean {
    return this.#state.name === 'busy';
  }

  /** After a restart: the file says how far the session came. Its hashes are made again on the first use. */
  async restore(): Promise<void> {
    const { size, nlink } = await stat(this.path);
    this.#offsetBytes = size;
    this.#sealed = nlink > 1;
  }

  /** See `ImageWriter.appendUpload`. */
  async append(chunk: UploadChunk, signal: AbortSignal): Promise<void> {
    if (this.#state.name === 'finished' || this.#sealed) throw new AppError('failed-precondition', 'the upload is finished; start another');
    await this.#exclusively(signal, async (either) => {
      const startByte = this.#offsetBytes;
      if (chunk.startByte !== undefined && chunk.startByte !== startByte) {
        throw new AppError('out-of-range', `the chunk must start at byte ${startByte}; ask for the offset and send from there`, {
          data: { offsetBytes: startByte },
        });
      }
      const file = await onDisk('opening an upload', () => open(this.path, 'r+'));
      try {
        await this.#hashes.catchUp(file, this.#offsetBytes, either);
        await this.#receive(file, chunk, either);
      } finally {
        await this.#hashes.idle();
        await file.close();
      }
    });
  }

  /** See `ImageWriter.commitUpload`. The caller ends the session on `digest-mismatch`. Asked again, the result is the same. */
  async finish(digest: Digest, signal: AbortSignal): Promise<FinishedUpload> {
    if (this.#state.name === 'finished') {
      const { upload } = this.#state;
      if (upload.metainfo.digest === digest) return upload;
      throw digestMismatch(digest, upload.metainfo.digest);
    }
    const upload = await this.#exclusively(signal, async (either) => {
      const file = await onDisk('opening an upload', () => open(this.path, 'r'));
      try {
        const sizeBytes = this.#offsetBytes;
        await this.#hashes.catchUp(file, sizeBytes, either);
        const algorithm = algorithmOf(digest);
        const hashes = this.#hashes;
        const actual =
          algorithm === this.#algorithm ? await hashes.digest() : await hashes.otherDigest(algorithm, { file, sizeBytes }, either);
        if (actual !== digest) throw digestMismatch(digest, actual);
        return { path: this.path, metainfo: await hashes.metainfo(digest) };
      } finally {
        await file.close();
      }
    });
    this.#state = { name: 'finished', upload };
    return upload;
  }

  /** Stops what is under way. */
  abort(reason: AppError): void {
    if (this.#state.name === 'busy') this.#state.abort.abort(reason);
  }

  /** Stops what is under way and claims nothing any more: the session was removed, and its bytes given back by the caller. */
  abandon(reason: AppError): void {
    this.#abandoned = true;
    this.abort(reason);
    if (!this.isBusy) this.#hashes.end();
  }

  async #exclusively<T>(signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    if (this.#state.name === 'busy') {
      throw new AppError('aborted', 'another request of this upload is under way; ask for the offset when it has ended', {
        retryAfterMs: 1000,
      });
    }
    const abort = new AbortController();
    this.#state = { name: 'busy', abort };
    try {
      return await work(AbortSignal.any([signal, abort.signal]));
    } finally {
      this.#state = { name: 'idle' };
      if (this.#abandoned) this.#hashes.end();
    }
  }

  async #receive(file: FileHandle, chunk: UploadChunk, signal: AbortSignal): Promise<void> {
    const startByte = this.#offsetBytes;
    const hashes = this.#hashes;
    const writer = new UploadWriter(startByte, {
      file,
      hash: (bytes) => hashes.update(bytes),
      written: (endByte) => hashes.follow(file, endByte),
    });
    let gotBytes = 0;
    let broken: unknown;
    try {
      for await (const bytes of untilAborted(chunk.body, signal)) {
        gotBytes += bytes.byteLength;
        if (chunk.lengthBytes !== undefined && gotBytes > chunk.lengthBytes) break;
        this.#claim(bytes.byteLength);
        this.#offsetBytes += bytes.byteLength;
        await writer.add(bytes);
      }
    } catch (error) {
      broken = breakOf(error, signal);
    }
    try {
      await writer.end();
    } catch (error) {
      broken ??= error;
    }
    const wrongSize = broken === undefined && chunk.lengthBytes !== undefined && gotBytes !== chunk.lengthBytes;
    await this.#settle(file, writer.positionBytes, wrongSize ? startByte : writer.writtenBytes);
    if (broken !== undefined) throw broken;
    if (wrongSize) {
      throw new AppError(
        'invalid-argument',
        `the chunk was declared with ${chunk.lengthBytes} bytes but had another length; send it again`,
        {
          data: { reason: 'size', offsetBytes: startByte },
        },
      );
    }
  }

  /** The session ends at `offsetBytes`: what was claimed or written beyond it, up to `positionBytes` at most, is given back. */
  async #settle(file: FileHandle, positionBytes: number, offsetBytes: number): Promise<void> {
    this.#claim(offsetBytes - this.#offsetBytes);
    this.#offsetBytes = offsetBytes;
    if (positionBytes === offsetBytes) return;
    await this.#hashes.idle();
    this.#hashes.cut(offsetBytes);
    await onDisk('rolling an upload back', () => file.truncate(offsetBytes));
  }

  #claim(sizeBytes: number): void {
    if (!this.#abandoned) this.#deps.claim(sizeBytes);
  }
}

/** What a body that broke off is to its caller. */
function breakOf(error: unknown, signal: AbortSignal): AppError {
  if (error instanceof AppError) return error;
  if (signal.aborted) return toAppError(signal.reason);
  return new AppError('aborted', 'the upload broke off; ask for the offset and send the rest', { cause: error });
}

/** The source's items, until the signal ends the wait for the next one. */
async function* untilAborted(source: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const iterator = source[Symbol.asyncIterator]();
  let ended = false;
  try {
    for (;;) {
      const item = await orAborted(iterator.next(), signal);
      if (item.done) {
        ended = true;
        return;
      }
      yield item.value;
    }
  } finally {
    // A generator that is waiting ends only when its wait does, so nobody waits for it here.
    if (!ended) void iterator.return?.().catch(() => undefined);
  }
}

async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return await new Promise<T>((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
