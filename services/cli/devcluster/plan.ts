/** What a development cluster consists of: names, ports, folders and the config of each node. Pure. */
import { join } from 'node:path';
import { AppError } from '#core';
import type { ClusterFile, ClusterNode } from '../cluster-file.ts';

export interface DevclusterOptions {
  /** Everything lies below it. */
  readonly directory: string;
  readonly agentCount: number;
  readonly originCount: number;
  /** Owners of each blob; all origins when there are fewer. */
  readonly replicas: number;
  readonly proxyCount: number;
  /** Registry of the first proxy, its gRPC port directly behind; the next proxies follow in the same way. */
  readonly proxyPort: number;
  /** Registry of the first agent; the next agents follow at `agentPortStep`, their gRPC ports directly behind. */
  readonly agentPort: number;
  readonly agentPortStep: number;
  /** gRPC of the first origin; the other origins, the tracker and the build-index follow. */
  readonly originPort: number;
  readonly logLevel: string;
  /** Bytes per second that each agent takes from its peers; 0 is unlimited. */
  readonly agentIngress: number;
  /** Added to the config of the proxy and of every agent; what stands below `registry` is added to it. */
  readonly gateway?: Readonly<Record<string, unknown>>;
  /** Added to the config of every origin; a key with null is left out of it. */
  readonly origin?: Readonly<Record<string, unknown>>;
  /** The part `upstreams` of the origins' config. */
  readonly upstreams: readonly unknown[];
}

export interface PlannedNode extends ClusterNode {
  readonly configFile: string;
  readonly logFile: string;
  /** The content of its config file. */
  readonly config: object;
}

export interface DevclusterPlan {
  readonly clusterName: string;
  readonly certificates: string;
  readonly clusterFile: string;
  readonly cluster: ClusterFile;
  readonly nodes: readonly PlannedNode[];
}

export const clusterName = 'devcluster';
const host = '127.0.0.1';
const portMax = 65_535;

/** Throws `invalid-argument` when the ports do not fit. */
export function planDevcluster(options: DevclusterOptions): DevclusterPlan {
  const { directory } = options;
  const originIds = numbered('origin', options.originCount);
  const origins = originIds.map((id, index) => ({ id, endpoint: `${host}:${options.originPort + index}` }));
  const trackers = [{ id: 'tracker-1', endpoint: `${host}:${options.originPort + options.originCount}` }];
  const buildIndexes = [{ id: 'build-index-1', endpoint: `${host}:${options.originPort + options.originCount + 1}` }];
  const ring = { members: origins, replicas: Math.min(options.replicas, options.originCount) };
  const data = (id: string): string => join(directory, 'data', id);
  const node = (seed: { role: ClusterNode['role']; id: string; grpc: string; registry?: string }, config: object): PlannedNode => ({
    ...seed,
    configFile: join(directory, 'config', `${seed.id}.yaml`),
    logFile: join(directory, 'logs', `${seed.id}.log`),
    config: {
      node: { id: seed.id },
      certificates: { directory: join(directory, 'certs') },
      grpc: { listen: seed.grpc },
      ...(seed.registry === undefined ? {} : gatewayConfig(seed.registry, options.gateway)),
      ...withoutNulls(config),
      log: { level: options.logLevel },
    },
  });
  const store = (id: string) => ({ store: { directory: data(id) } });

  const nodes = [
    ...origins.map(({ id, endpoint }) =>
      node(
        { role: 'origin', id, grpc: endpoint },
        {
          ...store(id),
          origins: ring,
          trackers,
          buildIndexes,
          backend: { type: 'file', directory: join(directory, 'storage') },
          upstreams: options.upstreams,
          ...options.origin,
        },
      ),
    ),
    ...trackers.map(({ id, endpoint }) => node({ role: 'tracker', id, grpc: endpoint }, { origins: ring })),
    ...buildIndexes.map(({ id, endpoint }) => node({ role: 'build-index', id, grpc: endpoint }, { index: { directory: data(id) } })),
    ...numbered('proxy', options.proxyCount).map((id, index) => {
      const port = options.proxyPort + index * 2;
      return node(
        { role: 'proxy', id, registry: `${host}:${port}`, grpc: `${host}:${port + 1}` },
        { ...store(id), origins: ring, trackers, buildIndexes },
      );
    }),
    ...numbered('agent', options.agentCount).map((id, index) => {
      const port = options.agentPort + index * options.agentPortStep;
      return node(
        { role: 'agent', id, registry: `${host}:${port}`, grpc: `${host}:${port + 1}` },
        { ...store(id), swarm: { ingressPerSecond: options.agentIngress }, origins: ring, trackers, buildIndexes },
      );
    }),
  ];
  checkPorts(nodes);
  const cluster = { cluster: clusterName, certificates: 'certs', operator: 'admin', nodes: nodes.map(clusterNode) };
  return { clusterName, certificates: join(directory, 'certs'), clusterFile: join(directory, 'cluster.yaml'), cluster, nodes };
}

function gatewayConfig(listen: string, gateway: DevclusterOptions['gateway'] = {}): object {
  const { registry, ...rest } = gateway;
  return { ...rest, registry: { ...(typeof registry === 'object' ? registry : {}), listen } };
}

function withoutNulls(config: object): object {
  return Object.fromEntries(Object.entries(config).filter(([, value]) => value !== null));
}

function clusterNode({ role, id, grpc, registry }: PlannedNode): ClusterNode {
  return { role, id, grpc, ...(registry === undefined ? {} : { registry }) };
}

function numbered(role: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${role}-${index + 1}`);
}

/** Every `host:port` on which a node listens. */
export function listeners(nodes: readonly ClusterNode[]): { readonly id: string; readonly endpoint: string }[] {
  return nodes.flatMap(({ id, grpc, registry }) => [grpc, registry].filter((at) => at !== undefined).map((endpoint) => ({ id, endpoint })));
}

function checkPorts(nodes: readonly PlannedNode[]): void {
  const taken = new Map<string, string>();
  for (const { id, endpoint } of listeners(nodes)) {
    const port = Number(endpoint.slice(endpoint.lastIndexOf(':') + 1));
    const other = taken.get(endpoint);
    if (port > portMax || port < 1)
      throw new AppError('invalid-argument', `${id} would listen on port ${port}: choose lower ports or fewer nodes`);
    if (other !== undefined)
      throw new AppError('invalid-argument', `${id} and ${other} would both listen on ${endpoint}: choose other ports`);
    taken.set(endpoint, id);
  }
}
