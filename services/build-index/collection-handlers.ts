/** CollectionService of the build-index over its collector and fences. */
import { AppError, type Digest } from '#core';
import { type CollectionServiceService, type CollectNamesResponse, NameItem_Kind } from '#gen/shoal/buildindex/v1/collection_service';
import type { Digest as DigestMessage } from '#gen/shoal/common/v1/blob';
import { digestFromProto, digestToProto, durationFromProto, durationToProto, type Handlers } from '#wire';
import type { NameItem, NamesCollector } from './collector.ts';
import { claimLifetimeMs } from './fences.ts';
import { indexIdKey } from './migration.ts';
import type { IndexStore } from './store.ts';

const digestsMax = 1000;

const kinds: Readonly<Record<NameItem['kind'], NameItem_Kind>> = {
  tag: NameItem_Kind.TAG,
  manifest: NameItem_Kind.MANIFEST,
  blob: NameItem_Kind.BLOB,
  tombstone: NameItem_Kind.TOMBSTONE,
};

export function collectionHandlers(deps: {
  readonly store: IndexStore;
  readonly collector: NamesCollector;
}): Handlers<typeof CollectionServiceService> {
  const { store, collector } = deps;
  const state = () => ({ indexId: store.rows.tables.meta.get(indexIdKey) ?? '', version: store.rows.version() });
  return {
    async *collectNames(request, { signal }): AsyncGenerator<CollectNamesResponse> {
      const names = {
        dryRun: request.dryRun,
        pattern: request.repositoryPattern === '' ? undefined : request.repositoryPattern,
        graceMs: request.grace === undefined ? undefined : durationFromProto(request.grace, 'grace'),
      };
      let last = { repositoryCount: 0, repositoryTotal: 0 };
      for await (const progress of collector.run(names, { signal })) {
        last = progress;
        yield { ...progress, items: progress.items.map(itemToProto), finished: false };
      }
      yield { ...last, items: [], finished: true };
    },
    async getFence() {
      return { fence: store.fences.current() };
    },
    async findUnreferencedBlobs(request) {
      const digests = digestsOf(request.digests);
      return { unreferenced: digests.filter((digest) => !store.fences.isReferenced(digest)).map(digestToProto), state: state() };
    },
    async claimBlobs(request, { caller }) {
      const digests = digestsOf(request.digests);
      const claimed = await store.write(() => store.fences.claim(digests, caller.id));
      return { claimed: claimed.map(digestToProto), lifetime: durationToProto(claimLifetimeMs), state: state() };
    },
    async releaseBlobs(request, { caller }) {
      const digests = digestsOf(request.digests);
      return { fence: await store.write(() => store.fences.release(digests, caller.id)) };
    },
  };
}

function digestsOf(digests: readonly DigestMessage[]): readonly Digest[] {
  if (digests.length > digestsMax) throw new AppError('invalid-argument', `digests: at most ${digestsMax}`);
  return digests.map((digest) => digestFromProto(digest, 'digests'));
}

function itemToProto({ kind, digest, sizeBytes, ...rest }: NameItem) {
  return { ...rest, kind: kinds[kind], digest: digestToProto(digest), sizeBytes: BigInt(sizeBytes) };
}
