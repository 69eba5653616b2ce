/**
 * The port between the Docker Registry v2 surface and whatever holds the images. The surface (lib/registry) speaks HTTP and
 * knows no cluster; an ImageStore knows repositories, manifests, blobs and uploads and speaks no HTTP.
 *
 * Errors are AppErrors: `not-found` with data.kind `repository` | `manifest` | `blob` | `upload`, `digest-mismatch`,
 * `out-of-range` (an upload chunk that does not start at the session's offset), `resource-exhausted` (with retryAfterMs),
 * `unavailable`, `data-loss`.
 *
 * Whose fault an error is follows from its code. `failed-precondition` with data.kind `missing`, and `aborted` or `failed-precondition` of
 * `appendUpload` and `aborted` of `commitUpload` (another request of the session), are the client's. Everywhere else `aborted`,
 * `failed-precondition`, `unauthenticated`, `permission-denied`, `already-exists` and `unsupported` come from calls between nodes; the surface
 * answers them as `unavailable`, so a store passes them on as they are. With data.kind `upstream`, `unauthenticated` (with data.challenge, the
 * WWW-Authenticate header of another registry), `permission-denied` and `unsupported` are about the client again and answered as such.
 */
import type { Digest, DigestAlgorithm } from './digest.ts';
import type { ByteRange } from './geometry.ts';
import type { RepositoryName, Tag } from './names.ts';

export interface CallOptions {
  /** Aborted when the client goes away. */
  readonly signal: AbortSignal;
  /**
   * The client's Authorization header, when this registry has no use for it itself: some upstreams are asked what these credentials may read. Secret:
   * never logged, never kept.
   */
  readonly authorization?: string | undefined;
}

/** What a manifest is asked by. */
export type Reference = { readonly tag: Tag } | { readonly digest: Digest };

export interface BlobStat {
  readonly digest: Digest;
  readonly sizeBytes: number;
}

export interface ReadOptions extends CallOptions {
  /** Each chunk is the caller's only until it asks for the second one after it; its memory is used again then. For whoever sends much. */
  readonly lend?: boolean;
}

/** An open blob. Several reads may run at once; each read ends when its iterator is returned or its signal aborts. */
export interface BlobReader extends AsyncDisposable {
  readonly sizeBytes: number;
  /** True when nothing is waited for: the bytes are in memory. */
  readonly isAtHand?: boolean;
  /** The bytes of a range inside the blob, verified, in order, as they become available. Chunks are at most 4 MiB. */
  read(range: ByteRange, options: ReadOptions): AsyncIterable<Uint8Array>;
}

export interface ManifestStat {
  readonly digest: Digest;
  /** Exactly as pushed. */
  readonly mediaType: string;
  readonly sizeBytes: number;
}

export interface Manifest extends ManifestStat {
  readonly bytes: Uint8Array;
}

/** An OCI descriptor of a manifest that refers to another by its `subject`. */
export interface Referrer {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly artifactType: string | undefined;
  readonly annotations: Readonly<Record<string, string>>;
}

/** A page of a list in bytewise order. */
export interface PageRequest<T> {
  /** At most this many items. */
  readonly limit: number;
  /** Only items strictly after this one. */
  readonly after?: T;
}

export interface Page<T> {
  readonly items: readonly T[];
  /** More items follow the last one. */
  readonly more: boolean;
}

/** What `docker pull` needs. Blobs and manifests are visible per repository. */
export interface ImageReader {
  statBlob(repository: RepositoryName, digest: Digest, options: CallOptions): Promise<BlobStat>;
  openBlob(repository: RepositoryName, digest: Digest, options: CallOptions): Promise<BlobReader>;
  statManifest(repository: RepositoryName, reference: Reference, options: CallOptions): Promise<ManifestStat>;
  getManifest(repository: RepositoryName, reference: Reference, options: CallOptions): Promise<Manifest>;
  /** Throws `not-found` for an unknown repository. */
  listTags(repository: RepositoryName, page: PageRequest<string>, options: CallOptions): Promise<Page<Tag>>;
  listRepositories(page: PageRequest<string>, options: CallOptions): Promise<Page<RepositoryName>>;
  /** Empty for an unknown repository or subject. In digest order; `after` is a digest. */
  listReferrers(
    repository: RepositoryName,
    subject: Digest,
    filter: PageRequest<string> & { readonly artifactType?: string },
    options: CallOptions,
  ): Promise<Page<Referrer>>;
}

