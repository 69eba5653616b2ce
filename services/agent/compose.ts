/** The agent, put together: a read-only registry for the local runtime over the blobs of the mesh. */
import { openGateway } from '#access';
import { BuildIndexClient, MeshUpstreams, OriginCluster, TrackerDirectory } from '#cluster';
import { AgentServiceService } from '#gen/shoal/agent/v1/agent_service';
import { MeshImageReader, UpstreamImageReader } from '#images';
import { PeerNode } from '#peer';
import { createRegistry } from '#registry';
import { type NodeContext, parseEndpoint, swarmOptionsOf, swarmPart } from '#runtime';
import { DiskBlobStore, HashThread } from '#storage';
import type { AgentConfig } from './config.ts';
import { agentHandlers } from './handlers.ts';
import { ownTarget, warmUp } from './warm-up.ts';

export async function composeAgent(config: AgentConfig, node: NodeContext): Promise<() => Promise<void>> {
  const { lifecycle, logger, clock } = node;
  const hashing = lifecycle.use('hashing', new HashThread());
  const store = lifecycle.use(
    'store',
    await DiskBlobStore.open({ root: config.store.directory, capacityBytes: config.store.capacity }, { ...node, hashing }),
  );
  const origins = lifecycle.use('origins', new OriginCluster({ ...config.origins, probe: 'suspects' }, node));
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
  const upstreams = lifecycle.use('upstreams', new MeshUpstreams({ ...node, origins }));
  const reader = new UpstreamImageReader({ mesh: new MeshImageReader({ index, blobs: peer }), upstreams, clock });

  peer.attach(node.server);
  node.reload.part('swarm', { schema: swarmPart, current: () => peer.limits.current, apply: (swarm) => void peer.limits.update(swarm) });
  node.server.addService('shoal.agent.v1.AgentService', AgentServiceService, agentHandlers({ reader, blobs: peer, store, clock }));
  node.description.store(store);
  node.description.component('ring', () => origins.state());

  const gateway = lifecycle.use('access', await openGateway(config, node));
  const registry = await createRegistry(gateway.options, {
    ...node,
    ...gateway.deps,
    store: { reader, writer: undefined },
    nameInMesh: (...name) => reader.nameInMesh(...name),
  });
  return async () => {
    index.connect();
    directory.connect();
    upstreams.connect();
    const address = await registry.listen(parseEndpoint(config.registry.listen));
    lifecycle.onDrain('uploads to peers', async () => peer.drain());
    lifecycle.onStop('registry', async ({ graceMs }) => registry.close({ drainMs: graceMs }));
    lifecycle.spawn('warm-up', (call) => warmUp(ownTarget(node.identity, config.grpc.listen), { ...node, reader }, call));
    logger.info('registry listening', { http: `${address.host}:${address.port}`, pushes: 'refused' });
  };
}
