/** The port to durable storage behind the origins: files, S3, another registry. Whole blobs only, addressed by digest. */
import type { ByteRange, Digest } from '#core';

export interface BackendCallOptions {
  readonly signal: AbortSignal;
}

export interface BlobBackend extends AsyncDisposable {
  /** For logs and errors, e.g. `file`. */
  readonly name: string;
  /** Size in bytes, or undefined when the backend answers that it has no such blob. Throws `unavailable` when it does not answer. */
  stat(digest: Digest, options: BackendCallOptions): Promise<number | undefined>;
  /** The bytes in order. Not verified: the caller hashes. Throws `not-found`, `unavailable`. */
  read(digest: Digest, range: ByteRange | undefined, options: BackendCallOptions): AsyncIterable<Uint8Array>;
  /** Stores a blob durably and atomically: nobody sees half of it. Idempotent. A chunk of `body` is lent until the next one is asked for. */
  write(digest: Digest, sizeBytes: number, body: AsyncIterable<Uint8Array>, options: BackendCallOptions): Promise<void>;
  delete(digest: Digest, options: BackendCallOptions): Promise<void>;
  /** Digests in order, after `after`. */
  list(page: { readonly limit: number; readonly after?: Digest }, options: BackendCallOptions): Promise<readonly Digest[]>;
}
