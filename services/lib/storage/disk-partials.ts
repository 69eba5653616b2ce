/** The partial blobs of a DiskBlobStore: how one is created, found again, shared by several writers, and made complete. */
import { type FileHandle, open, rename } from 'node:fs/promises';
import { AppError, assert, Bitfield, type Clock, type Counter, type Metainfo } from '#core';
import type { PartialBlob } from './blob-store.ts';
import { sameMetainfo, savedBitfield } from './blob-values.ts';
import { BufferPool } from './buffer-pool.ts';
import { minuteOf } from './catalog.ts';
import { type DiskData, type DiskEntry, DiskPartialHandle } from './disk-handles.ts';
import type { DiskParts, DiskSpace } from './disk-space.ts';
import { createSparse, moveInto, removeFile } from './files.ts';
import { onDisk } from './fs-errors.ts';
import type { HashThread } from './hash-thread.ts';
import { PartialFile, verifyPieces } from './partial-file.ts';
import { blobPath, partialPath } from './paths.ts';

export interface DiskPartialsDeps {
  readonly clock: Clock;
  readonly space: DiskSpace;
  readonly writtenBytes: Counter;
  readonly hashing?: HashThread | undefined;
}

/** Two blobs at a time are read back for hashing, 1 MiB at a time: more threads would starve the piece reads and writes. */
const readBack = { count: 2, sizeBytes: 1024 * 1024 };

export class DiskPartials {
  readonly #parts: DiskParts;
  readonly #deps: DiskPartialsDeps;
  readonly #pool = new BufferPool(readBack);
  #closed = false;

  constructor(parts: DiskParts, deps: DiskPartialsDeps) {
    this.#parts = parts;
    this.#deps = deps;
  }

