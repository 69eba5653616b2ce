/** The build-index, put together: handlers over an embedded database, and the collection of what it no longer needs. */
import { BuildIndexServiceService } from '#gen/shoal/buildindex/v1/build_index_service';
import { CollectionServiceService } from '#gen/shoal/buildindex/v1/collection_service';
import type { NodeContext } from '#runtime';
import { collectionHandlers } from './collection-handlers.ts';
import { NamesCollector } from './collector.ts';
import type { BuildIndexConfig } from './config.ts';
import { buildIndexHandlers } from './handlers.ts';
import { retentionRules } from './retention.ts';
import { IndexStore } from './store.ts';

export async function composeBuildIndex(config: BuildIndexConfig, node: NodeContext): Promise<undefined> {
  const store = node.lifecycle.use('index', await IndexStore.open({ path: config.index.directory }, node));
  const { interval, grace, tombstones, retention } = config.gc;
  const collector = new NamesCollector(
    { intervalMs: interval, graceMs: grace, tombstoneMs: tombstones, ruleOf: retentionRules(retention) },
    { ...node, store },
  );
  node.server.addService('shoal.buildindex.v1.BuildIndexService', BuildIndexServiceService, buildIndexHandlers(store));
  node.server.addService('shoal.buildindex.v1.CollectionService', CollectionServiceService, collectionHandlers({ store, collector }));
  node.description.component('gc', () => collector.state());
  node.lifecycle.spawn('gc', async (options) => collector.runAtIntervals(options));
}
