/** A backend in memory, for tests and for clusters whose origins are the only storage. */
import type { ByteRange, Digest } from '#core';
import type { BackendCallOptions, BlobBackend } from './backend.ts';
import { backendNotFound, rangeWithin, wrongSize } from './backend-checks.ts';

/** The largest chunk a read yields. */
const chunkBytesMax = 1024 * 1024;

export class MemoryBackend implements BlobBackend {
  readonly name = 'memory';
  readonly #blobs = new Map<Digest, Buffer>();

  async stat(digest: Digest, { signal }: BackendCallOptions): Promise<number | undefined> {
    signal.throwIfAborted();
    return this.#blobs.get(digest)?.byteLength;
  }

  async *read(digest: Digest, range: ByteRange | undefined, { signal }: BackendCallOptions): AsyncGenerator<Uint8Array> {
    const bytes = this.#blobs.get(digest);
    if (bytes === undefined) throw backendNotFound(digest);
    const { startByte, endByte } = rangeWithin(range, bytes.byteLength);
    for (let at = startByte; at < endByte; at += chunkBytesMax) {
      signal.throwIfAborted();
      yield bytes.subarray(at, Math.min(at + chunkBytesMax, endByte));
    }
  }

  async write(digest: Digest, sizeBytes: number, body: AsyncIterable<Uint8Array>, { signal }: BackendCallOptions): Promise<void> {
    signal.throwIfAborted();
    const chunks: Uint8Array[] = [];
    let gotBytes = 0;
    for await (const chunk of body) {
      signal.throwIfAborted();
      gotBytes += chunk.byteLength;
      if (gotBytes > sizeBytes) break;
      chunks.push(Uint8Array.from(chunk));
    }
    if (gotBytes !== sizeBytes) throw wrongSize(sizeBytes, gotBytes);
    this.#blobs.set(digest, Buffer.concat(chunks));
  }

  async delete(digest: Digest, { signal }: BackendCallOptions): Promise<void> {
    signal.throwIfAborted();
    this.#blobs.delete(digest);
  }

  async list(page: { readonly limit: number; readonly after?: Digest }, { signal }: BackendCallOptions): Promise<readonly Digest[]> {
    signal.throwIfAborted();
    const { after } = page;
    return [...this.#blobs.keys()]
      .filter((digest) => after === undefined || digest > after)
      .sort()
      .slice(0, page.limit);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#blobs.clear();
  }
}
