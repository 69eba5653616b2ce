/** The collection of garbage on an origin, put together: marks on disk, a client of the build-index, the collector and its service. */
import { join } from 'node:path';
import type { BuildIndexClient } from '#cluster';
import { CollectionServiceService } from '#gen/shoal/origin/v1/collection_service';
import type { NodeContext } from '#runtime';
import { openDatabase } from '#storage';
import type { BlobsInUse } from './blobs-in-use.ts';
import { collectionHandlers } from './collection-handlers.ts';
import { BytesCollector, type BytesCollectorDeps } from './collector.ts';
import type { OriginConfig } from './config.ts';
import { GarbageMarks } from './garbage-marks.ts';

/** What the taking in of blobs and their collection share. */
export interface CollectionParts {
  readonly marks: GarbageMarks;
  readonly inUse: BlobsInUse;
}

export async function openMarks(config: OriginConfig, node: NodeContext): Promise<GarbageMarks> {
  const db = await openDatabase(join(config.store.directory, 'gc'));
  node.lifecycle.onStop('marks of garbage', async () => db.close());
  return new GarbageMarks(db);
}

/** Without a build-index nobody can say what is garbage: the service answers so, and nothing is collected. */
export function serveCollection(
  config: OriginConfig,
  node: NodeContext,
  parts: CollectionParts &
    Pick<BytesCollectorDeps, 'store' | 'backend' | 'writeBack' | 'isFirstOwner'> & { readonly index: BuildIndexClient | undefined },
): void {
  const { index } = parts;
  const collector = index === undefined ? undefined : openCollector(config, node, { ...parts, index });
  node.server.addService('shoal.origin.v1.CollectionService', CollectionServiceService, collectionHandlers(collector));
  const off = { healthy: true, message: 'off: no build-index is configured' };
  node.description.component('gc', () => collector?.state() ?? off);
}

function openCollector(
  config: OriginConfig,
  node: NodeContext,
  parts: Parameters<typeof serveCollection>[2] & { readonly index: BuildIndexClient },
): BytesCollector {
  const { interval, grace } = config.gc;
  const collector = new BytesCollector({ intervalMs: interval, graceMs: grace }, { ...node, ...parts });
  node.lifecycle.spawn('gc', async (options) => collector.runAtIntervals(options));
  return collector;
}
