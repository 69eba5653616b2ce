/**
 * The hashes of one upload: the digest of the whole, and the pieces. A small one is hashed from memory while it arrives, a larger one from its file on
 * the thread for hashing, which follows what is written.
 */
import type { FileHandle } from 'node:fs/promises';
import { type Digest, type DigestAlgorithm, DigestHasher, type Metainfo, MetainfoBuilder } from '#core';
import { readFully } from './files.ts';
import { onDisk } from './fs-errors.ts';
import type { HashThread, ThreadHasher } from './hash-thread.ts';

const readBytes = 1024 * 1024;

export class UploadHashes {
  readonly #algorithm: DigestAlgorithm;
  readonly #thread: HashThread | undefined;
  #whole: DigestHasher;
  #pieces = new MetainfoBuilder();
  /** Takes over when the upload is large. */
  #threaded: ThreadHasher | undefined;
  #following: Promise<void> | undefined;
  /** How far the thread may read. */
  #writtenBytes = 0;

  constructor(algorithm: DigestAlgorithm, thread: HashThread | undefined) {
    this.#algorithm = algorithm;
    this.#thread = thread;
    this.#whole = new DigestHasher(algorithm);
  }

  /** Bytes arrive, and are being written. */
  update(bytes: Uint8Array): void {
    if (this.#threaded !== undefined) return;
    if (this.#thread !== undefined && this.#whole.sizeBytes + bytes.byteLength >= this.#thread.sizeBytesMin) this.#handOver(this.#thread);
    else this.#hash(bytes);
  }

  /** The bytes before `writtenBytes` are in the file, which stays open until {@link idle}. */
  follow(file: FileHandle, writtenBytes: number): void {
    const threaded = this.#threaded;
    this.#writtenBytes = writtenBytes;
    if (threaded === undefined || this.#following !== undefined) return;
    const follow = async (): Promise<void> => {
      while (threaded === this.#threaded && threaded.hashedBytes < this.#writtenBytes) await threaded.readTo(file, this.#writtenBytes);
    };
    const ended = (): void => {
      this.#following = undefined;
    };
    // What failed is tried again by `catchUp`.
    this.#following = follow().then(ended, ended);
  }

  /** Nothing reads the file. */
  async idle(): Promise<void> {
    await this.#following;
  }

  /** The file was cut to `sizeBytes`: what was hashed beyond is forgotten. Nothing may read the file. */
  cut(sizeBytes: number): void {
    this.#writtenBytes = Math.min(this.#writtenBytes, sizeBytes);
    if (this.#hashedBytes > sizeBytes) this.#restart();
  }

  /** Hashes what is in the file but not hashed: all of it after a restart or a cut. */
  async catchUp(file: FileHandle, sizeBytes: number, signal: AbortSignal): Promise<void> {
    await this.idle();
    if (this.#hashedBytes === sizeBytes) return;
    if (this.#threaded === undefined && this.#thread !== undefined && sizeBytes >= this.#thread.sizeBytesMin) this.#handOver(this.#thread);
    const threaded = this.#threaded;
    if (threaded !== undefined) {
      await onDisk('reading an upload', () => threaded.readTo(file, sizeBytes, signal));
      return;
    }
    this.#restart();
    try {
      await readAll(file, sizeBytes, signal, (bytes) => this.#hash(bytes));
    } catch (error) {
      this.#restart();
      throw error;
    }
  }

  /** The digest of what was hashed. */
  async digest(): Promise<Digest> {
    return (await this.#threaded?.digest()) ?? this.#whole.peek();
  }

  /** The digest by another algorithm than the one of the upload. */
  async otherDigest(
    algorithm: DigestAlgorithm,
    { file, sizeBytes }: { readonly file: FileHandle; readonly sizeBytes: number },
    signal: AbortSignal,
  ): Promise<Digest> {
    if (this.#thread === undefined || sizeBytes < this.#thread.sizeBytesMin) {
      const hasher = new DigestHasher(algorithm);
      await readAll(file, sizeBytes, signal, (bytes) => hasher.update(bytes));
      return hasher.finish();
    }
    const threaded = this.#thread.open({ algorithm, leaves: false });
    try {
      await onDisk('reading an upload', () => threaded.readTo(file, sizeBytes, signal));
      return await threaded.digest();
    } finally {
      threaded.end();
    }
  }

  /** Ends the hashes. `digest` is that of the same bytes. */
  async metainfo(digest: Digest): Promise<Metainfo> {
    const metainfo = (await this.#threaded?.metainfo(digest)) ?? this.#pieces.finish(digest);
    this.end();
    return metainfo;
  }

  /** Nothing is asked any more. */
  end(): void {
    this.#threaded?.end();
  }

  get #hashedBytes(): number {
    return this.#threaded?.hashedBytes ?? this.#whole.sizeBytes;
  }

  #handOver(thread: HashThread): void {
    this.#threaded = thread.open({ algorithm: this.#algorithm, leaves: true });
  }

  #hash(bytes: Uint8Array): void {
    this.#whole.update(bytes);
    this.#pieces.update(bytes);
  }

  #restart(): void {
    this.#threaded?.restart();
    this.#whole = new DigestHasher(this.#algorithm);
    this.#pieces = new MetainfoBuilder();
  }
}

async function readAll(file: FileHandle, sizeBytes: number, signal: AbortSignal, use: (bytes: Uint8Array) => void): Promise<void> {
  const buffer = Buffer.allocUnsafeSlow(readBytes);
  for (let at = 0; at < sizeBytes; at += readBytes) {
    signal.throwIfAborted();
    const bytes = buffer.subarray(0, Math.min(readBytes, sizeBytes - at));
    await onDisk('reading an upload', () => readFully(file, bytes, at));
    use(bytes);
  }
}
