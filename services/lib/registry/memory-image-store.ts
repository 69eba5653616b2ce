/** An ImageStore in memory: the reference implementation of the port, and a registry for tests and demonstrations. */
import {
  AppError,
  algorithmOf,
  type BlobReader,
  type BlobStat,
  type ByteRange,
  type CallOptions,
  type Clock,
  type Digest,
  digestOf,
  type ImageReader,
  type ImageStore,
  type ImageWriter,
  type Manifest,
  type ManifestUpload,
  type Page,
  type PageRequest,
  type Reference,
  type Referrer,
  type RepositoryName,
  type Tag,
} from '#core';
import { MemoryUploads } from './memory-uploads.ts';

export interface MemoryImageStoreOptions {
  /** Bytes of blobs, manifests and unfinished uploads together; 1 GiB by default. */
  readonly capacityBytes?: number;
  /** Uploads at once; 1000 by default. */
  readonly sessionsMax?: number;
  /** How long an upload lives after its last byte, in milliseconds; a day by default. */
  readonly sessionTtlMs?: number;
}

interface Repository {
  readonly blobs: Set<Digest>;
  readonly manifests: Map<Digest, ManifestUpload>;
  readonly tags: Map<Tag, Digest>;
}

interface Blob {
  readonly bytes: Uint8Array;
  /** Repositories that show it. */
  linkCount: number;
}

const chunkSizeBytes = 256 * 1024;

/** Every method is atomic between its awaits, so readers see a change whole or not at all. */
export class MemoryImageStore implements ImageStore {
  readonly reader: ImageReader;
  readonly writer: ImageWriter;
  readonly #capacityBytes: number;
  readonly #repositories = new Map<RepositoryName, Repository>();
  readonly #blobs = new Map<Digest, Blob>();
  readonly #uploads: MemoryUploads;
  #usedBytes = 0;

  constructor(options: MemoryImageStoreOptions, deps: { readonly clock: Clock }) {
    this.#capacityBytes = options.capacityBytes ?? 2 ** 30;
    this.#uploads = new MemoryUploads(
      { sessionsMax: options.sessionsMax ?? 1000, sessionTtlMs: options.sessionTtlMs ?? 24 * 3600 * 1000 },
      { clock: deps.clock, reserve: (byteCount) => this.#reserve(byteCount) },
    );
    this.reader = this.#makeReader();
    this.writer = this.#makeWriter();
  }

