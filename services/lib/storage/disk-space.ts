/** Makes room on a DiskBlobStore's disk and clears it: what the catalog has let go of is removed here, rows first, files after. */
import type { Counter, Digest, Logger, Meter } from '#core';
import type { BlobRecords } from './blob-records.ts';
import type { Catalog } from './catalog.ts';
import type { DiskData, DiskEntry } from './disk-handles.ts';
import type { DiskWriteBehind } from './disk-write-behind.ts';
import { removeFile } from './files.ts';
import { onDisk } from './fs-errors.ts';
import type { KeyedLock } from './keyed-lock.ts';
import { blobPath, partialPath } from './paths.ts';

/** What the parts of a DiskBlobStore share. */
export interface DiskParts {
  readonly root: string;
  readonly catalog: Catalog<DiskData>;
  readonly records: BlobRecords;
  readonly writeBehind: DiskWriteBehind;
  readonly lock: KeyedLock<Digest>;
  readonly logger: Logger;
}

export class DiskSpace {
  readonly #parts: DiskParts;
  readonly #evictedBytes: Counter;

  constructor(parts: DiskParts, deps: { readonly meter: Meter }) {
    this.#parts = parts;
    this.#evictedBytes = deps.meter.counter('shoal_storage_evicted_bytes', 'Bytes of blobs that were evicted');
  }

  /**
   * Claims `sizeBytes`, evicting what must go for it. The caller may hold the lock of a digest that is not complete: only
   * complete and idle blobs are waited for, and nobody who holds the lock of one waits for room. Throws `resource-exhausted`.
   */
  async reserve(sizeBytes: number): Promise<void> {
    const victims = this.#parts.catalog.reserve(sizeBytes);
    await Promise.all(victims.map((victim) => this.#evict(victim)));
  }

  /** Removes rows and file of an entry that is gone, under its lock, unless a newer one of the same kind stands there. */
  async erase(entry: DiskEntry): Promise<void> {
    const { digest, state } = entry;
    const { root, catalog, records } = this.#parts;
    const current = catalog.get(digest);
    if (current?.state === state) return;
    await records.remove(digest, state, { keepMetainfo: current !== undefined });
    await onDisk('removing a blob', () => removeFile(state === 'complete' ? blobPath(root, digest) : partialPath(root, digest)));
  }

  async #evict(victim: DiskEntry): Promise<void> {
    this.#evictedBytes.add(victim.sizeBytes);
    try {
      await this.#parts.lock.run(victim.digest, () => this.erase(victim));
    } catch (error) {
      // Its rows went first, so the next start drops what is left.
      this.#parts.logger.error('an evicted blob could not be removed', { digest: victim.digest, error });
    }
  }
}