  /** See `BlobStore.openPartial`. */
  async open(metainfo: Metainfo): Promise<PartialBlob | undefined> {
    const { catalog, lock } = this.#parts;
    return await lock.run(metainfo.digest, async () => {
      let entry = catalog.get(metainfo.digest);
      if (entry?.state === 'complete') return undefined;
      if (entry !== undefined && !(await this.#agrees(entry, metainfo))) entry = undefined;
      entry ??= await this.#create(metainfo);
      this.retain(entry);
      try {
        entry.data.partial ??= await this.#load(entry, metainfo);
        return this.#handle(entry, entry.data.partial);
      } catch (error) {
        await this.#releaseNow(entry);
        throw error;
      }
    });
  }

  /** Counts one more handle of a blob of either kind, and its use. */
  retain(entry: DiskEntry): void {
    this.#parts.catalog.retain(entry);
    if (this.#parts.catalog.touch(entry)) this.#parts.writeBehind.used(entry);
  }

  /** Counts one handle less; the last one saves the progress and closes the file. */
  async release(entry: DiskEntry): Promise<void> {
    if (entry.state === 'partial') await this.#parts.lock.run(entry.digest, () => this.#releaseNow(entry));
    else await this.#releaseNow(entry);
  }

  async #releaseNow(entry: DiskEntry): Promise<void> {
    if (!this.#parts.catalog.release(entry)) return;
    const { file, partial } = entry.data;
    entry.data.file = undefined;
    entry.data.partial = undefined;
    try {
      await partial?.idle();
      partial?.end();
      if (partial !== undefined && !entry.gone && !this.#closed) await this.#parts.writeBehind.savePartial(entry, partial);
    } finally {
      // A file that could not be opened was reported to whoever opened it.
      await (await file?.catch(() => undefined))?.close();
    }
  }

  /** Waits for the writes under way; none may be started afterwards. */
  async quiesce(): Promise<void> {
    for (const entry of this.#parts.catalog.entries()) await entry.data.partial?.idle();
  }

  /** Closes the files of handles that were not disposed. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const entry of this.#parts.catalog.entries()) {
      const { file } = entry.data;
      entry.data.file = undefined;
      await (await file)?.close();
    }
  }

  /** True when the partial blob on disk was started from the same metainfo; an idle one that was not is dropped. */
  async #agrees(entry: DiskEntry, metainfo: Metainfo): Promise<boolean> {
    const stored = this.#parts.records.metainfo(entry.digest);
    if (stored !== undefined && sameMetainfo(stored, metainfo)) return true;
    if (entry.refCount > 0) {
      throw new AppError('failed-precondition', 'the blob is being downloaded from other metainfo; try again when that has ended');
    }
    this.#parts.catalog.replace(entry);
    await this.#deps.space.erase(entry);
    return false;
  }

  async #create(metainfo: Metainfo): Promise<DiskEntry> {
    const { digest, sizeBytes } = metainfo;
    await this.#deps.space.reserve(sizeBytes);
    const path = partialPath(this.#parts.root, digest);
    const have = new Bitfield(metainfo.pieceCount);
    const row = { have: have.toBytes(), verified: true, lastUsedMs: minuteOf(this.#deps.clock.wallMs()) };
    let file: FileHandle | undefined;
    try {
      file = await onDisk('creating a partial blob', () => createSparse(path, sizeBytes));
      // Saved a moment later: a crash before that loses no piece that anyone was promised.
      await this.#parts.records.putPartialSoon(metainfo, row);
    } catch (error) {
      this.#parts.catalog.unreserve(sizeBytes);
      await file?.close();
      await removeFile(path);
      throw error;
    }
    const data = newData({ durable: false, verified: true });
    data.file = Promise.resolve(file);
    data.partial = new PartialFile(metainfo, have, { file, pool: this.#pool, hashing: this.#deps.hashing });
    return this.#parts.catalog.insert({ digest, sizeBytes, state: 'partial', pinned: false, data });
  }

  async #load(entry: DiskEntry, metainfo: Metainfo): Promise<PartialFile> {
    return await onDisk('opening a partial blob', async () => {
      entry.data.file ??= open(partialPath(this.#parts.root, entry.digest), 'r+');
      const file = await entry.data.file;
      const row = this.#parts.records.partial(entry.digest);
      const claimed = row === undefined ? new Bitfield(metainfo.pieceCount) : savedBitfield(row.have, metainfo.pieceCount);
      const have = entry.data.verified ? claimed : await verifyPieces(metainfo, claimed, file);
      if (have.count < claimed.count)
        this.#parts.logger.warn('pieces did not survive the last stop', { lostCount: claimed.count - have.count });
      entry.data.verified = true;
      const partial = new PartialFile(metainfo, have, { file, pool: this.#pool, hashing: this.#deps.hashing });
      partial.unsavedCount = claimed.count - have.count;
      return partial;
    });
  }

  #handle(entry: DiskEntry, partial: PartialFile): PartialBlob {
    return new DiskPartialHandle(partial, {
      entry,
      release: () => this.release(entry),
      commit: (options) => this.#commit(entry, partial, options),
      written: (sizeBytes) => {
        this.#deps.writtenBytes.add(sizeBytes);
        this.#parts.writeBehind.pieceWritten(entry);
      },
    });
  }

  async #commit(entry: DiskEntry, partial: PartialFile, options: { readonly fsync: boolean }): Promise<void> {
    if (entry.state === 'partial') {
      entry.data.commit ??= this.#finish(entry, partial, options).finally(() => {
        entry.data.commit = undefined;
      });
      await entry.data.commit;
    }
    // The commit that was shared may have been asked not to sync, or another writer's complete blob won.
    const complete = this.#parts.catalog.complete(entry.digest);
    if (options.fsync && complete !== undefined) await this.#parts.writeBehind.makeDurable(complete);
  }

  async #finish(entry: DiskEntry, partial: PartialFile, options: { readonly fsync: boolean }): Promise<void> {
    const { digest } = entry;
    const actual = await partial.finishDigest();
    const file = await entry.data.file;
    assert(file !== undefined, 'an open partial blob has a file');
    if (options.fsync && actual === digest) await onDisk('syncing a blob', () => this.#parts.writeBehind.timedSync(file));
    await this.#parts.lock.run(digest, async () => {
      if (actual !== digest) {
        if (!entry.gone) {
          this.#parts.catalog.replace(entry);
          await this.#deps.space.erase(entry);
        }
        throw new AppError('digest-mismatch', 'the pieces do not make the blob: its metainfo is wrong; fetch it from an origin again', {
          data: { digest, actual },
        });
      }
      if (entry.gone) {
        if (this.#parts.catalog.complete(digest) !== undefined) return;
        throw new AppError('aborted', 'the blob was deleted while it was being fetched; fetch it again', { data: { digest } });
      }
      await onDisk('storing a blob', () => this.#moveFinished(entry, partial, options));
    });
  }

  /** Partial -> complete. On an error the blob is partial again. */
  async #moveFinished(entry: DiskEntry, partial: PartialFile, options: { readonly fsync: boolean }): Promise<void> {
    const from = partialPath(this.#parts.root, entry.digest);
    const to = blobPath(this.#parts.root, entry.digest);
    // Nobody saves its bitfield any more.
    entry.data.partial = undefined;
    try {
      await moveInto(from, to, options);
      await this.#parts.writeBehind.recordComplete(partial.metainfo, { pinned: entry.pinned, fsync: options.fsync });
    } catch (error) {
      await rename(to, from).catch(() => undefined);
      entry.data.partial = partial;
      throw error;
    }
    partial.end();
    entry.state = 'complete';
    entry.data.durable = options.fsync;
    if (!options.fsync) this.#parts.writeBehind.needsSync(entry);
    if (this.#parts.catalog.touch(entry)) this.#parts.writeBehind.used(entry);
  }
}

/** The data of a blob that nobody has open. */
export function newData(flags: { readonly durable: boolean; readonly verified: boolean }): DiskData {
  return { ...flags, file: undefined, partial: undefined, commit: undefined, marking: undefined };
}
