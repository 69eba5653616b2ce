/** `shoal status`: one line for each node. */
import { Command } from 'commander';
import pc from 'picocolors';
import { toAppError } from '#core';
import { type GetNodeResponse, NodeServiceService } from '#gen/shoal/node/v1/node_service';
import { formatDuration, formatSize } from '#runtime';
import { type ClusterNode, clusterFileDefault, type OperatorSession, openCluster } from './cluster-file.ts';
import { print, printJson, table } from './output.ts';

const timeoutMs = 2000;

interface NodeStatus {
  readonly node: ClusterNode;
  readonly answer: GetNodeResponse | undefined;
  readonly error: string | undefined;
}

export function statusCommand(): Command {
  return new Command('status')
    .description('shows every node of the cluster: whether it answers, its version, memory, store and parts')
    .option('--cluster <file>', 'the cluster file', clusterFileDefault)
    .option('--json', 'print JSON')
    .action(async (options: { cluster: string; json?: boolean }) => {
      await using session = await openCluster(options.cluster);
      const statuses = await Promise.all(session.file.nodes.map((node) => statusOf(session, node)));
      if (options.json === true) printJson(statuses);
      else print(statusTable(statuses));
      if (statuses.some(({ answer }) => answer === undefined)) process.exitCode = 1;
    });
}

async function statusOf(session: OperatorSession, node: ClusterNode): Promise<NodeStatus> {
  const client = session.channels.client(NodeServiceService, { endpoint: node.grpc, role: node.role, id: node.id });
  try {
    return { node, answer: await client.getNode({}, { timeoutMs }), error: undefined };
  } catch (error) {
    return { node, answer: undefined, error: toAppError(error).message };
  }
}

function statusTable(statuses: readonly NodeStatus[]): string {
  const rows = statuses.map(({ node, answer, error }) => {
    const name = `${node.role}/${node.id}`;
    if (answer === undefined) return [name, pc.red('down'), node.grpc, '', '', '', error ?? ''];
    const faults = answer.components.filter(({ healthy }) => !healthy);
    return [
      name,
      faults.length === 0 ? pc.green('up') : pc.yellow('degraded'),
      node.grpc,
      formatDuration(Number(answer.uptime?.seconds ?? 0n) * 1000),
      formatSize(Number(answer.residentBytes)),
      answer.capacityBytes === 0n ? '-' : `${formatSize(Number(answer.storedBytes))} of ${formatSize(Number(answer.capacityBytes))}`,
      answer.components.map(({ name: part, message }) => `${part}: ${message}`).join('; '),
    ];
  });
  return table(['NODE', 'STATE', 'GRPC', 'UP FOR', 'MEMORY', 'STORED', 'PARTS'], rows);
}
