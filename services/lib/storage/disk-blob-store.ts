/**
 * Blobs on a node's disk. Files hold the bytes, LMDB the rows; a blob is here when both agree (see paths.ts and
 * disk-recovery.ts). What changes a digest's files and rows runs under that digest's lock; what counts bytes is synchronous.
 */
import { open, rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError, assert, type Clock, type Counter, type Digest, type Logger, type Metainfo, type Meter } from '#core';
import { BlobRecords } from './blob-records.ts';
import type { BlobStore, PartialBlob, ReadableBlob, StoredBlob, StoreOptions } from './blob-store.ts';
import { metainfoOfBytes, storedBlobOf, uploadGone } from './blob-values.ts';
import { Catalog, type CatalogOptions, type Entry } from './catalog.ts';
import { type DiskData, DiskHandle } from './disk-handles.ts';
import { DiskPartials, newData } from './disk-partials.ts';
import { readBootId, recover } from './disk-recovery.ts';
import { type DiskParts, DiskSpace } from './disk-space.ts';
import { DiskWriteBehind } from './disk-write-behind.ts';
import { moveInto, removeFile, syncPath, writeWhole } from './files.ts';
import { fsCode, onDisk } from './fs-errors.ts';
import type { HashThread } from './hash-thread.ts';
import { KeyedLock } from './keyed-lock.ts';
import { blobPath, dbDir, partialDir, partialPath } from './paths.ts';

export interface DiskBlobStoreOptions extends CatalogOptions {
  /** A folder of this store alone; one process at a time. */
  readonly root: string;
  /** How long bitfields and last uses may stay unsaved; default 1000. A crash loses at most this much of a download's progress. */
  readonly flushIntervalMs?: number;
  /** Names the life of the machine's page cache; read from the system when absent. */
  readonly bootId?: string;
}

export interface BlobStoreDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly meter: Meter;
  /** Hashes large blobs; without it they are hashed on this thread. */
  readonly hashing?: HashThread | undefined;
}

/** The most bytes of one {@link BlobStore.put}: manifests, configs and tiny layers are far below. */
export const putSizeBytesMax = 64 * 1024 * 1024;

export class DiskBlobStore implements BlobStore {
  readonly #root: string;
  readonly #catalog: Catalog<DiskData>;
  readonly #records: BlobRecords;
  readonly #writeBehind: DiskWriteBehind;
  readonly #lock = new KeyedLock<Digest>();
  readonly #logger: Logger;
  readonly #bootId: string;
  readonly #space: DiskSpace;
  readonly #partials: DiskPartials;
  readonly #writtenBytes: Counter;
  #tmpCount = 0;
  #closed = false;

  private constructor(
    options: DiskBlobStoreOptions & { readonly bootId: string },
    deps: BlobStoreDeps & { readonly records: BlobRecords },
  ) {
    this.#root = options.root;
    this.#bootId = options.bootId;
    this.#records = deps.records;
    this.#logger = deps.logger.child({ module: 'storage' });
    const catalog = new Catalog<DiskData>(options, deps);
    this.#catalog = catalog;
    this.#writeBehind = new DiskWriteBehind(options, { ...deps, logger: this.#logger });
    deps.meter.gauge('shoal_storage_used_bytes', 'Bytes of complete and partial blobs', () => catalog.usedBytes);
    deps.meter.gauge('shoal_storage_capacity_bytes', 'Configured most bytes of blobs', () => catalog.capacityBytes);
    this.#writtenBytes = deps.meter.counter('shoal_storage_written_bytes', 'Bytes of blobs written');
    const parts: DiskParts = {
      root: options.root,
      catalog,
      records: deps.records,
      writeBehind: this.#writeBehind,
      lock: this.#lock,
      logger: this.#logger,
    };
    this.#space = new DiskSpace(parts, deps);
    this.#partials = new DiskPartials(parts, { ...deps, space: this.#space, writtenBytes: this.#writtenBytes });
  }

