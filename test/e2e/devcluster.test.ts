/** However `shoal devcluster` ends, its nodes end with it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startCluster } from '../support/cluster-process.ts';
import { until } from '../support/processes.ts';
import { tempDir } from '../support/temp.ts';

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

for (const signal of ['SIGKILL', 'SIGHUP'] as const) {
  test(`no node outlives the command after ${signal}`, async () => {
    await using cluster = await startCluster({ directory: tempDir('devcluster'), agents: 1, origins: 1 });
    cluster.signalCommand(signal);
    await until('every node has ended', async () => (cluster.nodes.some(({ pid }) => isAlive(pid)) ? undefined : true), 30_000);
    for (const { id } of cluster.nodes) assert.match(cluster.log(id), /"stopped"/, `${id} stopped in order`);
  });
}
