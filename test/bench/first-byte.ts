/**
 * The time from a GET of a cold 1 GB blob at an agent to its first byte: at agents that have never been asked for anything, and again and
 * again at one that is warm. Says where the milliseconds go, by the agent's own network events.
 *
 *   node --import tsx test/bench/first-byte.ts [--mb 1000] [--fresh 6] [--warm 20] [--json]
 *
 * Needs `make build`. The whole cluster shares the machine; run it on an idle one.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { parseDigest } from '#core';
import { AgentServiceService } from '#gen/shoal/agent/v1/agent_service';
import { NetworkEventServiceService } from '#gen/shoal/peer/v1/network_event_service';
import { type NetworkEvent, networkEventFromProto, type TimedEvent } from '#peer';
import { digestToProto } from '#wire';
import { findNode, type OperatorSession, openCluster } from '../../services/cli/cluster-file.ts';
import { startCluster, type TestCluster } from '../support/cluster-process.ts';
import { until } from '../support/processes.ts';
import { tempDir } from '../support/temp.ts';
import { keepAlive, percentile, pushRandom, settled, type Timing, timedGet } from './measure.ts';
import { printTable } from './table.ts';

const { values } = parseArgs({
  options: {
    mb: { type: 'string', default: '1000' },
    fresh: { type: 'string', default: '6' },
    warm: { type: 'string', default: '20' },
    json: { type: 'boolean', default: false },
  },
});
const freshCount = Number(values.fresh);
const warmCount = Number(values.warm);
const repository = 'bench/first';

interface Sample extends Timing {
  /** Milliseconds from the request to the first event of each kind. */
  readonly phases: ReadonlyMap<NetworkEvent['type'], number>;
}

/** One GET, left after its first byte, with the events of the agent meanwhile. */
async function sample(cluster: TestCluster, session: OperatorSession, agent: string, digest: string, watched: boolean): Promise<Sample> {
  const node = findNode(session.file, agent);
  const target = { endpoint: node.grpc, role: node.role, id: node.id };
  const abort = new AbortController();
  const events: TimedEvent[] = [];
  const watching = watched ? watch() : Promise.resolve();
  async function watch(): Promise<void> {
    const stream = session.channels
      .client(NetworkEventServiceService, target)
      .watchNetworkEvents({ digests: [digestToProto(parseDigest(digest))], kinds: [] }, { signal: abort.signal });
    for await (const batch of stream) events.push(...batch.events.map(networkEventFromProto).filter((event) => event !== undefined));
  }
  if (watched) await until('the watch is up', async () => (cluster.log(agent).includes('network events are watched') ? true : undefined));
  const http = keepAlive(1);
  await timedGet(`http://${cluster.registry(agent)}/v2/`, http);
  const startWallMs = Date.now();
  const timing = await timedGet(`http://${cluster.registry(agent)}/v2/${repository}/blobs/${digest}`, http, { leave: true });
  if (watched) await until('its events', async () => (events.some(({ event }) => event.type === 'piece-received') ? true : undefined));
  abort.abort();
  await watching.catch(() => undefined);
  http.destroy();
  const phases = new Map<NetworkEvent['type'], number>();
  for (const { timeMs, event } of events) if (!phases.has(event.type)) phases.set(event.type, timeMs - startWallMs);
  return { ...timing, phases };
}

async function evict(session: OperatorSession, agent: string, digest: string): Promise<void> {
  const node = findNode(session.file, agent);
  const client = session.channels.client(AgentServiceService, { endpoint: node.grpc, role: node.role, id: node.id });
  await client.evictBlob({ digest: digestToProto(parseDigest(digest)) });
}

const columns = ['announced', 'download-started', 'link-up', 'piece-requested', 'piece-received'] as const;

function rowOf(name: string, samples: readonly Sample[]): string[] {
  const of = (pick: (sample: Sample) => number): string => {
    const list = samples.map(pick).filter((value) => !Number.isNaN(value));
    return list.length === 0 ? '-' : `${percentile(list, 0.5).toFixed(1)} / ${percentile(list, 0.9).toFixed(1)}`;
  };
  return [
    name,
    ...columns.map((type) => of(({ phases }) => phases.get(type) ?? Number.NaN)),
    of(({ headMs }) => headMs),
    of(({ firstMs }) => firstMs),
  ];
}

await using cluster = await startCluster({ directory: tempDir('first-byte'), agents: 1 + 2 * freshCount });
await using session = await openCluster(join(cluster.directory, 'cluster.yaml'));
const digest = await pushRandom(cluster.registry('proxy-1'), repository, Number(values.mb) * 1e6);
const pids = cluster.nodes.map(({ pid }) => pid);
const fresh: Sample[] = [];
const freshWatched: Sample[] = [];
for (let index = 0; index < 2 * freshCount; index += 1) {
  const watched = index % 2 === 1;
  const agent = `agent-${index + 2}`;
  await settled(pids);
  (watched ? freshWatched : fresh).push(await sample(cluster, session, agent, digest, watched));
  await evict(session, agent, digest);
}
const warm: Sample[] = [];
await sample(cluster, session, 'agent-1', digest, true);
for (let index = 0; index < warmCount; index += 1) {
  await evict(session, 'agent-1', digest);
  await settled(pids);
  warm.push(await sample(cluster, session, 'agent-1', digest, true));
}
if (values.json) {
  const firstMs = (samples: readonly Sample[]) => samples.map((one) => Number(one.firstMs.toFixed(2)));
  process.stdout.write(`${JSON.stringify({ fresh: firstMs(fresh), warm: firstMs(warm) })}\n`);
} else {
  process.stdout.write('milliseconds after the request, p50 / p90\n');
  printTable(
    ['agent', ...columns, 'HTTP head', 'first byte'],
    [rowOf('fresh', fresh), rowOf('fresh, watched', freshWatched), rowOf('warm', warm)],
  );
}
