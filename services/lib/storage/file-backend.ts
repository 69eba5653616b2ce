/** A backend on a file system, such as an NFS mount that several origins share: one file a blob, in shards (see paths.ts). */
import { randomUUID } from 'node:crypto';
import { type FileHandle, mkdir, open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type ByteRange, type Clock, type Digest, isDigest } from '#core';
import type { BackendCallOptions, BlobBackend } from './backend.ts';
import { backendNotFound, rangeWithin, wrongSize } from './backend-checks.ts';
import { makeShards, moveInto, readFully, removeFile, writeFully } from './files.ts';
import { fsCode, onDisk } from './fs-errors.ts';
import { algorithmDirs, backendTmpDir, blobPath, blobsDir } from './paths.ts';

export interface FileBackendOptions {
  /** A folder that may be shared by several processes. */
  readonly root: string;
}

/** Read chunks: large enough for a network file system, small enough to hold a few. */
const chunkBytes = 1024 * 1024;
/** A write that has not ended after a day belongs to a process that is gone. */
const tmpExpiryMs = 24 * 3_600_000;

export class FileBackend implements BlobBackend {
  readonly name = 'file';
  readonly #root: string;

  private constructor(options: FileBackendOptions) {
    this.#root = options.root;
  }

  /** Makes the folders and removes writes that ended more than a day ago. Throws `unavailable`. */
  static async open(options: FileBackendOptions, deps: { readonly clock: Clock }): Promise<FileBackend> {
    const tmp = backendTmpDir(options.root);
    await onDisk('opening the file backend', async () => {
      await makeShards(options.root);
      await mkdir(tmp, { recursive: true });
      for (const name of await readdir(tmp)) {
        const modifiedMs = await modifiedMsOf(join(tmp, name));
        if (modifiedMs !== undefined && modifiedMs < deps.clock.wallMs() - tmpExpiryMs) await removeFile(join(tmp, name));
      }
    });
    return new FileBackend(options);
  }

  async stat(digest: Digest, { signal }: BackendCallOptions): Promise<number | undefined> {
    signal.throwIfAborted();
    return await onDisk('looking up a blob in the file backend', () => this.#sizeOf(digest));
  }

  async *read(digest: Digest, range: ByteRange | undefined, { signal }: BackendCallOptions): AsyncGenerator<Uint8Array> {
    signal.throwIfAborted();
    const file = await this.#openBlob(digest);
    try {
      const { size } = await onDisk('reading the file backend', () => file.stat());
      const { startByte, endByte } = rangeWithin(range, size);
      for (let at = startByte; at < endByte; at += chunkBytes) {
        signal.throwIfAborted();
        const chunk = Buffer.allocUnsafe(Math.min(chunkBytes, endByte - at));
        await onDisk('reading the file backend', () => readFully(file, chunk, at));
        yield chunk;
      }
    } finally {
      await file.close();
    }
  }

  async write(digest: Digest, sizeBytes: number, body: AsyncIterable<Uint8Array>, { signal }: BackendCallOptions): Promise<void> {
    signal.throwIfAborted();
    await onDisk('writing to the file backend', async () => {
      if ((await this.#sizeOf(digest)) === sizeBytes) {
        await body[Symbol.asyncIterator]().return?.();
        return;
      }
      const tmp = join(backendTmpDir(this.#root), randomUUID());
      try {
        await writeBody(tmp, sizeBytes, body, signal);
        await moveInto(tmp, blobPath(this.#root, digest), { fsync: true });
      } catch (error) {
        await removeFile(tmp);
        throw error;
      }
    });
  }

  async delete(digest: Digest, { signal }: BackendCallOptions): Promise<void> {
    signal.throwIfAborted();
    await onDisk('deleting from the file backend', () => removeFile(blobPath(this.#root, digest)));
  }

  async list(page: { readonly limit: number; readonly after?: Digest }, { signal }: BackendCallOptions): Promise<readonly Digest[]> {
    return await onDisk('listing the file backend', async () => {
      const found: Digest[] = [];
      for await (const digest of this.#digestsAfter(page.after)) {
        signal.throwIfAborted();
        if (found.length >= page.limit) break;
        found.push(digest);
      }
      return found;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Files are closed by the calls that open them.
  }

  async #sizeOf(digest: Digest): Promise<number | undefined> {
    try {
      return (await stat(blobPath(this.#root, digest))).size;
    } catch (error) {
      if (fsCode(error) === 'ENOENT') return undefined;
      throw error;
    }
  }

  async #openBlob(digest: Digest): Promise<FileHandle> {
    return await onDisk('reading the file backend', async () => {
      try {
        return await open(blobPath(this.#root, digest), 'r');
      } catch (error) {
        if (fsCode(error) === 'ENOENT') throw backendNotFound(digest);
        throw error;
      }
    });
  }

  /** In order; folders before the one of `after` are not read. */
  async *#digestsAfter(after: Digest | undefined): AsyncGenerator<Digest> {
    for (const algorithm of algorithmDirs) {
      for (const shard of await namesIn(join(blobsDir(this.#root), algorithm))) {
        // `~` sorts after every hexadecimal digit.
        if (after !== undefined && `${algorithm}:${shard}~` < after) continue;
        const digests = (await namesIn(join(blobsDir(this.#root), algorithm, shard))).map((name) => `${algorithm}:${name}`);
        yield* digests.filter(isDigest).filter((digest) => after === undefined || digest > after);
      }
    }
  }
}

async function writeBody(path: string, sizeBytes: number, body: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<void> {
  const file = await open(path, 'wx');
  try {
    let gotBytes = 0;
    for await (const chunk of body) {
      signal.throwIfAborted();
      if (gotBytes + chunk.byteLength > sizeBytes) throw wrongSize(sizeBytes, gotBytes + chunk.byteLength);
      await writeFully(file, chunk, gotBytes);
      gotBytes += chunk.byteLength;
    }
    if (gotBytes !== sizeBytes) throw wrongSize(sizeBytes, gotBytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function modifiedMsOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).mtimeMs;
  } catch (error) {
    if (fsCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Sorted; empty when there is no such folder. */
async function namesIn(path: string): Promise<readonly string[]> {
  try {
    return (await readdir(path)).sort();
  } catch (error) {
    if (fsCode(error) === 'ENOENT') return [];
    throw error;
  }
}
