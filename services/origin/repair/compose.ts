/** The repair of the ring at an origin, put together: bringing back what this origin should hold, and writing to storage what others no longer will. */
import type { OriginCluster } from '#cluster';
import type { NodeContext } from '#runtime';
import type { OriginConfig } from '../config.ts';
import type { WriteBack } from '../write-back.ts';
import { Repairer } from './repairer.ts';
import type { RepairRoundDeps } from './round.ts';

export interface RepairParts extends Omit<RepairRoundDeps, 'origins' | 'hasStorage' | 'clock' | 'logger'> {
  readonly origins: OriginCluster;
  readonly writeBack: WriteBack;
}

export function composeRepair({ repair }: OriginConfig, node: NodeContext, parts: RepairParts): void {
  const { origins, writeBack } = parts;
  const { signal } = node.lifecycle;
  const options = {
    self: node.identity.id,
    intervalMs: repair.interval,
    downAfterMs: repair.downAfter,
    bytesPerSec: repair.ingressPerSecond,
  };
  const repairer = new Repairer(options, { ...node, ...parts, hasStorage: writeBack.hasStorage });
  node.description.component('repair', () => repairer.state());
  const unsubscribe = origins.onHealthChange(() => void writeBack.takeOver({ signal }));
  node.lifecycle.onStop('turns of write-back', async () => unsubscribe());
  node.lifecycle.spawn('repair', async (call) => repairer.run(call));
}
