/** OriginService over the blob keeper. */
import type { OriginCluster } from '#cluster';
import { AppError, type Digest, isDigest, type NodeIdentity, peerIdOf } from '#core';
import type { Peer } from '#gen/shoal/common/v1/node';
import type { OriginServiceService } from '#gen/shoal/origin/v1/origin_service';
import type { BlobStore } from '#storage';
import type { PeerOffer } from '#swarm';
import {
  advertisedEndpoint,
  digestFromProto,
  digestToProto,
  type Handlers,
  metainfoFromProto,
  metainfoToProto,
  nodeIdentityFromProto,
  peerFromProto,
  peerToProto,
} from '#wire';
import type { BlobKeeper } from './blob-keeper.ts';
import type { WriteBack } from './write-back.ts';

const sourcesMax = 16;
const pageSizeDefault = 100;
const pageSizeMax = 1000;

export interface OriginHandlerDeps {
  readonly keeper: BlobKeeper;
  readonly store: BlobStore;
  readonly origins: OriginCluster;
  readonly writeBack: WriteBack;
}

export function originHandlers({ keeper, store, origins, writeBack }: OriginHandlerDeps): Handlers<typeof OriginServiceService> {
  return {
    async locate(request) {
      const owners = origins.owners(digestFromProto(request.digest));
      return { owners: owners.map((member) => peerToProto({ peer: originPeer(member.id), endpoint: member.endpoint, complete: false })) };
    },
    async ingest(request, { signal, caller, callerAddress }) {
      if (request.sources.length > sourcesMax) throw new AppError('invalid-argument', `sources: at most ${sourcesMax}`);
      const inline = request.inlineData.byteLength > 0 || request.sources.length === 0 ? request.inlineData : undefined;
      return keeper.ingest(
        {
          metainfo: metainfoFromProto(request.metainfo),
          sources: request.sources.map((source) => sourceOf(source, caller, callerAddress)),
          inline,
        },
        { signal },
      );
    },
    async getMetainfo(request, { signal, caller }) {
      const digest = digestFromProto(request.digest);
      const metainfo = await keeper.metainfo(digest, { localOnly: request.localOnly }, { signal });
      if (request.callerLost && caller.role === 'origin') await writeBack.writeNow(digest);
      return { metainfo: metainfoToProto(metainfo) };
    },
    async statBlob(request) {
      const digest = digestFromProto(request.digest);
      const blob = store.stat(digest);
      if (blob === undefined) throw new AppError('not-found', 'this origin does not hold the blob', { data: { kind: 'blob', digest } });
      return { sizeBytes: BigInt(blob.sizeBytes), writeBackPending: writeBack.isPending(digest) };
    },
    async listBlobs(request) {
      const limit = pageSize(request.pageSize);
      const after = pageDigest(request.pageToken);
      const page = { limit, ...(after === undefined ? {} : { after }) };
      const { blobs, next } = request.notInStorage && writeBack.hasStorage ? writeBack.pendingHere(page) : listed(store, page);
      return {
        blobs: blobs.map(({ digest, sizeBytes }) => ({
          digest: digestToProto(digest),
          sizeBytes: BigInt(sizeBytes),
          writeBackPending: writeBack.isPending(digest),
        })),
        nextPageToken: next ?? '',
      };
    },
    async getRing() {
      const members = origins.members().map(({ id, endpoint, healthy }) => ({
        origin: peerToProto({ peer: originPeer(id), endpoint, complete: false }),
        healthy,
      }));
      return { members, replicas: origins.replicas };
    },
    async listWriteBacks(request) {
      const limit = pageSize(request.pageSize);
      const after = pageDigest(request.pageToken);
      const page = writeBack.list({ limit, ...(after === undefined ? {} : { after }) });
      return {
        writeBacks: page.map((task) => ({ ...task, digest: digestToProto(task.digest) })),
        nextPageToken: page.length === limit ? (page.at(-1)?.digest ?? '') : '',
      };
    },
  };
}

/** A caller that names itself as a source may leave its host out: it is where the call comes from. */
function sourceOf(source: Peer, caller: NodeIdentity, callerAddress: string): PeerOffer {
  const isCaller = source.identity !== undefined && peerIdOf(nodeIdentityFromProto(source.identity)) === peerIdOf(caller);
  return peerFromProto(isCaller ? { ...source, endpoint: advertisedEndpoint(source.endpoint, callerAddress) } : source);
}

function listed(store: BlobStore, page: { readonly limit: number; readonly after?: Digest }) {
  const blobs = store.list(page);
  return { blobs, next: blobs.length < page.limit ? undefined : blobs.at(-1)?.digest };
}

const originPeer = (id: string) => peerIdOf({ role: 'origin', id });

function pageSize(requested: number): number {
  if (requested > pageSizeMax) throw new AppError('invalid-argument', `page_size is at most ${pageSizeMax}`);
  return requested === 0 ? pageSizeDefault : requested;
}

function pageDigest(token: string): Digest | undefined {
  if (token === '') return undefined;
  if (!isDigest(token)) throw new AppError('invalid-argument', 'page_token: use next_page_token of the page before');
  return token;
}