  /** Bytes in use, of the capacity. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  #makeReader(): ImageReader {
    return {
      statBlob: async (repository, digest, options) => {
        options.signal.throwIfAborted();
        return { digest, sizeBytes: this.#visibleBlob(repository, digest).bytes.byteLength };
      },
      openBlob: async (repository, digest, options) => {
        options.signal.throwIfAborted();
        return readerOf(this.#visibleBlob(repository, digest).bytes);
      },
      statManifest: async (repository, reference) => {
        const { digest, mediaType, bytes } = this.#manifest(repository, reference);
        return { digest, mediaType, sizeBytes: bytes.byteLength };
      },
      getManifest: async (repository, reference): Promise<Manifest> => {
        const { digest, mediaType, bytes } = this.#manifest(repository, reference);
        return { digest, mediaType, bytes, sizeBytes: bytes.byteLength };
      },
      listTags: async (repository, page) => {
        const found = this.#repositories.get(repository);
        if (found === undefined) throw new AppError('not-found', 'no such repository', { data: { kind: 'repository' } });
        return pageOf(found.tags.keys(), page, (tag) => tag);
      },
      listRepositories: async (page) => pageOf(this.#repositories.keys(), page, (name) => name),
      listReferrers: async (repository, subject, filter) => {
        const manifests = this.#repositories.get(repository)?.manifests.values() ?? [];
        const referrers = [...manifests].filter((manifest) => manifest.subject === subject).map(referrerOf);
        const wanted = referrers.filter(({ artifactType }) => filter.artifactType === undefined || artifactType === filter.artifactType);
        return pageOf(wanted, filter, (referrer) => referrer.digest);
      },
    };
  }

  #makeWriter(): ImageWriter {
    const uploads = this.#uploads;
    return {
      startUpload: async (repository) => uploads.start(repository),
      statUpload: async (repository, id) => uploads.stat(repository, id),
      appendUpload: async (repository, id, chunk) => uploads.append(repository, id, chunk),
      commitUpload: async (repository, id, digest) => this.#commit(repository, digest, uploads.take(repository, id)),
      cancelUpload: async (repository, id) => uploads.cancel(repository, id),
      mountBlob: async (repository, digest, from) => {
        const isThere = from === undefined ? this.#blobs.has(digest) : this.#repositories.get(from)?.blobs.has(digest) === true;
        if (isThere) this.#link(repository, digest);
        return isThere;
      },
      putManifest: async (repository, manifest, options) => this.#putManifest(repository, manifest, options),
      deleteBlob: async (repository, digest) => {
        this.#visibleBlob(repository, digest);
        this.#repositories.get(repository)?.blobs.delete(digest);
        this.#unlink(digest);
        this.#prune(repository);
      },
      deleteManifest: async (repository, reference) => {
        const { digest } = this.#manifest(repository, reference);
        const { manifests, tags } = this.#ensure(repository);
        if ('tag' in reference) {
          tags.delete(reference.tag);
          return;
        }
        for (const [tag, tagged] of tags) if (tagged === digest) tags.delete(tag);
        this.#reserve(-(manifests.get(digest)?.bytes.byteLength ?? 0));
        manifests.delete(digest);
        this.#prune(repository);
      },
    };
  }

  #commit(repository: RepositoryName, digest: Digest, bytes: Uint8Array): BlobStat {
    if (digestOf(bytes, algorithmOf(digest)) !== digest) {
      this.#reserve(-bytes.byteLength);
      throw new AppError('digest-mismatch', 'the uploaded bytes do not have this digest; upload them again', { data: { digest } });
    }
    if (this.#blobs.has(digest)) this.#reserve(-bytes.byteLength);
    else this.#blobs.set(digest, { bytes, linkCount: 0 });
    this.#link(repository, digest);
    return { digest, sizeBytes: bytes.byteLength };
  }

  #putManifest(repository: RepositoryName, manifest: ManifestUpload, options: CallOptions): void {
    options.signal.throwIfAborted();
    const found = this.#repositories.get(repository);
    const isBlob = (digest: Digest): boolean => found?.blobs.has(digest) === true;
    const isManifest = (digest: Digest): boolean => found?.manifests.has(digest) === true;
    const missing = [
      ...manifest.blobs.filter((digest) => !isBlob(digest)),
      ...manifest.manifests.filter((digest) => !isManifest(digest)),
      ...manifest.either.filter((digest) => !isBlob(digest) && !isManifest(digest)),
    ];
    if (missing.length > 0 && manifest.sparse !== true) {
      throw new AppError('failed-precondition', 'the manifest refers to content that is not in the repository; push that first', {
        data: { kind: 'missing', digests: missing.join(',') },
      });
    }
    this.#reserve(manifest.bytes.byteLength - (found?.manifests.get(manifest.digest)?.bytes.byteLength ?? 0));
    const { manifests, tags } = this.#ensure(repository);
    manifests.set(manifest.digest, manifest);
    for (const tag of manifest.tags) tags.set(tag, manifest.digest);
  }

  #visibleBlob(repository: RepositoryName, digest: Digest): Blob {
    const blob = this.#repositories.get(repository)?.blobs.has(digest) === true ? this.#blobs.get(digest) : undefined;
    if (blob !== undefined) return blob;
    throw new AppError('not-found', 'no such blob in this repository', { data: { kind: 'blob', digest } });
  }

  #manifest(repository: RepositoryName, reference: Reference): ManifestUpload {
    const found = this.#repositories.get(repository);
    const digest = 'digest' in reference ? reference.digest : found?.tags.get(reference.tag);
    const manifest = digest === undefined ? undefined : found?.manifests.get(digest);
    if (manifest !== undefined) return manifest;
    throw new AppError('not-found', 'no such manifest in this repository', { data: { kind: 'manifest' } });
  }

  #ensure(name: RepositoryName): Repository {
    const found = this.#repositories.get(name);
    if (found !== undefined) return found;
    const made: Repository = { blobs: new Set(), manifests: new Map(), tags: new Map() };
    this.#repositories.set(name, made);
    return made;
  }

  /** A repository lives as long as it holds something. */
  #prune(name: RepositoryName): void {
    const found = this.#repositories.get(name);
    if (found !== undefined && found.blobs.size === 0 && found.manifests.size === 0) this.#repositories.delete(name);
  }

  #link(repository: RepositoryName, digest: Digest): void {
    const { blobs } = this.#ensure(repository);
    const blob = this.#blobs.get(digest);
    if (blob === undefined || blobs.has(digest)) return;
    blobs.add(digest);
    blob.linkCount += 1;
  }

  #unlink(digest: Digest): void {
    const blob = this.#blobs.get(digest);
    if (blob === undefined) return;
    blob.linkCount -= 1;
    if (blob.linkCount > 0) return;
    this.#blobs.delete(digest);
    this.#reserve(-blob.bytes.byteLength);
  }

  #reserve(byteCount: number): void {
    if (byteCount > 0 && this.#usedBytes + byteCount > this.#capacityBytes) {
      throw new AppError('resource-exhausted', 'the registry is full; delete something or try again later', { retryAfterMs: 10_000 });
    }
    this.#usedBytes += byteCount;
  }
}

function readerOf(bytes: Uint8Array): BlobReader {
  return {
    sizeBytes: bytes.byteLength,
    async *read(range: ByteRange, { signal }: CallOptions) {
      for (let at = range.startByte; at < range.endByte; at += chunkSizeBytes) {
        signal.throwIfAborted();
        yield bytes.subarray(at, Math.min(at + chunkSizeBytes, range.endByte));
      }
    },
    [Symbol.asyncDispose]: async () => undefined,
  };
}

function referrerOf({ mediaType, digest, bytes, artifactType, annotations }: ManifestUpload): Referrer {
  return { mediaType, digest, sizeBytes: bytes.byteLength, artifactType, annotations };
}

/** Names, tags and digests are ASCII, for which the order of JavaScript's strings is the bytewise one. */
function pageOf<T>(items: Iterable<T>, page: PageRequest<string>, keyOf: (item: T) => string): Page<T> {
  const { limit, after } = page;
  const later = [...items].filter((item) => after === undefined || keyOf(item) > after);
  later.sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  return { items: later.slice(0, limit), more: later.length > limit };
}
