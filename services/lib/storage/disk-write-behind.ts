/**
 * What a DiskBlobStore writes late: bitfields of partial blobs, last uses, and the fsync of blobs that nobody waits for. Only
 * what is already in the file is ever recorded, so a crash loses progress but never gains any.
 */
import type { FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Clock, Histogram, Logger, Metainfo, Meter } from '#core';
import type { BlobRecords, BlobRow } from './blob-records.ts';
import { minuteOf } from './catalog.ts';
import type { DiskEntry } from './disk-handles.ts';
import { syncPath } from './files.ts';
import { fsCode, onDisk } from './fs-errors.ts';
import type { PartialFile } from './partial-file.ts';
import { blobPath, partialPath } from './paths.ts';

export interface WriteBehindOptions {
  readonly root: string;
  readonly flushIntervalMs?: number;
}

export interface WriteBehindDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly meter: Meter;
  readonly records: BlobRecords;
}

/** A bitfield is saved before the interval is over once this many pieces are unsaved. */
const unsavedPiecesMax = 256;
/** A blob that nobody asked to be synced is, after so many intervals: by then most of a burst has come and is synced together. */
const syncDelayFactor = 5;
/** So many are synced before their rows are saved. */
const syncBatchCount = 256;

export class DiskWriteBehind {
  readonly #root: string;
  readonly #intervalMs: number;
  readonly #deps: WriteBehindDeps;
  readonly #syncSeconds: Histogram;
  /** Rows to save. */
  readonly #dirty = new Set<DiskEntry>();
  /** Files whose bytes may be in the page cache only. */
  readonly #unsynced = new Set<DiskEntry>();
  #cancelTimer: (() => void) | undefined;
  #flushing: Promise<void> | undefined;
  #cancelSync: (() => void) | undefined;
  #syncing: Promise<void> | undefined;
  #closed = false;

  constructor(options: WriteBehindOptions, deps: WriteBehindDeps) {
    this.#root = options.root;
    this.#intervalMs = options.flushIntervalMs ?? 1000;
    this.#deps = deps;
    this.#syncSeconds = deps.meter.histogram('shoal_storage_sync_seconds', 'Time of one fsync of a blob');
  }

  /** A piece of an open partial blob was written. */
  pieceWritten(entry: DiskEntry): void {
    this.#dirty.add(entry);
    this.#unsynced.add(entry);
    if ((entry.data.partial?.unsavedCount ?? 0) >= unsavedPiecesMax) this.#flushNow();
    else this.#schedule();
  }

  /** A blob's last use changed. */
  used(entry: DiskEntry): void {
    this.#dirty.add(entry);
    this.#schedule();
  }

  /** A blob's bytes were not synced: a complete blob is synced soon, a partial one when the store closes. */
  needsSync(entry: DiskEntry): void {
    this.#unsynced.add(entry);
    if (entry.state === 'complete') this.#scheduleSync();
  }

