/** UpstreamService over the manifests and blobs of upstreams. */
import { AppError, type Clock, parseTag, type Reference } from '#core';
import type { ResolveManifestRequest, UpstreamServiceService } from '#gen/shoal/origin/v1/upstream_service';
import { digestFromProto, digestToProto, type Handlers } from '#wire';
import type { BlobFetch, UpstreamBlobs } from './blobs.ts';
import type { CallerAccess } from './caller-access.ts';
import type { UpstreamManifests } from './manifests.ts';
import type { Upstreams } from './upstreams.ts';

export interface UpstreamHandlerDeps {
  readonly upstreams: Upstreams;
  readonly access: CallerAccess;
  readonly manifests: UpstreamManifests;
  readonly blobs: UpstreamBlobs;
  readonly clock: Clock;
}

/** Short enough for a caller to tell slow from dead. */
const progressMs = 1000;
const questionMs = 30_000;

export function upstreamHandlers({
  upstreams,
  access,
  manifests,
  blobs,
  clock,
}: UpstreamHandlerDeps): Handlers<typeof UpstreamServiceService> {
  return {
    async listUpstreams() {
      return {
        upstreams: upstreams.list.map(({ namespace, hosts, library, checksCaller }) => ({
          namespace,
          hosts: [...hosts],
          library,
          checksCaller,
        })),
      };
    },
    async resolveManifest({ repository, reference, authorization }, { signal }) {
      const target = await upstreams.target(repository, authorization);
      const { digest, stale } = await manifests.resolve(target, referenceFromProto(reference), { signal });
      return { digest: digestToProto(digest), stale };
    },
    async *ensureBlob({ repository, digest, authorization }, { signal }) {
      const target = await upstreams.target(repository, authorization);
      const fetch = await blobs.ensure(target, digestFromProto(digest), { signal });
      const sized = fetch.sized.then(() => 'sized' as const);
      const done = fetch.done.then(() => 'done' as const);
      for (let news: 'sized' | 'tick' | 'done' = 'tick', isSized = false; news !== 'done'; ) {
        const tick = clock.sleep(progressMs, { signal }).then(() => 'tick' as const);
        news = await Promise.race(isSized ? [done, tick] : [done, sized, tick]);
        isSized ||= news === 'sized';
        yield progressOf(fetch, news === 'done');
      }
    },
    async statUpstreamBlob({ repository, digest, authorization }, { signal }) {
      const target = await upstreams.target(repository, authorization);
      return { sizeBytes: BigInt(await blobs.stat(target, digestFromProto(digest), { signal })) };
    },
    async checkAccess({ repository, authorization }, { signal }) {
      const target = await upstreams.target(repository, authorization);
      const call = { credentials: target.credentials, signal: AbortSignal.timeout(questionMs) };
      await access.require(target, () => target.upstream.client.probeRepository(target.name, call), { signal });
      return {};
    },
  };
}

/** For an origin without upstreams. */
export function noUpstreamHandlers(): Handlers<typeof UpstreamServiceService> {
  const none = (): never => {
    throw new AppError('not-found', 'no upstream is configured', { data: { kind: 'repository' } });
  };
  return {
    listUpstreams: async () => ({ upstreams: [] }),
    resolveManifest: async () => none(),
    // biome-ignore lint/correctness/useYield: it ends before the first response
    async *ensureBlob() {
      none();
    },
    statUpstreamBlob: async () => none(),
    checkAccess: async () => none(),
  };
}

function progressOf(fetch: BlobFetch, complete: boolean) {
  const size = fetch.sizeBytes === undefined ? undefined : BigInt(fetch.sizeBytes);
  return { sizeBytes: size, receivedBytes: BigInt(fetch.receivedBytes), complete };
}

function referenceFromProto(reference: ResolveManifestRequest['reference']): Reference {
  if (reference === undefined) throw new AppError('invalid-argument', 'reference: name a tag or a digest');
  return reference.$case === 'tag' ? { tag: parseTag(reference.tag) } : { digest: digestFromProto(reference.digest) };
}
