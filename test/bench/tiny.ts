/**
 * Cold tiny blobs at one agent: the time of each when they are asked for one after another, and of a thousand asked for at once over as many
 * connections as a container runtime uses, by a process that has just started and again by one that has not.
 *
 *   node --import tsx test/bench/tiny.ts [--count 1000] [--kb 10] [--alone 100] [--connections 3,10] [--json]
 *
 * Needs `make build`. The whole cluster shares the machine; run it on an idle one.
 */
import { createHash, randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';
import { startCluster } from '../support/cluster-process.ts';
import { pushBlob } from '../support/registry-client.ts';
import { tempDir } from '../support/temp.ts';
import { cpuSecondsOf, keepAlive, percentile, profile, settled, timedGet } from './measure.ts';
import { printTable } from './table.ts';

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '1000' },
    kb: { type: 'string', default: '10' },
    alone: { type: 'string', default: '100' },
    connections: { type: 'string', default: '3,10' },
    json: { type: 'boolean', default: false },
  },
});
const count = Number(values.count);
const repository = 'bench/tiny';
const connectionCounts = values.connections.split(',').map(Number);

/** Does `work` for each item, `width` at a time. */
async function inParallel<T>(items: readonly T[], width: number, work: (item: T) => Promise<void>): Promise<void> {
  const queue = items[Symbol.iterator]();
  const worker = async (): Promise<void> => {
    for (const item of queue) await work(item);
  };
  await Promise.all(Array.from({ length: width }, worker));
}

await using cluster = await startCluster({ directory: tempDir('tiny'), agents: connectionCounts.length + 1 });
const digests: string[] = [];
await inParallel(Array.from({ length: Math.max(2 * count, Number(values.alone)) }), 16, async () => {
  const bytes = randomBytes(Number(values.kb) * 1000);
  digests.push(`sha256:${createHash('sha256').update(bytes).digest('hex')}`);
  await pushBlob(cluster.registry('proxy-1'), repository, bytes);
});
const pids = cluster.nodes.map(({ pid }) => pid);
await settled(pids);

/** Milliseconds of each GET, of all together, and CPU milliseconds a blob at the agent and in the whole cluster. */
async function pull(agent: string, blobs: readonly string[], connectionCount: number) {
  const http = keepAlive(connectionCount);
  await timedGet(`http://${cluster.registry(agent)}/v2/`, http);
  await settled(pids);
  const own = [cluster.node(agent).pid];
  const cpu = [cpuSecondsOf(own), cpuSecondsOf(pids)] as const;
  profile(own);
  const startMs = performance.now();
  const times: number[] = [];
  await inParallel(blobs, connectionCount, async (digest) => {
    times.push((await timedGet(`http://${cluster.registry(agent)}/v2/${repository}/blobs/${digest}`, http)).endMs);
  });
  const totalMs = performance.now() - startMs;
  profile(own);
  http.destroy();
  const perBlob = (from: number, to: number): number => ((to - from) * 1000) / blobs.length;
  return { times, totalMs, agentCpuMs: perBlob(cpu[0], cpuSecondsOf(own)), cpuMs: perBlob(cpu[1], cpuSecondsOf(pids)) };
}

const runs = [{ name: 'one after another', ...(await pull('agent-1', digests.slice(0, Number(values.alone)), 1)) }];
for (const [index, connectionCount] of connectionCounts.entries()) {
  const agent = `agent-${index + 2}`;
  runs.push({ name: `${connectionCount} connections`, ...(await pull(agent, digests.slice(0, count), connectionCount)) });
  runs.push({ name: '  the next', ...(await pull(agent, digests.slice(count, 2 * count), connectionCount)) });
}
if (values.json) {
  process.stdout.write(
    `${JSON.stringify(runs.map(({ times, ...run }) => ({ ...run, p50: percentile(times, 0.5), p90: percentile(times, 0.9) })))}\n`,
  );
} else {
  printTable(
    ['cold blobs', 'count', 'p50 ms', 'p90 ms', 'p99 ms', 'all, s', 'agent CPU-ms/blob', 'cluster CPU-ms/blob'],
    runs.map(({ name, times, totalMs, agentCpuMs, cpuMs }) => [
      name,
      String(times.length),
      ...[0.5, 0.9, 0.99].map((share) => percentile(times, share).toFixed(1)),
      (totalMs / 1000).toFixed(2),
      agentCpuMs.toFixed(2),
      cpuMs.toFixed(2),
    ]),
  );
}
