/** Opens the embedded database (LMDB). Whoever keeps lasting state in one goes through here, so that all run with the same settings. */
import { mkdir } from 'node:fs/promises';
import { open, type RootDatabase } from 'lmdb';
import { onDisk } from './fs-errors.ts';

/** An LMDB environment; one process at a time. Named tables are opened with `openDB`. */
export type EmbeddedDb = RootDatabase<unknown, string>;

/** More tables than one environment of ours has; LMDB wants the bound beforehand. */
const tablesMax = 16;

/**
 * Opens or creates the database in folder `path`. A write's promise resolves when it is visible; `await db.flushed` waits
 * until it would survive a power cut. Throws `unavailable` or `resource-exhausted` when the folder cannot be used.
 */
export async function openDatabase(path: string): Promise<EmbeddedDb> {
  return await onDisk('opening the database', async () => {
    await mkdir(path, { recursive: true });
    return open<unknown, string>({ path, noSubdir: false, maxDbs: tablesMax, separateFlushed: true, cache: false });
  });
}