  /** Writes the rows of a blob whose file has just moved into place, and waits for the disk when asked, or when it is pinned. */
  async recordComplete(metainfo: Metainfo, options: { readonly pinned: boolean; readonly fsync: boolean }): Promise<void> {
    const row = {
      sizeBytes: metainfo.sizeBytes,
      pinned: options.pinned,
      durable: options.fsync,
      lastUsedMs: minuteOf(this.#deps.clock.wallMs()),
    };
    if (options.fsync || options.pinned) await this.#deps.records.putBlob(metainfo, row);
    else await this.#deps.records.putBlobSoon(metainfo, row);
  }

  async saveBlob(entry: DiskEntry): Promise<void> {
    await onDisk('saving the state of a blob', async () => {
      await this.#deps.records.updateBlob(entry.digest, rowOf(entry));
    });
  }

  async savePartial(entry: DiskEntry, partial: PartialFile): Promise<void> {
    partial.unsavedCount = 0;
    const row = { have: partial.have.toBytes(), verified: true, lastUsedMs: entry.lastUsedMs };
    await onDisk('saving the progress of a blob', () => this.#deps.records.updatePartial(entry.digest, row));
  }

  /** A complete blob is on the disk itself when this resolves. */
  async makeDurable(entry: DiskEntry): Promise<void> {
    if (entry.data.durable) return await entry.data.marking;
    await onDisk('syncing a blob', async () => {
      await this.#syncFile(entry);
      await syncPath(dirname(blobPath(this.#root, entry.digest)));
    });
    await this.#markDurable([entry]);
  }

  /** The files of the entries are on the disk: their rows say so when this resolves. */
  async #markDurable(entries: readonly DiskEntry[]): Promise<void> {
    const kept = entries.filter(({ gone }) => !gone);
    for (const { data } of entries) data.durable = true;
    const rows = kept.map((entry) => [entry.digest, rowOf(entry)] as const);
    const marking = onDisk('saving the state of blobs', () => this.#deps.records.updateBlobs(rows));
    for (const { data } of kept) data.marking = marking;
    try {
      await marking;
      for (const entry of entries) this.#unsynced.delete(entry);
    } catch (error) {
      for (const { data } of kept) data.durable = false;
      for (const entry of kept) this.#unsynced.add(entry);
      throw error;
    } finally {
      for (const { data } of kept) if (data.marking === marking) data.marking = undefined;
    }
  }

  async #syncFile(entry: DiskEntry): Promise<void> {
    const file = await entry.data.file;
    if (file === undefined) await syncPath(blobPath(this.#root, entry.digest));
    else await this.timedSync(file);
  }

  async timedSync(file: FileHandle): Promise<void> {
    const startMs = this.#deps.clock.nowMs();
    await file.sync();
    this.#syncSeconds.record((this.#deps.clock.nowMs() - startMs) / 1000);
  }

  /** Saves and syncs everything. Nothing is scheduled afterwards. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelTimer?.();
    this.#cancelSync?.();
    await this.#flushing;
    await this.#syncing;
    await this.#flush();
    await this.#sync();
    for (const entry of this.#unsynced) {
      if (!entry.gone && entry.state === 'partial') await ignoreMissing(syncPath(partialPath(this.#root, entry.digest)));
    }
  }

  #schedule(): void {
    if (this.#closed || this.#cancelTimer !== undefined) return;
    this.#cancelTimer = this.#deps.clock.after(this.#intervalMs, () => this.#flushNow());
  }

  #flushNow(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    if (this.#closed) return;
    if (this.#flushing !== undefined) {
      this.#schedule();
      return;
    }
    const ended = (): void => {
      this.#flushing = undefined;
    };
    this.#flushing = this.#flush().then(ended, (error: unknown) => {
      ended();
      this.#deps.logger.warn('progress of blobs could not be saved yet', { error });
      this.#schedule();
    });
  }

  async #flush(): Promise<void> {
    this.#forgetSynced();
    const dirty = [...this.#dirty];
    this.#dirty.clear();
    const saves = dirty.map(async (entry) => {
      const { partial } = entry.data;
      if (entry.gone) return;
      if (entry.state === 'complete') await this.saveBlob(entry);
      else if (partial !== undefined) await this.savePartial(entry, partial);
    });
    for (const [index, { status }] of (await Promise.allSettled(saves)).entries()) {
      const entry = dirty[index];
      if (status === 'rejected' && entry !== undefined) this.#dirty.add(entry);
    }
    await Promise.all(saves);
  }

  #forgetSynced(): void {
    for (const entry of this.#unsynced)
      if (entry.gone || (entry.data.durable && entry.data.marking === undefined)) this.#unsynced.delete(entry);
  }

  #scheduleSync(): void {
    if (this.#closed || this.#cancelSync !== undefined) return;
    this.#cancelSync = this.#deps.clock.after(syncDelayFactor * this.#intervalMs, () => {
      this.#cancelSync = undefined;
      const ended = (): void => {
        this.#syncing = undefined;
      };
      this.#syncing ??= this.#sync().then(ended, (error: unknown) => {
        ended();
        this.#deps.logger.warn('blobs could not be synced yet', { error });
        this.#scheduleSync();
      });
    });
  }

  /** Makes complete blobs durable, many with one sync of each folder and one transaction. */
  async #sync(): Promise<void> {
    for (;;) {
      this.#forgetSynced();
      const batch = [...this.#unsynced].filter(({ state }) => state === 'complete').slice(0, syncBatchCount);
      if (batch.length === 0) return;
      const folders = new Set(batch.map(({ digest }) => dirname(blobPath(this.#root, digest))));
      await onDisk('syncing blobs', async () => {
        // One after the other: downloads need the threads of the pool more than this does.
        for (const entry of batch) await ignoreMissing(this.#syncFile(entry));
        for (const folder of folders) await ignoreMissing(syncPath(folder));
      });
      await this.#markDurable(batch);
    }
  }
}

function rowOf({ sizeBytes, pinned, data, lastUsedMs }: DiskEntry): BlobRow {
  return { sizeBytes, pinned, durable: data.durable, lastUsedMs };
}

/** A blob may be deleted while it is being synced. */
async function ignoreMissing(work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    const cause = error instanceof Error ? error.cause : undefined;
    if (fsCode(error) !== 'ENOENT' && fsCode(cause) !== 'ENOENT') throw error;
  }
}
