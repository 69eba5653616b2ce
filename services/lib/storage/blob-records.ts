/**
 * The rows a DiskBlobStore keeps in LMDB, and their binary forms. Layouts are little-endian and start with a version byte. Each write
 * is one transaction, durable when its promise resolves; it fails as `commit` does. Those whose names end in `Soon` are saved a little later.
 */
import type { Database } from 'lmdb';
import { AppError, type Digest, isDigest, type Metainfo, metainfoOf } from '#core';
import { commit, type EmbeddedDb, openDatabase } from './database.ts';
import { LateWrites } from './late-writes.ts';

/** A complete blob. */
export interface BlobRow {
  readonly sizeBytes: number;
  readonly pinned: boolean;
  /** The bytes were fsynced: they survive a power cut. */
  readonly durable: boolean;
  readonly lastUsedMs: number;
}

/** A partial blob: pieces on disk in the wire form of a bitfield, and the last use. */
export interface PartialRow {
  readonly have: Uint8Array;
  /** False after a power cut: the pieces must be checked against their hashes before they are trusted. */
  readonly verified: boolean;
  readonly lastUsedMs: number;
}

/** How the last run ended. */
export interface RunRow {
  /** Names the life of the page cache: while it is the same, written bytes are there although nobody fsynced them. */
  readonly bootId: string;
  readonly closedCleanly: boolean;
}

const rowVersion = 1;
const runKey = 'run';

export class BlobRecords implements AsyncDisposable {
  readonly #db: EmbeddedDb;
  readonly #blobs: Database<Uint8Array, string>;
  readonly #partials: Database<Uint8Array, string>;
  readonly #metainfos: Database<Uint8Array, string>;
  readonly #run: Database<RunRow, string>;
  readonly #late: LateWrites;

  private constructor(db: EmbeddedDb, onLateError: (error: unknown) => void) {
    this.#db = db;
    this.#late = new LateWrites(db, onLateError);
    this.#blobs = db.openDB<Uint8Array, string>({ name: 'blobs', encoding: 'binary' });
    this.#partials = db.openDB<Uint8Array, string>({ name: 'partials', encoding: 'binary' });
    this.#metainfos = db.openDB<Uint8Array, string>({ name: 'metainfos', encoding: 'binary' });
    this.#run = db.openDB<RunRow, string>({ name: 'run', encoding: 'json' });
  }

  /** Opens or creates the tables in folder `path`. `onLateError` hears when late writes were refused; they are tried again with the next write. */
  static async open(path: string, onLateError: (error: unknown) => void): Promise<BlobRecords> {
    return new BlobRecords(await openDatabase(path), onLateError);
  }

  /** Undefined at the first start. */
  lastRun(): RunRow | undefined {
    return this.#run.get(runKey);
  }

