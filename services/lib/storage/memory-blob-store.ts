/** Blobs in memory, with the contract and the eviction of the ones on disk: for nodes without a disk, simulations and tests. */

import { readFile, rm } from 'node:fs/promises';
import { AppError, algorithmOf, assert, Bitfield, type Clock, type Digest, digestOf, type Metainfo, pieceSize, piecesOfRange } from '#core';
import type { BlobStore, PartialBlob, ReadableBlob, StoredBlob, StoreOptions } from './blob-store.ts';
import { digestMismatch, metainfoOfBytes, sameMetainfo, storedBlobOf, uploadGone } from './blob-values.ts';
import { Catalog, type CatalogOptions, type Entry } from './catalog.ts';
import { fsCode, onDisk } from './fs-errors.ts';

interface MemoryData {
  readonly metainfo: Metainfo;
  readonly bytes: Uint8Array;
  readonly have: Bitfield;
}

type MemoryEntry = Entry<MemoryData>;

export class MemoryBlobStore implements BlobStore {
  readonly #catalog: Catalog<MemoryData>;

  constructor(options: CatalogOptions, deps: { readonly clock: Clock }) {
    this.#catalog = new Catalog<MemoryData>(options, deps);
  }

  stat(digest: Digest): StoredBlob | undefined {
    const entry = this.#catalog.complete(digest);
    return entry === undefined ? undefined : storedBlobOf(entry);
  }

  metainfo(digest: Digest): Metainfo | undefined {
    return this.#catalog.complete(digest)?.data.metainfo;
  }

