/** CollectionService of an origin over its collector. */
import { AppError } from '#core';
import { type CollectBlobsResponse, CollectedBlob_Outcome, type CollectionServiceService } from '#gen/shoal/origin/v1/collection_service';
import { digestToProto, durationFromProto, type Handlers, timestampToProto } from '#wire';
import type { BytesCollector, CollectedBlob } from './collector.ts';

const outcomes: Readonly<Record<CollectedBlob['outcome'], CollectedBlob_Outcome>> = {
  deleted: CollectedBlob_Outcome.DELETED,
  waiting: CollectedBlob_Outcome.WAITING,
  kept: CollectedBlob_Outcome.KEPT,
  failed: CollectedBlob_Outcome.FAILED,
};

/** `collector` is undefined on an origin whose config names no build-index. */
export function collectionHandlers(collector: BytesCollector | undefined): Handlers<typeof CollectionServiceService> {
  return {
    async *collectBlobs(request, { signal }): AsyncGenerator<CollectBlobsResponse> {
      if (collector === undefined) throw new AppError('unsupported', 'this origin knows no build-index: name one under buildIndexes');
      const bytes = {
        dryRun: request.dryRun,
        graceMs: request.grace === undefined ? undefined : durationFromProto(request.grace, 'grace'),
        trustIndex: request.trustIndex,
      };
      let last = { checkedCount: 0n, blobTotal: 0n };
      for await (const { blobs, checkedCount, blobTotal } of collector.run(bytes, { signal })) {
        last = { checkedCount: BigInt(checkedCount), blobTotal: BigInt(blobTotal) };
        yield { ...last, blobs: blobs.map(blobToProto), finished: false };
      }
      yield { ...last, blobs: [], finished: true };
    },
    async getCollection() {
      const run = collector?.last();
      return {
        endTime: run === undefined ? undefined : timestampToProto(run.endedMs),
        checkedCount: BigInt(run?.checkedCount ?? 0),
        deletedCount: BigInt(run?.deletedCount ?? 0),
        deletedDiskBytes: BigInt(run?.diskBytes ?? 0),
        deletedStorageBytes: BigInt(run?.storageBytes ?? 0),
        waitingCount: BigInt(run?.waitingCount ?? 0),
        error: run?.error ?? '',
      };
    },
  };
}

function blobToProto({ digest, diskBytes, storageBytes, outcome, markedMs }: CollectedBlob) {
  return {
    digest: digestToProto(digest),
    diskBytes: BigInt(diskBytes),
    storageBytes: BigInt(storageBytes),
    outcome: outcomes[outcome],
    markTime: timestampToProto(markedMs),
  };
}
