/**
 * Reads images of other registries through the mesh. For a repository of an upstream the origins are asked first, which fetch what is missing and, where
 * the rule says so, check the caller; everything after that is the ordinary way.
 */
import type { MeshUpstreams, UpstreamQuery } from '#cluster';
import {
  AppError,
  type BlobReader,
  type BlobStat,
  type CallOptions,
  type Clock,
  type Digest,
  type ImageReader,
  isAppError,
  type Manifest,
  type ManifestStat,
  type Page,
  type PageRequest,
  type Reference,
  type Referrer,
  type RepositoryName,
  type Tag,
} from '#core';
import { matchUpstream, nameInMesh, type UpstreamNamespace } from '#upstream';
import { AwaitedBlob } from './awaited-blob.ts';

export interface UpstreamReaderDeps {
  /** Reads what is in the mesh. */
  readonly mesh: ImageReader;
  readonly upstreams: Pick<MeshUpstreams, 'namespaces' | 'resolve' | 'ensureBlob' | 'statBlob' | 'checkAccess'>;
  readonly clock: Clock;
}

/**
 * How long a blob that is being fetched is waited for before the reply begins without it. An error is told better before; containerd waits 30 s for
 * the head of a reply.
 */
const answerMs = 10_000;
/** Repositories that are looked at together when some of them are not shown. */
const readMin = 1000;

interface Matched extends UpstreamQuery {
  readonly repository: RepositoryName;
  readonly rule: UpstreamNamespace;
}

export class UpstreamImageReader implements ImageReader {
  readonly #mesh: ImageReader;
  readonly #upstreams: UpstreamReaderDeps['upstreams'];
  readonly #clock: Clock;

  constructor(deps: UpstreamReaderDeps) {
    this.#mesh = deps.mesh;
    this.#upstreams = deps.upstreams;
    this.#clock = deps.clock;
  }

  /** The name in the mesh of what a containerd mirror asks for with `ns`. Throws `unavailable` while no origin has told the upstreams. */
  async nameInMesh(name: string, ns: string, options: CallOptions): Promise<string> {
    return nameInMesh(await this.#upstreams.namespaces(options), ns, name);
  }

  async getManifest(repository: RepositoryName, reference: Reference, options: CallOptions): Promise<Manifest> {
    return this.#manifest(repository, reference, options, (name, found) => this.#mesh.getManifest(name, found, options));
  }

  async statManifest(repository: RepositoryName, reference: Reference, options: CallOptions): Promise<ManifestStat> {
    return this.#manifest(repository, reference, options, (name, found) => this.#mesh.statManifest(name, found, options));
  }

  async statBlob(repository: RepositoryName, digest: Digest, options: CallOptions): Promise<BlobStat> {
    const match = await this.#match(repository, options);
    if (match === undefined) return this.#mesh.statBlob(repository, digest, options);
    const here = match.rule.checksCaller ? undefined : await found(this.#mesh.statBlob(match.repository, digest, options));
    return here ?? { digest, sizeBytes: await this.#upstreams.statBlob(match, digest, options) };
  }

  async openBlob(repository: RepositoryName, digest: Digest, options: CallOptions): Promise<BlobReader> {
    const match = await this.#match(repository, options);
    if (match === undefined) return this.#mesh.openBlob(repository, digest, options);
    const open = (call: CallOptions): Promise<BlobReader> => this.#mesh.openBlob(match.repository, digest, call);
    // Where callers are checked, the origin must be asked although the blob may be here.
    const here = match.rule.checksCaller ? undefined : await found(open(options));
    if (here !== undefined) return here;
    const watch = new AbortController();
    const signal = AbortSignal.any([options.signal, watch.signal]);
    try {
      const { done, sizeBytes } = this.#upstreams.ensureBlob(match, digest, { signal });
      const isReady = await Promise.race([done.then(() => true), this.#clock.sleep(answerMs, { signal }).then(() => false)]);
      if (isReady) return await open(options);
      const size = await sizeBytes;
      if (size === undefined) {
        await done;
        return await open(options);
      }
      return new AwaitedBlob({ sizeBytes: size, ready: done, open, giveUp: () => watch.abort(gone()) });
    } catch (error) {
      watch.abort(gone());
      throw error;
    }
  }

  async listTags(repository: RepositoryName, page: PageRequest<string>, options: CallOptions): Promise<Page<Tag>> {
    return this.#mesh.listTags(await this.#readable(repository, options), page, options);
  }

  /** Without repositories whose rule checks callers: that one of them exists is told to nobody who could not ask the upstream. */
  async listRepositories(page: PageRequest<string>, options: CallOptions): Promise<Page<RepositoryName>> {
    const rules = await this.#upstreams.namespaces(options);
    if (!rules.some(({ checksCaller }) => checksCaller)) return this.#mesh.listRepositories(page, options);
    const limit = Math.max(page.limit, readMin);
    const items: RepositoryName[] = [];
    for (let { after } = page; ; ) {
      const part = await this.#mesh.listRepositories(after === undefined ? { limit } : { limit, after }, options);
      for (const repository of part.items) {
        if (matchUpstream(rules, repository)?.rule.checksCaller === true) continue;
        if (items.length === page.limit) return { items, more: true };
        items.push(repository);
      }
      after = part.items.at(-1);
      if (!part.more || after === undefined) return { items, more: false };
      options.signal.throwIfAborted();
    }
  }

  async listReferrers(
    repository: RepositoryName,
    subject: Digest,
    filter: PageRequest<string> & { readonly artifactType?: string },
    options: CallOptions,
  ): Promise<Page<Referrer>> {
    return this.#mesh.listReferrers(await this.#readable(repository, options), subject, filter, options);
  }

  async #manifest<T>(
    repository: RepositoryName,
    reference: Reference,
    options: CallOptions,
    read: (repository: RepositoryName, reference: Reference) => Promise<T>,
  ): Promise<T> {
    const match = await this.#match(repository, options);
    if (match === undefined) return read(repository, reference);
    if ('digest' in reference && !match.rule.checksCaller) {
      const here = await found(read(match.repository, reference));
      if (here !== undefined) return here;
    }
    const { digest } = await this.#upstreams.resolve(match, reference, options);
    const here = await found(read(match.repository, { digest }));
    if (here !== undefined) return here;
    // The tag is known, but the manifest was deleted or lost since: by digest it is fetched again.
    await this.#upstreams.resolve(match, { digest }, options);
    return read(match.repository, { digest });
  }

  /** The repository's name in the mesh, once the caller may read it. */
  async #readable(repository: RepositoryName, options: CallOptions): Promise<RepositoryName> {
    const match = await this.#match(repository, options);
    if (match?.rule.checksCaller === true) await this.#upstreams.checkAccess(match, options);
    return match?.repository ?? repository;
  }

  async #match(repository: RepositoryName, options: CallOptions): Promise<Matched | undefined> {
    const match = matchUpstream(await this.#upstreams.namespaces(options), repository);
    if (match === undefined) return undefined;
    // Credentials leave this node only where they are what counts.
    const authorization = match.rule.checksCaller ? (options.authorization ?? '') : '';
    return { rule: match.rule, repository: match.repository, authorization };
  }
}

/** Undefined when the mesh does not have it. */
async function found<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (isAppError(error, 'not-found')) return undefined;
    throw error;
  }
}

function gone(): AppError {
  return new AppError('cancelled', 'nobody waits for the blob any more');
}