  async open(digest: Digest): Promise<ReadableBlob | undefined> {
    const entry = this.#catalog.complete(digest);
    return entry === undefined ? undefined : new MemoryHandle(entry, this.#catalog);
  }

  async openPartial(metainfo: Metainfo): Promise<PartialBlob | undefined> {
    let entry = this.#catalog.get(metainfo.digest);
    if (entry?.state === 'complete') return undefined;
    if (entry !== undefined && !sameMetainfo(entry.data.metainfo, metainfo)) {
      if (entry.refCount > 0) {
        throw new AppError('failed-precondition', 'the blob is being downloaded from other metainfo; try again when that has ended');
      }
      this.#catalog.replace(entry);
      entry = undefined;
    }
    entry ??= this.#insert(metainfo, { state: 'partial', bytes: undefined });
    return new MemoryHandle(entry, this.#catalog);
  }

  partials(): readonly Metainfo[] {
    return [...this.#catalog.entries()].filter((entry) => entry.state === 'partial').map((entry) => entry.data.metainfo);
  }

  async put(digest: Digest, bytes: Uint8Array, options: StoreOptions): Promise<Metainfo> {
    const metainfo = metainfoOfBytes(digest, bytes);
    this.#complete(metainfo, Uint8Array.from(bytes), options);
    return metainfo;
  }

  async adopt(path: string, metainfo: Metainfo, options: StoreOptions): Promise<void> {
    await onDisk('taking over a file', async () => {
      const existing = this.#catalog.complete(metainfo.digest);
      if (existing !== undefined) {
        existing.pinned ||= options.pinned === true;
        await rm(path, { force: true });
        return;
      }
      const bytes = await readFile(path).catch((error: unknown) => {
        throw fsCode(error) === 'ENOENT' ? uploadGone(error) : error;
      });
      if (bytes.byteLength !== metainfo.sizeBytes) {
        throw new AppError('data-loss', 'a finished file has another size than its metainfo; upload it again');
      }
      this.#complete(metainfo, bytes, options);
      await rm(path, { force: true });
    });
  }

  async sync(digest: Digest): Promise<void> {
    if (this.#catalog.complete(digest) !== undefined) return;
    throw new AppError('not-found', 'the blob to sync is not here; fetch it first', { data: { kind: 'blob', digest } });
  }

  list(page: { readonly limit: number; readonly after?: Digest }): readonly StoredBlob[] {
    const { after } = page;
    return [...this.#catalog.entries()]
      .filter((entry) => entry.state === 'complete' && (after === undefined || entry.digest > after))
      .sort((a, b) => (a.digest < b.digest ? -1 : 1))
      .slice(0, page.limit)
      .map(storedBlobOf);
  }

  async setPinned(digest: Digest, pinned: boolean): Promise<void> {
    const entry = this.#catalog.complete(digest);
    if (entry === undefined)
      throw new AppError('not-found', 'the blob to pin is not here; fetch it first', { data: { kind: 'blob', digest } });
    entry.pinned = pinned;
  }

  async delete(digest: Digest): Promise<boolean> {
    const entry = this.#catalog.get(digest);
    if (entry === undefined) return false;
    this.#catalog.remove(entry);
    return true;
  }

  onRemoved(listener: (digest: Digest) => void): () => void {
    return this.#catalog.onRemoved(listener);
  }

  usage(): { readonly usedBytes: number; readonly capacityBytes: number } {
    return { usedBytes: this.#catalog.usedBytes, capacityBytes: this.#catalog.capacityBytes };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Nothing outlives the process, so there is nothing to close.
  }

  #complete(metainfo: Metainfo, bytes: Uint8Array, options: StoreOptions): void {
    const entry = this.#catalog.complete(metainfo.digest) ?? this.#insert(metainfo, { state: 'complete', bytes });
    entry.pinned ||= options.pinned === true;
  }

  #insert(metainfo: Metainfo, blob: { readonly state: Entry<unknown>['state']; readonly bytes: Uint8Array | undefined }): MemoryEntry {
    const { digest, sizeBytes, pieceCount } = metainfo;
    this.#catalog.reserve(sizeBytes);
    const replaced = this.#catalog.get(digest);
    if (replaced !== undefined) this.#catalog.replace(replaced);
    const have = blob.bytes === undefined ? new Bitfield(pieceCount) : Bitfield.full(pieceCount);
    const data = { metainfo, bytes: blob.bytes ?? new Uint8Array(sizeBytes), have };
    return this.#catalog.insert({ digest, sizeBytes, state: blob.state, pinned: false, data });
  }
}

class MemoryHandle implements PartialBlob {
  readonly #entry: MemoryEntry;
  readonly #catalog: Catalog<MemoryData>;
  #released = false;

  constructor(entry: MemoryEntry, catalog: Catalog<MemoryData>) {
    this.#entry = entry;
    this.#catalog = catalog;
    catalog.retain(entry);
    catalog.touch(entry);
  }

  get metainfo(): Metainfo {
    return this.#entry.data.metainfo;
  }

  get have(): Bitfield {
    return this.#entry.data.have;
  }

  async readInto(target: Uint8Array, positionBytes: number): Promise<void> {
    const endByte = positionBytes + target.byteLength;
    assert(!this.#released, 'a released blob is not read');
    assert(positionBytes >= 0 && endByte <= this.metainfo.sizeBytes, 'reads lie inside the blob');
    const { first, end } = piecesOfRange({ startByte: positionBytes, endByte }, this.metainfo.pieceLengthBytes);
    for (let index = first; index < end; index += 1) assert(this.have.has(index), 'only pieces that are there are read');
    target.set(this.#entry.data.bytes.subarray(positionBytes, endByte));
  }

  async writePiece(index: number, bytes: Uint8Array): Promise<void> {
    assert(index >= 0 && index < this.metainfo.pieceCount, 'the piece lies inside the blob');
    assert(bytes.byteLength === pieceSize(this.metainfo, index), 'a piece has its whole size');
    if (this.have.has(index)) return;
    this.#entry.data.bytes.set(bytes, index * this.metainfo.pieceLengthBytes);
    this.have.add(index);
  }

  async commit(_options: { readonly fsync: boolean }): Promise<void> {
    const entry = this.#entry;
    if (entry.state === 'complete') return;
    assert(this.have.isFull, 'a blob is committed when all of its pieces are there');
    const actual = digestOf(entry.data.bytes, algorithmOf(entry.digest));
    if (actual !== entry.digest) {
      if (!entry.gone) this.#catalog.replace(entry);
      throw digestMismatch(entry.digest, actual);
    }
    if (entry.gone) {
      if (this.#catalog.complete(entry.digest) !== undefined) return;
      throw new AppError('aborted', 'the blob was deleted while it was being fetched; fetch it again', { data: { digest: entry.digest } });
    }
    entry.state = 'complete';
    this.#catalog.touch(entry);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    this.#catalog.release(this.#entry);
  }
}
