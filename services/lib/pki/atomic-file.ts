/** Small secret files that are either the old or the new content, never a mixture, also after a crash. */
import { randomBytes } from 'node:crypto';
import { link, mkdir, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { AppError } from '#core';

/** Owner only. */
export const directoryMode = 0o700;
export const secretFileMode = 0o600;
/** For files without a secret. */
export const publicFileMode = 0o644;

export interface WriteOptions {
  readonly mode: number;
  /** `replace` swaps an existing file; `create` refuses it with `already-exists`, also against a writer at the same moment. */
  readonly onExisting: 'replace' | 'create';
}

/** Writes `text` to `path` through a synced temporary file in the same directory, which is made with mode 0700 when absent. */
export async function writeFileAtomically(path: string, text: string, options: WriteOptions): Promise<void> {
  const directory = dirname(path);
  await mkdir(directory, { recursive: true, mode: directoryMode });
  const temporary = join(directory, `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`);
  try {
    await writeSynced(temporary, text, options.mode);
    if (options.onExisting === 'replace') await rename(temporary, path);
    else await linkNew(temporary, path);
  } finally {
    await rm(temporary, { force: true });
  }
  await syncDirectory(directory);
}

async function writeSynced(path: string, text: string, mode: number): Promise<void> {
  const file = await open(path, 'wx', mode);
  try {
    await file.chmod(mode);
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** A hard link fails when the name exists, which a rename does not. */
async function linkNew(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') {
      throw new AppError('already-exists', 'the file exists and is not overwritten', { data: { path: to }, cause: error });
    }
    throw error;
  }
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
