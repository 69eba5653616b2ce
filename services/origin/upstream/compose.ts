/** The upstreams of an origin, put together. */
import { join } from 'node:path';
import type { BuildIndexClient, OriginCluster } from '#cluster';
import { AppError, peerIdOf } from '#core';
import { UpstreamServiceService } from '#gen/shoal/origin/v1/upstream_service';
import type { PeerNode } from '#peer';
import type { NodeContext } from '#runtime';
import type { BlobStore } from '#storage';
import type { BlobKeeper } from '../blob-keeper.ts';
import { UpstreamBlobs } from './blobs.ts';
import { CallerAccess } from './caller-access.ts';
import type { UpstreamConfig } from './config.ts';
import { noUpstreamHandlers, upstreamHandlers } from './handlers.ts';
import { UpstreamManifests } from './manifests.ts';
import { Upstreams } from './upstreams.ts';

export interface UpstreamParts {
  readonly store: BlobStore;
  readonly peer: PeerNode;
  readonly origins: OriginCluster;
  readonly keeper: BlobKeeper;
  readonly index: BuildIndexClient | undefined;
}

const serviceName = 'shoal.origin.v1.UpstreamService';

export async function composeUpstreams(
  config: {
    readonly upstreams: readonly UpstreamConfig[];
    readonly store: { readonly directory: string };
  },
  node: NodeContext,
  parts: UpstreamParts,
): Promise<void> {
  const { lifecycle, clock } = node;
  const { index } = parts;
  if (config.upstreams.length === 0) {
    node.server.addService(serviceName, UpstreamServiceService, noUpstreamHandlers());
    return;
  }
  if (index === undefined) throw new AppError('invalid-argument', 'upstreams need buildIndexes: name the build-index here too');
  const upstreams = new Upstreams(config.upstreams, node);
  lifecycle.onStop('upstreams', async () => upstreams[Symbol.dispose]());
  const access = new CallerAccess({ clock });
  const self = { peer: peerIdOf(node.identity), endpoint: node.advertise, complete: true };
  const deps = { ...node, ...parts, index, access, self };
  const manifests = new UpstreamManifests(deps);
  const blobs = await UpstreamBlobs.open({ root: join(config.store.directory, 'upstream') }, deps);
  lifecycle.onStop('upstream blobs', async () => blobs.stop());
  node.server.addService(serviceName, UpstreamServiceService, upstreamHandlers({ upstreams, access, manifests, blobs, clock }));
}
