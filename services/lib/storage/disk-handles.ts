/** What callers of a DiskBlobStore hold: open blobs that read, and partial ones that also write, through the entry's one file. */
import type { FileHandle } from 'node:fs/promises';
import { assert, type Bitfield, type Metainfo, piecesOfRange } from '#core';
import type { PartialBlob, ReadableBlob } from './blob-store.ts';
import type { Entry } from './catalog.ts';
import { readFully } from './files.ts';
import { onDisk } from './fs-errors.ts';
import type { PartialFile } from './partial-file.ts';

/** What a DiskBlobStore knows of a blob beside the catalog. */
export interface DiskData {
  /** Open while anybody has the blob open. Renaming and unlinking do not disturb it. */
  file: Promise<FileHandle> | undefined;
  /** Only while a partial blob is open, and not once its commit moves the file. */
  partial: PartialFile | undefined;
  /** The commit under way, shared by those who ask for it. */
  commit: Promise<void> | undefined;
  /** A complete blob: its bytes are fsynced. */
  durable: boolean;
  /** While the row that says so is being saved. */
  marking: Promise<void> | undefined;
  /** A partial blob: the pieces of its saved bitfield are known to be in the file. */
  verified: boolean;
}

export type DiskEntry = Entry<DiskData>;

export interface DiskHandleDeps {
  readonly entry: DiskEntry;
  readonly release: () => Promise<void>;
}

/** A complete blob, open. */
export class DiskHandle implements ReadableBlob {
  readonly metainfo: Metainfo;
  readonly #deps: DiskHandleDeps;
  #released = false;

  constructor(metainfo: Metainfo, deps: DiskHandleDeps) {
    this.metainfo = metainfo;
    this.#deps = deps;
  }

  async readInto(target: Uint8Array, positionBytes: number): Promise<void> {
    assert(positionBytes >= 0 && positionBytes + target.byteLength <= this.metainfo.sizeBytes, 'reads lie inside the blob');
    const file = this.#deps.entry.data.file;
    assert(!this.#released && file !== undefined, 'a released blob is not read');
    await onDisk('reading a blob', async () => readFully(await file, target, positionBytes));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    await this.#deps.release();
  }
}

export interface DiskPartialDeps extends DiskHandleDeps {
  readonly commit: (options: { readonly fsync: boolean }) => Promise<void>;
  /** Called for each piece that this handle added. */
  readonly written: (sizeBytes: number) => void;
}

/** A partial blob, open. */
export class DiskPartialHandle extends DiskHandle implements PartialBlob {
  readonly #partial: PartialFile;
  readonly #partialDeps: DiskPartialDeps;

  constructor(partial: PartialFile, deps: DiskPartialDeps) {
    super(partial.metainfo, deps);
    this.#partial = partial;
    this.#partialDeps = deps;
  }

  get have(): Bitfield {
    return this.#partial.have;
  }

  override async readInto(target: Uint8Array, positionBytes: number): Promise<void> {
    const { first, end } = piecesOfRange(
      { startByte: positionBytes, endByte: positionBytes + target.byteLength },
      this.metainfo.pieceLengthBytes,
    );
    for (let index = first; index < end; index += 1) assert(this.have.has(index), 'only pieces that are there are read');
    await super.readInto(target, positionBytes);
  }

  async writePiece(index: number, bytes: Uint8Array): Promise<void> {
    if (await this.#partial.writePiece(index, bytes)) this.#partialDeps.written(bytes.byteLength);
  }

  async commit(options: { readonly fsync: boolean }): Promise<void> {
    await this.#partialDeps.commit(options);
  }
}
