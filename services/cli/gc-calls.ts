/** The calls behind `shoal gc`, in plain values. */

import type { Duration } from '#gen/google/protobuf/duration';
import { NameItem_Kind, CollectionServiceService as NamesService } from '#gen/shoal/buildindex/v1/collection_service';
import { CollectionServiceService as BytesService, CollectedBlob_Outcome } from '#gen/shoal/origin/v1/collection_service';
import { digestFromProto, timestampFromProto } from '#wire';
import type { ClusterNode, OperatorSession } from './cluster-file.ts';

export interface GcTerms {
  readonly dryRun: boolean;
  readonly repositoryPattern: string;
  readonly grace: Duration | undefined;
  readonly trustIndex: boolean;
}

export interface NamesReport {
  readonly items: readonly {
    readonly kind: string;
    readonly repository: string;
    readonly tag: string;
    readonly digest: string;
    readonly sizeBytes: number;
    readonly freesBytes: boolean;
  }[];
}

export interface ReportedBlob {
  readonly digest: string;
  readonly diskBytes: number;
  readonly storageBytes: number;
  readonly outcome: string;
  /** Unix milliseconds. */
  readonly markedMs: number;
}

export interface BytesReport {
  readonly origin: string;
  readonly blobs: readonly ReportedBlob[];
  readonly error: string | undefined;
}

type OnProgress = (done: { readonly count: number; readonly total: number }) => void;

const kinds = new Map<NameItem_Kind, string>([
  [NameItem_Kind.TAG, 'tag'],
  [NameItem_Kind.MANIFEST, 'manifest'],
  [NameItem_Kind.BLOB, 'blob'],
  [NameItem_Kind.TOMBSTONE, 'tombstone'],
]);

const outcomes = new Map<CollectedBlob_Outcome, string>([
  [CollectedBlob_Outcome.DELETED, 'deleted'],
  [CollectedBlob_Outcome.WAITING, 'waiting'],
  [CollectedBlob_Outcome.KEPT, 'kept'],
  [CollectedBlob_Outcome.FAILED, 'failed'],
]);

export async function collectNames(
  session: OperatorSession,
  node: ClusterNode,
  terms: GcTerms,
  onProgress: OnProgress,
): Promise<NamesReport> {
  const client = session.channels.client(NamesService, targetOf(node));
  const items: NamesReport['items'][number][] = [];
  const { dryRun, repositoryPattern, grace } = terms;
  for await (const part of client.collectNames({ dryRun, repositoryPattern, grace })) {
    for (const { kind, repository, tag, digest, sizeBytes, freesBytes } of part.items) {
      const name = kinds.get(kind) ?? String(kind);
      items.push({ kind: name, repository, tag, digest: digestFromProto(digest), sizeBytes: Number(sizeBytes), freesBytes });
    }
    onProgress({ count: part.repositoryCount, total: part.repositoryTotal });
  }
  return { items };
}

export async function collectBytes(
  session: OperatorSession,
  node: ClusterNode,
  terms: GcTerms,
  onProgress: OnProgress,
): Promise<readonly ReportedBlob[]> {
  const client = session.channels.client(BytesService, targetOf(node));
  const blobs: ReportedBlob[] = [];
  const { dryRun, grace, trustIndex } = terms;
  for await (const part of client.collectBlobs({ dryRun, grace, trustIndex })) {
    for (const { digest, diskBytes, storageBytes, outcome, markTime } of part.blobs) {
      blobs.push({
        digest: digestFromProto(digest),
        diskBytes: Number(diskBytes),
        storageBytes: Number(storageBytes),
        outcome: outcomes.get(outcome) ?? String(outcome),
        markedMs: timestampFromProto(markTime),
      });
    }
    onProgress({ count: Number(part.checkedCount), total: Number(part.blobTotal) });
  }
  return blobs;
}

const targetOf = ({ grpc, role, id }: ClusterNode) => ({ endpoint: grpc, role, id });