  /** Opens the store below `root` and reconciles what a crash left behind. Throws `unavailable` when the folder cannot be used. */
  static async open(options: DiskBlobStoreOptions, deps: BlobStoreDeps): Promise<DiskBlobStore> {
    const bootId = options.bootId ?? (await readBootId());
    const records = await BlobRecords.open(dbDir(options.root), (error) =>
      deps.logger.warn('rows of blobs could not be saved yet', { module: 'storage', error }),
    );
    try {
      const store = new DiskBlobStore({ ...options, bootId }, { ...deps, records });
      await onDisk('opening the blob store', () => store.#recover());
      return store;
    } catch (error) {
      await records[Symbol.asyncDispose]();
      throw error;
    }
  }

  stat(digest: Digest): StoredBlob | undefined {
    const entry = this.#catalog.complete(digest);
    return entry === undefined ? undefined : storedBlobOf(entry);
  }

  metainfo(digest: Digest): Metainfo | undefined {
    return this.#catalog.complete(digest) === undefined ? undefined : this.#records.metainfo(digest);
  }

  async open(digest: Digest): Promise<ReadableBlob | undefined> {
    this.#assertOpen();
    const entry = this.#catalog.complete(digest);
    const metainfo = entry === undefined ? undefined : this.#records.metainfo(digest);
    if (entry === undefined || metainfo === undefined) return undefined;
    this.#partials.retain(entry);
    try {
      entry.data.file ??= open(blobPath(this.#root, digest), 'r');
      await entry.data.file;
    } catch (error) {
      await this.#partials.release(entry);
      if (fsCode(error) !== 'ENOENT') return await onDisk('opening a blob', () => Promise.reject(error));
      this.#logger.error('a blob file is missing; something else removed it', { digest });
      if (!entry.gone) await this.delete(digest);
      return undefined;
    }
    return new DiskHandle(metainfo, { entry, release: () => this.#partials.release(entry) });
  }

  async openPartial(metainfo: Metainfo): Promise<PartialBlob | undefined> {
    this.#assertOpen();
    return await this.#partials.open(metainfo);
  }

  partials(): readonly Metainfo[] {
    const found: Metainfo[] = [];
    for (const entry of this.#catalog.entries()) {
      const metainfo = entry.state === 'partial' ? this.#records.metainfo(entry.digest) : undefined;
      if (metainfo !== undefined) found.push(metainfo);
    }
    return found;
  }

  async put(digest: Digest, bytes: Uint8Array, options: StoreOptions): Promise<Metainfo> {
    this.#assertOpen();
    assert(bytes.byteLength <= putSizeBytesMax, 'put is for small blobs');
    const metainfo = metainfoOfBytes(digest, bytes);
    this.#tmpCount += 1;
    const tmp = join(partialDir(this.#root), `${this.#tmpCount}.tmp`);
    await this.#install(metainfo, options, async () => {
      await writeWhole(tmp, bytes, options);
      this.#writtenBytes.add(bytes.byteLength);
      return tmp;
    });
    return metainfo;
  }

  async adopt(path: string, metainfo: Metainfo, options: StoreOptions): Promise<void> {
    this.#assertOpen();
    const installed = await this.#install(metainfo, options, async () => {
      const { size } = await stat(path).catch((error: unknown) => {
        throw fsCode(error) === 'ENOENT' ? uploadGone(error) : error;
      });
      if (size !== metainfo.sizeBytes)
        throw new AppError('data-loss', 'a finished file has another size than its metainfo; upload it again');
      if (options.fsync) await syncPath(path);
      return path;
    });
    if (!installed) await onDisk('taking over a file', () => removeFile(path));
  }

  async sync(digest: Digest): Promise<void> {
    const entry = this.#catalog.complete(digest);
    if (entry === undefined)
      throw new AppError('not-found', 'the blob to sync is not here; fetch it first', { data: { kind: 'blob', digest } });
    await this.#writeBehind.makeDurable(entry);
  }

  list(page: { readonly limit: number; readonly after?: Digest }): readonly StoredBlob[] {
    const blobs: StoredBlob[] = [];
    for (const digest of this.#records.blobKeys(page.after)) {
      if (blobs.length >= page.limit) break;
      const entry = this.#catalog.complete(digest);
      if (entry !== undefined) blobs.push(storedBlobOf(entry));
    }
    return blobs;
  }

  async setPinned(digest: Digest, pinned: boolean): Promise<void> {
    await this.#lock.run(digest, async () => {
      const entry = this.#catalog.complete(digest);
      if (entry === undefined)
        throw new AppError('not-found', 'the blob to pin is not here; fetch it first', { data: { kind: 'blob', digest } });
      await this.#pin(entry, pinned);
    });
  }

  async delete(digest: Digest): Promise<boolean> {
    this.#assertOpen();
    return await this.#lock.run(digest, async () => {
      const entry = this.#catalog.get(digest);
      if (entry === undefined) return false;
      this.#catalog.remove(entry);
      await this.#space.erase(entry);
      return true;
    });
  }

  onRemoved(listener: (digest: Digest) => void): () => void {
    return this.#catalog.onRemoved(listener);
  }

  usage(): { readonly usedBytes: number; readonly capacityBytes: number } {
    return { usedBytes: this.#catalog.usedBytes, capacityBytes: this.#catalog.capacityBytes };
  }

  /** Saves and syncs everything, so that the next start need verify nothing. Handles still open fail from now on. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#lock.idle();
    await this.#partials.quiesce();
    await this.#writeBehind.close();
    await this.#partials.close();
    await this.#records.setRun({ bootId: this.#bootId, closedCleanly: true });
    await this.#records[Symbol.asyncDispose]();
  }

  async #recover(): Promise<void> {
    const { found, closedCleanly } = await recover(this.#root, { records: this.#records, logger: this.#logger, bootId: this.#bootId });
    for (const blob of found) {
      const pinned = blob.state === 'complete' && blob.pinned;
      const durable = blob.state === 'complete' && blob.durable;
      const verified = blob.state === 'complete' || blob.verified;
      const { digest, sizeBytes, state, lastUsedMs } = blob;
      const entry = this.#catalog.restore({ digest, sizeBytes, state, pinned, lastUsedMs, data: newData({ durable, verified }) });
      if (state === 'complete' ? !durable : !closedCleanly) this.#writeBehind.needsSync(entry);
    }
    await this.#records.setRun({ bootId: this.#bootId, closedCleanly: false });
  }

  /** Under the blob's lock. */
  async #pin(entry: Entry<DiskData>, pinned: boolean): Promise<void> {
    if (entry.pinned === pinned) return;
    entry.pinned = pinned;
    try {
      await this.#writeBehind.saveBlob(entry);
    } catch (error) {
      entry.pinned = !pinned;
      throw error;
    }
  }

  /** Gives a blob that is here already what a call that stores it again asks for. Under the blob's lock. */
  async #keep(entry: Entry<DiskData>, options: StoreOptions): Promise<void> {
    if (options.pinned === true) await this.#pin(entry, true);
    if (options.fsync) await this.#writeBehind.makeDurable(entry);
  }

  /** Reserves space, lets `prepare` produce a file of the blob's bytes and moves it into place. False when the blob was there. */
  async #install(metainfo: Metainfo, options: StoreOptions, prepare: () => Promise<string>): Promise<boolean> {
    const { digest, sizeBytes } = metainfo;
    return await this.#lock.run(digest, async () => {
      const existing = this.#catalog.get(digest);
      if (existing?.state === 'complete') {
        await this.#keep(existing, options);
        return false;
      }
      await this.#space.reserve(sizeBytes);
      try {
        await onDisk('storing a blob', () => this.#moveIn(metainfo, options, prepare));
      } catch (error) {
        this.#catalog.unreserve(sizeBytes);
        throw error;
      }
      const partial = this.#catalog.get(digest);
      if (partial !== undefined) this.#catalog.replace(partial);
      const data = newData({ durable: options.fsync, verified: true });
      const entry = this.#catalog.insert({ digest, sizeBytes, state: 'complete', pinned: options.pinned ?? false, data });
      if (!options.fsync) this.#writeBehind.needsSync(entry);
      if (partial !== undefined) await onDisk('removing a partial blob', () => removeFile(partialPath(this.#root, digest)));
      return true;
    });
  }

  async #moveIn(metainfo: Metainfo, options: StoreOptions, prepare: () => Promise<string>): Promise<void> {
    const path = blobPath(this.#root, metainfo.digest);
    const from = await prepare();
    try {
      await moveInto(from, path, options);
      await this.#writeBehind.recordComplete(metainfo, { pinned: options.pinned ?? false, fsync: options.fsync });
    } catch (error) {
      // Back to where it came from: a finished upload can be adopted again, a temporary file goes.
      await rename(path, from).catch(() => undefined);
      if (from.endsWith('.tmp')) await removeFile(from);
      throw error;
    }
  }

  #assertOpen(): void {
    assert(!this.#closed, 'a closed store is not used');
  }
}
