/** The cluster file: where the nodes are and where the operator's certificate lies. `shoal devcluster` writes one; others are written by hand. */
import { dirname, resolve } from 'node:path';
import { z } from 'zod';
import { AppError, type NodeIdentity, nullMeter, silentLogger } from '#core';
import { CertificateDirectory } from '#pki';
import { endpoint, loadConfig, SystemClock } from '#runtime';
import { ChannelPool } from '#wire';

const nodeSchema = z.strictObject({
  role: z.enum(['agent', 'origin', 'tracker', 'build-index', 'proxy']),
  id: z.string().min(1),
  /** Its gRPC server. */
  grpc: endpoint,
  /** Its registry, where it has one. */
  registry: endpoint.optional(),
});

const clusterFileSchema = z.strictObject({
  cluster: z.string().min(1),
  /** Folder made by `shoal certs`, relative to this file. */
  certificates: z.string().min(1),
  operator: z.string().min(1).default('admin'),
  nodes: z.array(nodeSchema).min(1),
});

export type ClusterNode = z.infer<typeof nodeSchema>;
export type ClusterFile = z.infer<typeof clusterFileSchema>;

export const clusterFileDefault = '.shoal/cluster.yaml';

/** An open cluster: its nodes, and channels that speak with the operator's certificate. */
export interface OperatorSession extends AsyncDisposable {
  readonly file: ClusterFile;
  readonly channels: ChannelPool;
}

/** Throws `not-found` when there is no cluster file, with what to do. */
export async function openCluster(path: string): Promise<OperatorSession> {
  const file = loadConfig(clusterFileSchema, path);
  const clock = new SystemClock();
  const observed = { clock, logger: silentLogger, meter: nullMeter };
  const directory = new CertificateDirectory({ root: resolve(dirname(path), file.certificates) }, { clock });
  const operator: NodeIdentity = { role: 'operator', id: file.operator };
  const certificates = await directory.watch(operator, observed);
  const channels = new ChannelPool({}, { ...observed, certificates });
  return {
    file,
    channels,
    async [Symbol.asyncDispose]() {
      await channels[Symbol.asyncDispose]();
      await certificates[Symbol.asyncDispose]();
    },
  };
}

/** Finds a node by `<role>/<id>` or by its id alone. Throws `not-found` naming the nodes there are. */
export function findNode(file: ClusterFile, name: string): ClusterNode {
  const found = file.nodes.filter((node) => node.id === name || `${node.role}/${node.id}` === name);
  const [node] = found;
  if (node !== undefined && found.length === 1) return node;
  const names = file.nodes.map(({ role, id }) => `${role}/${id}`).join(', ');
  throw new AppError('not-found', `${found.length === 0 ? 'no node' : 'more than one node'} is called ${name}; there are: ${names}`);
}
