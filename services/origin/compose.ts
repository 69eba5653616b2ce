/** The origin, put together: blobs it owns on disk, seeded to peers, written back to and refilled from durable storage. */
import { join } from 'node:path';
import { BuildIndexClient, newUploadId, OriginCluster, TrackerDirectory } from '#cluster';
import { type Digest, peerIdOf } from '#core';
import { OriginServiceService } from '#gen/shoal/origin/v1/origin_service';
import { UploadServiceService } from '#gen/shoal/origin/v1/upload_service';
import { PeerNode } from '#peer';
import { type NodeContext, swarmOptionsOf, swarmPart } from '#runtime';
import { type BlobBackend, DiskBlobStore, DurableQueue, FileBackend, HashThread, openDatabase, UploadStore } from '#storage';
import { BlobKeeper } from './blob-keeper.ts';
import { BlobsInUse } from './blobs-in-use.ts';
import { openMarks, serveCollection } from './collection.ts';
import type { OriginConfig } from './config.ts';
import { originHandlers } from './handlers.ts';
import { Refill } from './refill.ts';
import { composeRepair } from './repair/compose.ts';
import { uploadHandlers } from './upload-handlers.ts';
import { UploadKeeper } from './upload-keeper.ts';
import { composeUpstreams } from './upstream/compose.ts';
import { decodeWriteBack, WriteBack } from './write-back.ts';

export async function composeOrigin(config: OriginConfig, node: NodeContext): Promise<() => Promise<void>> {
  const { lifecycle } = node;
  const hashing = lifecycle.use('hashing', new HashThread());
  const store = lifecycle.use(
    'store',
    await DiskBlobStore.open({ root: config.store.directory, capacityBytes: config.store.capacity }, { ...node, hashing }),
  );
  const uploads = lifecycle.use('uploads', await openUploads(config, { ...node, hashing }));
  const origins = lifecycle.use(
    'origins',
    new OriginCluster({ ...config.origins, writeQuorum: config.writeQuorum, self: node.identity.id }, node),
  );
  const directory = lifecycle.use(
    'trackers',
    new TrackerDirectory({ trackers: config.trackers, advertise: node.advertise }, { ...node, origins }),
  );
  const peer = lifecycle.use(
    'peer',
    await PeerNode.open(
      { swarm: swarmOptionsOf(config.swarm), networkEvents: config.networkEvents, fsync: true },
      { ...node, self: node.identity, store, directory },
    ),
  );
  const backend = await openBackend(config, node);
  const db = await openDatabase(join(config.store.directory, 'write-back'));
  lifecycle.onStop('write-back queue', async () => db.close());
  const queue = await DurableQueue.open({ db, name: 'write-back', decode: decodeWriteBack, backoffMaxMs: config.writeBack.retryMax }, node);
  const writeBack = new WriteBack(
    { concurrency: config.writeBack.concurrency, staggerMs: config.writeBack.stagger },
    {
      ...node,
      queue,
      store,
      backend,
      rankOf: (digest) => rankAmongOwners(origins, node.identity.id, digest),
      fetchAgain: async (digest, options) => void (await keeper.metainfo(digest, { localOnly: false }, options)),
    },
  );
  const index = openIndex(config, node);
  const collection = { marks: await openMarks(config, node), inUse: new BlobsInUse() };
  const refill = await Refill.open({ root: join(config.store.directory, 'refill') }, { ...node, store, backend });
  const keeper: BlobKeeper = new BlobKeeper({ ...node, ...collection, store, peer, origins, writeBack, refill });

  peer.attach(node.server);
  node.reload.part('swarm', { schema: swarmPart, current: () => peer.limits.current, apply: (swarm) => void peer.limits.update(swarm) });
  node.server.addService('shoal.origin.v1.OriginService', OriginServiceService, originHandlers({ keeper, store, origins, writeBack }));
  await composeUpstreams(config, node, { store, peer, origins, keeper, index });
  const self = { peer: peerIdOf(node.identity), endpoint: node.advertise, complete: true };
  const pushes = new UploadKeeper({ ...node, ...collection, uploads, store, peer, origins, keeper, self });
  node.server.addService('shoal.origin.v1.UploadService', UploadServiceService, uploadHandlers({ uploads, keeper: pushes }));
  node.description.store(store);
  node.description.component('ring', () => origins.state());
  node.description.component('write-back', () => writeBack.state());
  const isFirstOwner = (digest: Digest): boolean => rankAmongOwners(origins, node.identity.id, digest) === 0;
  serveCollection(config, node, { ...collection, index, store, backend, writeBack, isFirstOwner });
  lifecycle.spawn('write-back', async (options) => writeBack.run(options));
  composeRepair(config, node, { ...collection, index, store, origins, keeper, writeBack });
  return async () => lifecycle.onDrain('uploads to peers', async () => peer.drain());
}

function openIndex({ buildIndexes }: OriginConfig, node: NodeContext): BuildIndexClient | undefined {
  return buildIndexes === undefined ? undefined : node.lifecycle.use('build-index', new BuildIndexClient({ members: buildIndexes }, node));
}

/** On the file system of the store, which takes finished uploads over by a rename. */
async function openUploads({ store, uploads }: OriginConfig, node: NodeContext & { readonly hashing: HashThread }): Promise<UploadStore> {
  const { id } = node.identity;
  const root = join(store.directory, 'uploads');
  return UploadStore.open({ root, expiryMs: uploads.expiry, sessionsMax: uploads.sessions, newId: () => newUploadId(id) }, node);
}

/** A holder that is no owner (any more) comes after all owners. */
function rankAmongOwners(origins: OriginCluster, self: string, digest: Digest): number {
  const owners = origins.owners(digest);
  const rank = owners.findIndex(({ id }) => id === self);
  return rank < 0 ? owners.length : rank;
}

async function openBackend(config: OriginConfig, node: NodeContext): Promise<BlobBackend | undefined> {
  if (config.backend === undefined) {
    node.logger.warn('no durable storage configured: blobs live on the disks of their owners only', { key: 'backend' });
    return undefined;
  }
  return node.lifecycle.use('backend', await FileBackend.open({ root: config.backend.directory }, node));
}
