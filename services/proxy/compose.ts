/** The proxy, put together: a registry that takes pushes, over uploads on its disk and the owners who pull from it. */
import { join } from 'node:path';
import { openGateway } from '#access';
import { BuildIndexClient, MeshUpstreams, OriginCluster, TrackerDirectory } from '#cluster';
import { peerIdOf } from '#core';
import { ProxyServiceService } from '#gen/shoal/proxy/v1/proxy_service';
import { BlobHolders, MeshImageReader, MeshImageWriter, UpstreamImageReader, UpstreamImageWriter } from '#images';
import { PeerNode } from '#peer';
import { createRegistry } from '#registry';
import { type NodeContext, parseEndpoint, swarmOptionsOf, swarmPart } from '#runtime';
import { DiskBlobStore, UploadStore } from '#storage';
import type { ProxyConfig } from './config.ts';
import { proxyHandlers } from './handlers.ts';

export async function composeProxy(config: ProxyConfig, node: NodeContext): Promise<() => Promise<void>> {
  const { lifecycle, logger } = node;
  const store = lifecycle.use(
    'store',
    await DiskBlobStore.open({ root: config.store.directory, capacityBytes: config.store.capacity }, node),
  );
  const uploads = lifecycle.use(
    'uploads',
    await UploadStore.open(
      { root: join(config.store.directory, 'uploads'), expiryMs: config.uploads.expiry, sessionsMax: config.uploads.sessions },
      node,
    ),
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
  const self = { peer: peerIdOf(node.identity), endpoint: node.advertise, complete: true };
  const mesh = await MeshImageWriter.open({ ...node, index, origins, uploads, store, self, holds });
  const writer = new UpstreamImageWriter({ mesh, upstreams });

  peer.attach(node.server);
  node.reload.part('swarm', { schema: swarmPart, current: () => peer.limits.current, apply: (swarm) => void peer.limits.update(swarm) });
  node.server.addService('shoal.proxy.v1.ProxyService', ProxyServiceService, proxyHandlers({ uploads }));
  node.description.store(store);
  node.description.component('ring', () => origins.state());

  const gateway = lifecycle.use('access', await openGateway(config, node));
  const registry = await createRegistry(
    { allowedNetworks: config.registry.allowedNetworks, catalogEnabled: config.registry.catalog, deletesEnabled: config.deletes },
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
