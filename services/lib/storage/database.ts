/** The embedded database (LMDB). Whoever keeps lasting state in one goes through here, so that all run with the same settings and errors. */
import { mkdir } from 'node:fs/promises';
import { type Database, open, type RootDatabase } from 'lmdb';
import { AppError } from '#core';
import { fsCode, onDisk } from './fs-errors.ts';

/** An LMDB environment; one process at a time. Named tables are opened with `openDB`. Written to by {@link commit} only. */
export type EmbeddedDb = RootDatabase<unknown, string>;

/** A named table with text keys, as `openDB` gives it. */
export type Table<V> = Database<V, string>;

/** More tables than one environment of ours has; LMDB wants the bound beforehand. */
const tablesMax = 32;

/**
 * Opens or creates the database in folder `path`. Throws `unavailable` or `resource-exhausted` when the folder cannot be used.
 *
 * Two defaults are off because of what they do when a commit fails. Batching by event turn makes a promise that nobody is given, whose
 * rejection would end the process; syncing apart from the commit leaves `flushed` and `close` waiting for ever.
 */
export async function openDatabase(path: string): Promise<EmbeddedDb> {
  return await onDisk('opening the database', async () => {
    await mkdir(path, { recursive: true });
    return open<unknown, string>({
      path,
      noSubdir: false,
      maxDbs: tablesMax,
      cache: false,
      eventTurnBatching: false,
      overlappingSync: false,
    });
  });
}

/**
 * Runs `change` as one transaction and resolves to its result when that would survive a power cut; concurrent ones share a sync. `change`
 * writes with `putSync` and `removeSync`, and checks everything before its first write: what it throws is thrown, but undoes nothing. When
 * the disk does not take the transaction nothing of it is kept: throws `resource-exhausted` for a full disk, else `unavailable`.
 */
export async function commit<T>(db: EmbeddedDb, change: () => T): Promise<T> {
  const outcome = await transact(db, change);
  if (!('error' in outcome)) return outcome.value;
  throw isDatabaseError(outcome.error) ? commitFailed(outcome.error) : outcome.error;
}

type Outcome<T> = { readonly value: T } | { readonly error: unknown };

async function transact<T>(db: EmbeddedDb, change: () => T): Promise<Outcome<T>> {
  try {
    return await db.transaction((): Outcome<T> => {
      try {
        return { value: change() };
      } catch (error) {
        return { error };
      }
    });
  } catch (error) {
    throw commitFailed(await causeOf(error));
  }
}

/** LMDB rejects with an error that holds a promise, which rejects with the cause and counts as unhandled unless somebody waits for it. */
async function causeOf(error: unknown): Promise<unknown> {
  if (!(error instanceof Error) || !('commitError' in error)) return error;
  try {
    await error.commitError;
    return error;
  } catch (cause) {
    return cause;
  }
}

/** Errors of LMDB carry its number or the system's. */
function isDatabaseError(error: unknown): boolean {
  return error instanceof Error && 'code' in error && typeof error.code === 'number';
}

function commitFailed(cause: unknown): AppError {
  if (fsCode(cause) === 'ENOSPC') {
    return new AppError('resource-exhausted', 'the disk is full while saving to the database; free space', { cause });
  }
  return new AppError('unavailable', 'the disk refused a change of the database; check its space and its health', { cause });
}
