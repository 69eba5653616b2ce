/** The configuration files of a host, below a root: reading them, and changing them so that they are either the old or the new ones. */
import { randomBytes } from 'node:crypto';
import { chown, mkdir, open, readdir, readFile, realpath, rename, rm, rmdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { AppError } from '#core';

/** Configuration files are small; a larger one is not what it should be. */
const sizeBytesMax = 1024 * 1024;
const newFileMode = 0o644;

/** What planning looks at; paths are those of the host, without the root. */
export interface HostFiles {
  /** The text, or undefined when there is no such file. */
  read(path: string): Promise<string | undefined>;
  /** Names of the files in a folder; none when there is no such folder. */
  list(path: string): Promise<readonly string[]>;
  /** Whether the folder exists. */
  hasFolder(path: string): Promise<boolean>;
}

export class DiskFiles implements HostFiles {
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  async read(path: string): Promise<string | undefined> {
    const file = this.#at(path);
    try {
      const { size } = await stat(file);
      if (size > sizeBytesMax)
        throw new AppError('failed-precondition', `${path} has ${size} bytes: more than a configuration file should`);
      return await readFile(file, 'utf8');
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw refused(path, error);
    }
  }

  async list(path: string): Promise<readonly string[]> {
    try {
      return (await readdir(this.#at(path))).sort();
    } catch (error) {
      if (isMissing(error)) return [];
      throw refused(path, error);
    }
  }

  async hasFolder(path: string): Promise<boolean> {
    return stat(this.#at(path)).then(
      (found) => found.isDirectory(),
      () => false,
    );
  }

  /** Replaces the file as a whole, through links to it; owner and mode stay. `mode` is for a file that is new. */
  async write(path: string, text: string, mode = newFileMode): Promise<void> {
    try {
      await mkdir(dirname(this.#at(path)), { recursive: true });
      const target = await realpath(this.#at(path)).catch(() => this.#at(path));
      const before = await stat(target).catch(() => undefined);
      const temporary = join(dirname(target), `.${basename(target)}.${randomBytes(6).toString('hex')}.tmp`);
      try {
        await writeSynced(temporary, text, before === undefined ? mode : before.mode & 0o7777);
        if (before !== undefined) await chown(temporary, before.uid, before.gid);
        await rename(temporary, target);
      } finally {
        await rm(temporary, { force: true });
      }
    } catch (error) {
      throw refused(path, error);
    }
  }

  /** Removes the file, and its folder when `emptyFolder` says so and nothing else is in it. */
  async remove(path: string, options: { readonly emptyFolder: boolean }): Promise<void> {
    try {
      await rm(this.#at(path), { force: true });
    } catch (error) {
      throw refused(path, error);
    }
    if (options.emptyFolder) await rmdir(dirname(this.#at(path))).catch(() => undefined);
  }

  #at(path: string): string {
    return join(this.#root, path);
  }
}

async function writeSynced(path: string, text: string, mode: number): Promise<void> {
  await using file = await open(path, 'wx', mode);
  await file.chmod(mode);
  await file.writeFile(text);
  await file.sync();
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR');
}

function refused(path: string, error: unknown): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code !== 'EACCES' && code !== 'EPERM' && code !== 'EROFS') return error;
  return new AppError('permission-denied', `${path} cannot be read or changed: run this as root`, { cause: error });
}