/** A chunk of an upload. */
export interface UploadChunk {
  readonly body: AsyncIterable<Uint8Array>;
  /** Offset that the client declares; the store refuses (`out-of-range`) any other than its own. */
  readonly startByte?: number;
  /** Length that the client declares; another length rolls the session back and throws `invalid-argument` with data.reason `size`. */
  readonly lengthBytes?: number;
  /** The session is to be committed right after this chunk: with what, and how long the chunk will be when that is known. A hint. */
  readonly last?: { readonly digest: Digest; readonly lengthBytes: number | undefined };
}

export interface UploadStat {
  readonly id: string;
  /** Bytes the store holds: the only offset at which the next chunk may start. */
  readonly offsetBytes: number;
}

/** A manifest to be stored, already validated by the surface. */
export interface ManifestUpload {
  /** What it refers to need not be in the repository. */
  readonly sparse?: boolean;
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: Uint8Array;
  readonly tags: readonly Tag[];
  /** Blobs (config and layers) that must be in the repository. */
  readonly blobs: readonly Digest[];
  /** Manifests (children of an index) that must be in the repository. */
  readonly manifests: readonly Digest[];
  /** Children of an index whose media type is not a manifest's: a manifest or a blob with the digest must be in the repository. */
  readonly either: readonly Digest[];
  readonly subject: Digest | undefined;
  readonly artifactType: string | undefined;
  readonly annotations: Readonly<Record<string, string>>;
}

/** What `docker push` needs. A result is returned only when it is durable and visible. */
export interface ImageWriter {
  /** Starts a session. `algorithm` is a hint; without it SHA-256 is hashed on the fly and SHA-512 at the commit. */
  startUpload(repository: RepositoryName, hint: { readonly algorithm?: DigestAlgorithm }, options: CallOptions): Promise<UploadStat>;
  /** Throws `not-found` (kind `upload`) for an unknown session or one of another repository. */
  statUpload(repository: RepositoryName, id: string, options: CallOptions): Promise<UploadStat>;
  /** Appends. When the body breaks off, what arrived is kept and `statUpload` tells the true offset. One chunk at a time for a session. */
  appendUpload(repository: RepositoryName, id: string, chunk: UploadChunk, options: CallOptions): Promise<UploadStat>;
  /** Ends the session: the bytes must have `digest`, else `digest-mismatch` and the session is gone. */
  commitUpload(repository: RepositoryName, id: string, digest: Digest, options: CallOptions): Promise<BlobStat>;
  cancelUpload(repository: RepositoryName, id: string, options: CallOptions): Promise<void>;
  /** Makes a blob of `from` (or of any repository) visible in `repository`; false when there is none. */
  mountBlob(repository: RepositoryName, digest: Digest, from: RepositoryName | undefined, options: CallOptions): Promise<boolean>;
  /** Throws `failed-precondition` with data.kind `missing` and data.digests (comma-joined) when a reference is not in the repository. */
  putManifest(repository: RepositoryName, manifest: ManifestUpload, options: CallOptions): Promise<void>;
  deleteBlob(repository: RepositoryName, digest: Digest, options: CallOptions): Promise<void>;
  /** By digest: the manifest and every tag on it; by tag: the tag alone. */
  deleteManifest(repository: RepositoryName, reference: Reference, options: CallOptions): Promise<void>;
}

/** Read-only without a writer, as on an agent. */
export interface ImageStore {
  readonly reader: ImageReader;
  readonly writer: ImageWriter | undefined;
}
