/** The build-index, put together: handlers over an embedded database. */
import { BuildIndexServiceService } from '#gen/shoal/buildindex/v1/build_index_service';
import type { NodeContext } from '#runtime';
import type { BuildIndexConfig } from './config.ts';
import { buildIndexHandlers } from './handlers.ts';
import { IndexStore } from './store.ts';

export async function composeBuildIndex(config: BuildIndexConfig, node: NodeContext): Promise<undefined> {
  const store = node.lifecycle.use('index', await IndexStore.open({ path: config.index.directory }, node));
  node.server.addService('shoal.buildindex.v1.BuildIndexService', BuildIndexServiceService, buildIndexHandlers(store));
}
