/** The few file operations the stores share: whole reads and writes at a position, durable renames, quiet removals. */
import { type FileHandle, mkdir, open, readdir, rename, rm, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AppError } from '#core';
import { fsCode } from './fs-errors.ts';
import { algorithmDirs, blobsDir, shardNames } from './paths.ts';

/** Fills `target` from `positionBytes`. Throws `data-loss` when the file ends first. */
export async function readFully(file: FileHandle, target: Uint8Array, positionBytes: number): Promise<void> {
  let done = 0;
  while (done < target.byteLength) {
    const { bytesRead } = await file.read(target, done, target.byteLength - done, positionBytes + done);
    if (bytesRead === 0) {
      throw new AppError('data-loss', 'a stored file is shorter than it should be; delete the blob so that it is fetched again');
    }
    done += bytesRead;
  }
}

/** Writes all of `source` at `positionBytes`. */
export async function writeFully(file: FileHandle, source: Uint8Array, positionBytes: number): Promise<void> {
  let done = 0;
  while (done < source.byteLength) {
    const { bytesWritten } = await file.write(source, done, source.byteLength - done, positionBytes + done);
    done += bytesWritten;
  }
}

/** Makes the bytes of a file, or the names inside a folder, durable. */
export async function syncPath(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

/**
 * Makes the folders of a blob tree that are missing, and makes all their names durable. Done before the first blob moves in: of two that
 * need a new folder at once, the one that did not make it would not know that its name is not on the disk yet.
 */
export async function makeShards(root: string): Promise<void> {
  for (const algorithm of algorithmDirs) {
    const folder = join(blobsDir(root), algorithm);
    await mkdir(folder, { recursive: true });
    const known = new Set(await readdir(folder));
    const missing = shardNames.filter((name) => !known.has(name));
    await Promise.all(missing.map((name) => mkdir(join(folder, name), { recursive: true })));
    // Always: a crash may have come between the two. It costs nothing when there is nothing to write.
    await syncPath(folder);
  }
  await syncPath(blobsDir(root));
  await syncPath(root);
}

/**
 * Renames and, when asked, makes the new name durable, with the folders that were made for it should somebody have removed one since
 * {@link makeShards}. The file's bytes are the caller's to sync first.
 */
export async function moveInto(from: string, to: string, options: { readonly fsync: boolean }): Promise<void> {
  const folder = dirname(to);
  let firstMade: string | undefined;
  try {
    await rename(from, to);
  } catch (error) {
    if (fsCode(error) !== 'ENOENT') throw error;
    firstMade = await mkdir(folder, { recursive: true });
    await rename(from, to);
  }
  if (!options.fsync) return;
  await syncPath(folder);
  if (firstMade === undefined) return;
  for (let made = folder; made.length >= firstMade.length; made = dirname(made)) await syncPath(dirname(made));
}

/** Creates an empty file of `sizeBytes`, open for reading and writing. */
export async function createSparse(path: string, sizeBytes: number): Promise<FileHandle> {
  const file = await open(path, 'w+');
  try {
    await file.truncate(sizeBytes);
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Removes a file; false when there was none. */
export async function removeFile(path: string): Promise<boolean> {
  try {
    await unlink(path);
    return true;
  } catch (error) {
    if (fsCode(error) === 'ENOENT') return false;
    throw error;
  }
}

/** Writes a small file so that it appears whole or not at all. */
export async function writeWhole(path: string, bytes: Uint8Array, options: { readonly fsync: boolean }): Promise<void> {
  const file = await open(path, 'wx');
  try {
    await writeFully(file, bytes, 0);
    if (options.fsync) await file.sync();
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  } finally {
    await file.close();
  }
}