  async setRun(row: RunRow): Promise<void> {
    await commit(this.#db, () => this.#run.putSync(runKey, row));
  }

  /** Undefined when there is none or it cannot be read. */
  metainfo(digest: Digest): Metainfo | undefined {
    const late = this.#late.metainfo(digest);
    if (late !== undefined) return late;
    const bytes = this.#metainfos.get(digest);
    return bytes === undefined ? undefined : decodeMetainfo(digest, bytes);
  }

  partial(digest: Digest): PartialRow | undefined {
    const bytes = this.#partials.get(digest);
    return bytes === undefined ? undefined : decodePartialRow(bytes);
  }

  /** Unreadable rows come back as undefined, for the caller to drop. */
  *blobRows(): Generator<readonly [Digest, BlobRow | undefined]> {
    for (const { key, value } of this.#blobs.getRange()) if (isDigest(key)) yield [key, decodeBlobRow(value)];
  }

  *partialRows(): Generator<readonly [Digest, PartialRow | undefined]> {
    for (const { key, value } of this.#partials.getRange()) if (isDigest(key)) yield [key, decodePartialRow(value)];
  }

  *metainfoKeys(): Generator<Digest> {
    for (const key of this.#metainfos.getKeys()) if (isDigest(key)) yield key;
  }

  /** Digests of complete blobs in order, after `after`. */
  *blobKeys(after: Digest | undefined): Generator<Digest> {
    const range = after === undefined ? {} : { start: after, exclusiveStart: true };
    const waiting = this.#late.digests('complete', after);
    for (const key of this.#blobs.getKeys(range)) {
      if (!isDigest(key)) continue;
      while (waiting[0] !== undefined && waiting[0] < key) yield* waiting.splice(0, 1);
      if (waiting[0] === key) waiting.shift();
      yield key;
    }
    yield* waiting;
  }

  /** Stores a complete blob's rows and drops those of its partial, in one transaction. */
  async putBlob(metainfo: Metainfo, row: BlobRow): Promise<void> {
    await this.#late.commit([metainfo.digest], () => this.#setBlob(metainfo, row), true);
  }

  /** As {@link putBlob}, without waiting for the disk unless very many such writes wait for it. */
  async putBlobSoon(metainfo: Metainfo, row: BlobRow): Promise<void> {
    await this.#late.add({ state: 'complete', metainfo, apply: () => this.#setBlob(metainfo, row) });
  }

  async updateBlob(digest: Digest, row: BlobRow): Promise<void> {
    await this.updateBlobs([[digest, row]]);
  }

  async updateBlobs(rows: readonly (readonly [Digest, BlobRow])[]): Promise<void> {
    if (rows.length === 0) return;
    const digests = rows.map(([digest]) => digest);
    await this.#late.commit(
      digests,
      () => {
        for (const [digest, row] of rows) this.#blobs.putSync(digest, encodeBlobRow(row));
      },
      false,
    );
  }

  /** As {@link putBlobSoon}: until it is saved, a crash loses a partial blob that has just begun. */
  async putPartialSoon(metainfo: Metainfo, row: PartialRow): Promise<void> {
    const apply = (): void => {
      this.#metainfos.putSync(metainfo.digest, encodeMetainfo(metainfo));
      this.#partials.putSync(metainfo.digest, encodePartialRow(row));
    };
    await this.#late.add({ state: 'partial', metainfo, apply });
  }

  async updatePartial(digest: Digest, row: PartialRow): Promise<void> {
    await this.#late.commit([digest], () => this.#partials.putSync(digest, encodePartialRow(row)), false);
  }

  /** Drops a blob's row of one state, and without `keepMetainfo` all there is of it. */
  async remove(digest: Digest, state: 'partial' | 'complete', options: { readonly keepMetainfo: boolean }): Promise<void> {
    await this.removeAll([digest], state, options);
  }

  /** {@link remove} for many blobs at once. */
  async removeAll(digests: readonly Digest[], state: 'partial' | 'complete', options: { readonly keepMetainfo: boolean }): Promise<void> {
    if (digests.length === 0) return;
    const change = (): void => {
      for (const digest of digests) {
        if (!options.keepMetainfo) this.#metainfos.removeSync(digest);
        if (!options.keepMetainfo || state === 'complete') this.#blobs.removeSync(digest);
        if (!options.keepMetainfo || state === 'partial') this.#partials.removeSync(digest);
      }
    };
    await this.#late.commit(digests, change, !options.keepMetainfo);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#late.close();
    await this.#db.close();
  }

  #setBlob(metainfo: Metainfo, row: BlobRow): void {
    this.#metainfos.putSync(metainfo.digest, encodeMetainfo(metainfo));
    this.#partials.removeSync(metainfo.digest);
    this.#blobs.putSync(metainfo.digest, encodeBlobRow(row));
  }
}

const blobRowSizeBytes = 20;

function encodeBlobRow(row: BlobRow): Buffer {
  const bytes = Buffer.alloc(blobRowSizeBytes);
  bytes.writeUInt8(rowVersion, 0);
  bytes.writeUInt8((row.pinned ? 1 : 0) | (row.durable ? 2 : 0), 1);
  bytes.writeDoubleLE(row.sizeBytes, 4);
  bytes.writeDoubleLE(row.lastUsedMs, 12);
  return bytes;
}

function decodeBlobRow(value: Uint8Array): BlobRow | undefined {
  const bytes = viewOf(value);
  if (bytes.byteLength !== blobRowSizeBytes || bytes[0] !== rowVersion) return undefined;
  const flags = bytes.readUInt8(1);
  return {
    sizeBytes: bytes.readDoubleLE(4),
    pinned: (flags & 1) !== 0,
    durable: (flags & 2) !== 0,
    lastUsedMs: bytes.readDoubleLE(12),
  };
}

const partialHeaderSizeBytes = 10;

function encodePartialRow(row: PartialRow): Buffer {
  const bytes = Buffer.alloc(partialHeaderSizeBytes + row.have.byteLength);
  bytes.writeUInt8(rowVersion, 0);
  bytes.writeUInt8(row.verified ? 1 : 0, 1);
  bytes.writeDoubleLE(row.lastUsedMs, 2);
  bytes.set(row.have, partialHeaderSizeBytes);
  return bytes;
}

function decodePartialRow(value: Uint8Array): PartialRow | undefined {
  const bytes = viewOf(value);
  if (bytes.byteLength < partialHeaderSizeBytes || bytes[0] !== rowVersion) return undefined;
  return { verified: bytes[1] === 1, lastUsedMs: bytes.readDoubleLE(2), have: bytes.subarray(partialHeaderSizeBytes) };
}

const metainfoHeaderSizeBytes = 13;

function encodeMetainfo(metainfo: Metainfo): Buffer {
  const bytes = Buffer.alloc(metainfoHeaderSizeBytes + metainfo.pieceHashes.byteLength);
  bytes.writeUInt8(rowVersion, 0);
  bytes.writeDoubleLE(metainfo.sizeBytes, 1);
  bytes.writeUInt32LE(metainfo.pieceLengthBytes, 9);
  bytes.set(metainfo.pieceHashes, metainfoHeaderSizeBytes);
  return bytes;
}

function decodeMetainfo(digest: Digest, value: Uint8Array): Metainfo | undefined {
  const bytes = viewOf(value);
  if (bytes.byteLength < metainfoHeaderSizeBytes || bytes[0] !== rowVersion) return undefined;
  try {
    return metainfoOf({
      digest,
      sizeBytes: bytes.readDoubleLE(1),
      pieceLengthBytes: bytes.readUInt32LE(9),
      pieceHashes: bytes.subarray(metainfoHeaderSizeBytes),
    });
  } catch (error) {
    if (error instanceof AppError) return undefined;
    throw error;
  }
}

function viewOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
