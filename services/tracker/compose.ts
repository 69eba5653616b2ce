/** The tracker, put together: a roster in memory, fed by announce streams, with the origins as safety net. */
import { OriginCluster } from '#cluster';
import { TrackerServiceService } from '#gen/shoal/tracker/v1/tracker_service';
import type { NodeContext } from '#runtime';
import type { TrackerConfig } from './config.ts';
import { trackerHandlers } from './handlers.ts';

export async function composeTracker(config: TrackerConfig, node: NodeContext): Promise<undefined> {
  const origins = node.lifecycle.use('origins', new OriginCluster(config.origins, node));
  node.server.addService('shoal.tracker.v1.TrackerService', TrackerServiceService, trackerHandlers({ ...node, origins }));
  node.description.component('ring', () => origins.state());
}
