/** The proxy, put together: a registry that takes pushes, over uploads at the origins. Its disk is a cache for pulls; a push leaves nothing here. */
import { openGateway } from '#access';
import { BuildIndexClient, MeshUpstreams, OriginCluster, OriginUploads, TrackerDirectory, UploadSource } from '#cluster';
import { BlobHolders, MeshImageReader, MeshImageWriter, UpstreamImageReader, UpstreamImageWriter } from '#images';
import { PeerNode } from '#peer';
import { createRegistry } from '#registry';
import { type NodeContext, parseEndpoint, swarmOptionsOf, swarmPart } from '#runtime';
import { DiskBlobStore } from '#storage';
import type { ProxyConfig } from './config.ts';

export async function composeProxy(config: ProxyConfig, node: NodeContext): Promise<() => Promise<void>> {
  const { lifecycle, logger } = node;
  const store = lifecycle.use(
    'store',
    await DiskBlobStore.open({ root: config.store.directory, capacityBytes: config.store.capacity }, node),
  );
  const origins = lifecycle.use('origins', new OriginCluster({ ...config.origins, writeQuorum: config.writeQuorum }, node));
  const index = lifecycle.use('build-index', new BuildIndexClient({ members: config.buildIndexes }, node));
  const directory = lifecycle.use(
    'trackers',
    new TrackerDirectory({ trackers: config.trackers, advertise: node.advertise }, { ...node, origins }),
  );
  const peer = lifecycle.use(
    'peer',
    await PeerNode.open(
      { swarm: swarmOptionsOf(config.swarm), networkEvents: config.networkEvents },
      { ...node, self: node.identity, store, directory },
    ),
  );
  const holders = new BlobHolders({ ...node, store, origins });
  const holds: BlobHolders['holds'] = async (digest, options) => holders.holds(digest, options);
  const upstreams = lifecycle.use('upstreams', new MeshUpstreams({ ...node, origins }));
  const reader = new UpstreamImageReader({ ...node, mesh: new MeshImageReader({ index, blobs: peer, holds }), upstreams });
  const source = new UploadSource({}, node);
  const uploads = new OriginUploads({ advertise: node.advertise }, { ...node, origins, source });
  const mesh = new MeshImageWriter({ ...node, index, origins, uploads, holds });
  const writer = new UpstreamImageWriter({ mesh, upstreams });

  peer.attach(node.server);
  node.reload.part('swarm', { schema: swarmPart, current: () => peer.limits.current, apply: (swarm) => void peer.limits.update(swarm) });
  source.attach(node.server);
  node.description.store(store);
  node.description.component('ring', () => origins.state());

  const gateway = lifecycle.use('access', await openGateway(config, node));
  const registry = await createRegistry(
    { ...gateway.options, deletesEnabled: config.deletes, allowSparse: config.sparseManifests },
    { ...node, ...gateway.deps, store: { reader, writer }, nameInMesh: (...name) => reader.nameInMesh(...name) },
  );
  return async () => {
    index.connect();
    directory.connect();
    upstreams.connect();
    const address = await registry.listen(parseEndpoint(config.registry.listen));
    lifecycle.onDrain('uploads to peers', async () => peer.drain());
    lifecycle.onStop('registry', async ({ graceMs }) => registry.close({ drainMs: graceMs }));
    logger.info('registry listening', { http: `${address.host}:${address.port}`, pushes: 'accepted' });
  };
}
