/** The nodes of a bench cluster, one host each: addresses and configs. Pure. */
import { join } from 'node:path';
import type { Role } from '#core';
import type { ClusterFile, ClusterNode } from '../../../services/cli/cluster-file.ts';

export const clusterName = 'bench';
/** Every node has an address of its own, so they share the ports. */
export const grpcPort = 15_001;
export const registryPort = 15_000;

export interface NodeSeed {
  readonly role: Exclude<Role, 'operator'>;
  readonly id: string;
}

export interface HostedNode extends ClusterNode {
  readonly configFile: string;
  readonly logFile: string;
  /** The content of its config file. */
  readonly config: object;
}

export interface ClusterPlan {
  readonly directory: string;
  readonly certificates: string;
  readonly clusterFile: string;
  readonly cluster: ClusterFile;
  readonly nodes: readonly HostedNode[];
}

/** Origins, tracker, build-index, proxy and then the agents. */
export function seedsOf(count: { readonly agents: number; readonly origins: number }): NodeSeed[] {
  const numbered = (role: NodeSeed['role'], length: number): NodeSeed[] =>
    Array.from({ length }, (_, index) => ({ role, id: `${role}-${index + 1}` }));
  return [
    ...numbered('origin', count.origins),
    ...numbered('tracker', 1),
    ...numbered('build-index', 1),
    ...numbered('proxy', 1),
    ...numbered('agent', count.agents),
  ];
}

/** `addressOf` tells the address of a node's host. */
export function planCluster(directory: string, seeds: readonly NodeSeed[], addressOf: (id: string) => string): ClusterPlan {
  const members = (role: string) =>
    seeds.filter((seed) => seed.role === role).map(({ id }) => ({ id, endpoint: `${addressOf(id)}:${grpcPort}` }));
  const origins = { members: members('origin'), replicas: Math.min(3, members('origin').length) };
  const mesh = { origins, trackers: members('tracker'), buildIndexes: members('build-index') };
  const store = (id: string) => ({ store: { directory: join(directory, 'data', id) } });
  // Reachable from this process, and from the host itself by its own address.
  const registry = { registry: { listen: `0.0.0.0:${registryPort}`, allowedNetworks: ['0.0.0.0/0'] } };
  const partsOf = ({ role, id }: NodeSeed): object => {
    switch (role) {
      case 'origin':
        return { ...store(id), origins: mesh.origins, trackers: mesh.trackers };
      case 'tracker':
        return { origins: mesh.origins };
      case 'build-index':
        return { index: { directory: join(directory, 'data', id) } };
      default:
        return { ...registry, ...store(id), ...mesh };
    }
  };
  const certificates = join(directory, 'certs');
  const nodes = seeds.map((seed) => {
    const address = addressOf(seed.id);
    const grpc = `${address}:${grpcPort}`;
    const common = { node: { id: seed.id }, certificates: { directory: certificates }, grpc: { listen: grpc } };
    return {
      ...seed,
      grpc,
      registry: `${address}:${registryPort}`,
      configFile: join(directory, 'config', `${seed.id}.yaml`),
      logFile: join(directory, 'logs', `${seed.id}.log`),
      config: { ...common, ...partsOf(seed), shutdown: { grace: '1s' } },
    };
  });
  const cluster = { cluster: clusterName, certificates: 'certs', operator: 'admin', nodes: nodes.map(clusterNode) };
  return { directory, certificates, clusterFile: join(directory, 'cluster.yaml'), cluster, nodes };
}

function clusterNode({ role, id, grpc, registry }: HostedNode): ClusterNode {
  return { role, id, grpc, ...(registry === undefined ? {} : { registry }) };
}
