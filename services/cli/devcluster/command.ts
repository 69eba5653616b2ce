/** `shoal devcluster`: a whole cluster on this machine for trying and developing. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import pc from 'picocolors';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { AppError, type Clock, toAppError } from '#core';
import { CertificateDirectory } from '#pki';
import { loadConfig, parseEndpoint, parseSize, SystemClock } from '#runtime';
import { openCluster } from '../cluster-file.ts';
import { print, printJson, table } from '../output.ts';
import { type DevclusterOptions, type DevclusterPlan, listeners, planDevcluster } from './plan.ts';
import { failOnExit, killNodes, type RunningNode, startNode, stopNodes } from './processes.ts';
import { watchSignals } from './signals.ts';

/** A cold start of nine processes takes a few seconds; a slow machine gets a minute. */
const startTimeoutMs = 60_000;
const pollIntervalMs = 100;
const renewIntervalMs = 3_600_000;

interface Flags {
  readonly dir: string;
  readonly agents: number;
  readonly origins: number;
  readonly replicas: number;
  readonly proxies: number;
  readonly proxyPort: number;
  readonly agentPort: number;
  readonly agentPortStep: number;
  readonly originPort: number;
  readonly logLevel: string;
  readonly agentIngress: number;
  readonly gatewayConfig?: string;
  readonly originConfig?: string;
  readonly upstreams?: string;
  readonly json?: boolean;
}

export function devclusterCommand(): Command {
  const clock = new SystemClock();
  return new Command('devcluster')
    .description('runs a cluster on this machine: every service a process of its own, data and logs below one folder; Ctrl-C stops it')
    .option('--dir <folder>', 'where everything lies', '.shoal')
    .option('--agents <n>', 'number of agents', whole(1, 50), 2)
    .option('--origins <n>', 'number of origins', whole(1, 20), 3)
    .option('--replicas <n>', 'owners of each blob', whole(1, 20), 3)
    .option('--proxies <n>', 'number of proxies', whole(1, 20), 1)
    .option(
      '--proxy-port <port>',
      "the first proxy's registry, gRPC on the next port; the other proxies follow, two ports each",
      whole(1, 65_534),
      15_000,
    )
    .option('--agent-port <port>', "the first agent's registry; its gRPC port is the next one", whole(1, 65_534), 16_000)
    .option('--agent-port-step <n>', 'distance between the ports of two agents', whole(2, 10_000), 1000)
    .option('--origin-port <port>', "the first origin's gRPC; the other origins, tracker and build-index follow", whole(1, 65_534), 15_100)
    .option('--agent-ingress <size>', 'bytes per second that each agent takes from its peers, e.g. 50MiB; 0 is unlimited', size, 0)
    .option('--gateway-config <file>', 'YAML to be added to the configs of proxy and agents, e.g. their access part')
    .option('--origin-config <file>', 'YAML to be added to the configs of the origins; a key with null goes, e.g. backend: null')
    .option('--upstreams <file>', 'registries to pull through from: YAML, the list `upstreams` of an origin config')
    .option('--log-level <level>', 'debug, info, warn or error', 'info')
    .option('--json', 'print the cluster as one JSON document when it is ready')
    .action(async (flags: Flags) => runDevcluster(flags, clock));
}

async function runDevcluster(flags: Flags, clock: SystemClock): Promise<void> {
  const upstreams = flags.upstreams === undefined ? [] : await readUpstreams(flags.upstreams);
  const plan = planDevcluster({
    ...flags,
    directory: resolve(flags.dir),
    agentCount: flags.agents,
    originCount: flags.origins,
    proxyCount: flags.proxies,
    ...addedTo('gateway', flags.gatewayConfig),
    ...addedTo('origin', flags.originConfig),
    upstreams,
  });
  await checkPortsAreFree(plan);
  await writeFiles(plan);
  await makeCertificates(plan, clock);
  const running: RunningNode[] = [];
  const killAll = (): void => {
    killNodes(running);
    process.exit(130);
  };
  // A terminal that has hung up takes no more words; the nodes are stopped all the same.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  const { stopped, release } = watchSignals(process, killAll, clock);
  try {
    for (const node of plan.nodes) running.push(await startNode(node));
    if (flags.json !== true) print(`Starting ${running.length} nodes; data and logs are in ${flags.dir}`);
    const ready = await Promise.race([untilHealthy(plan, clock), stopped.then(() => false), ...running.map(failOnExit)]);
    if (!ready) return;
    if (flags.json === true)
      printJson({
        ...plan.cluster,
        file: plan.clusterFile,
        nodes: running.map(({ node, process: child }) => ({ ...node, pid: child.pid })),
      });
    else printReady(plan, running);
    for (const node of running) void reportExit(node, stopped);
    await renewCertificates(new CertificateDirectory({ root: plan.certificates }, { clock }), clock, stopped);
  } finally {
    if (flags.json !== true) print('\nStopping…');
    await stopNodes(running, clock);
    release();
  }
}

/** What a file adds to the configs of some nodes; their services check what stands in it. */
function addedTo(nodes: 'gateway' | 'origin', file: string | undefined): Pick<DevclusterOptions, 'gateway' | 'origin'> {
  return file === undefined ? {} : { [nodes]: loadConfig(z.record(z.string(), z.unknown()), file) };
}

function whole(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < min || value > max) throw new InvalidArgumentError(`use a whole number from ${min} to ${max}`);
    return value;
  };
}

function size(text: string): number {
  const value = text === '0' ? 0 : parseSize(text);
  if (value === undefined) throw new InvalidArgumentError('write it like 50MiB');
  return value;
}

/** The origins check what stands in it. */
async function readUpstreams(file: string): Promise<readonly unknown[]> {
  let list: unknown;
  try {
    const document: unknown = parse(await readFile(file, 'utf8'));
    list = typeof document === 'object' && document !== null && 'upstreams' in document ? document.upstreams : document;
  } catch (error) {
    throw new AppError('invalid-argument', `--upstreams: cannot read ${file}: ${toAppError(error).message}`);
  }
  if (Array.isArray(list)) return list;
  throw new AppError('invalid-argument', `--upstreams: ${file} must hold a list; see deploy/config/upstreams.yaml`);
}

async function checkPortsAreFree(plan: DevclusterPlan): Promise<void> {
  for (const { id, endpoint } of listeners(plan.nodes)) {
    const { host, port } = parseEndpoint(endpoint);
    await new Promise<void>((free, taken) => {
      const probe = createServer();
      probe.once('error', () => {
        const flag = id.startsWith('proxy') ? '--proxy-port' : id.startsWith('agent') ? '--agent-port' : '--origin-port';
        taken(
          new AppError('failed-precondition', `port ${port} (${id}) is in use: stop what listens there, or choose others with ${flag}`),
        );
      });
      probe.listen(port, host, () => probe.close(() => free()));
    });
  }
}

async function writeFiles(plan: DevclusterPlan): Promise<void> {
  for (const node of plan.nodes) {
    await mkdir(dirname(node.configFile), { recursive: true });
    await mkdir(dirname(node.logFile), { recursive: true });
    await writeFile(node.configFile, stringify(node.config));
  }
  await writeFile(plan.clusterFile, stringify(plan.cluster));
}

/** The CA is made once; each start gives every node a fresh certificate. */
async function makeCertificates(plan: DevclusterPlan, clock: SystemClock): Promise<void> {
  const directory = new CertificateDirectory({ root: plan.certificates }, { clock });
  await directory.authority().catch(async () => directory.init({ cluster: plan.clusterName }));
  for (const { role, id } of plan.nodes) await directory.issue({ role, id });
  await directory.issue({ role: 'operator', id: plan.cluster.operator });
}

/** Renews what is due each hour until the cluster is stopped. A failure is told and tried again an hour later. */
export async function renewCertificates(
  directory: Pick<CertificateDirectory, 'renewDue'>,
  clock: Pick<Clock, 'sleep'>,
  stopped: Promise<void>,
): Promise<void> {
  const stopping = new AbortController();
  void stopped.then(() => stopping.abort());
  while (!stopping.signal.aborted) {
    await clock.sleep(renewIntervalMs, { signal: stopping.signal }).catch(() => undefined);
    if (stopping.signal.aborted) return;
    // A certificate outlives many of these; a disk that is full now must not end the cluster.
    await directory.renewDue().catch((error: unknown) => {
      process.stderr.write(`${pc.red('not renewed')} certificates: ${toAppError(error).message}\n`);
    });
  }
}

async function untilHealthy(plan: DevclusterPlan, clock: SystemClock): Promise<boolean> {
  await using session = await openCluster(plan.clusterFile);
  const deadlineMs = clock.nowMs() + startTimeoutMs;
  for (const node of plan.nodes) {
    const target = { endpoint: node.grpc, role: node.role, id: node.id };
    while (!(await session.channels.health(target, { timeoutMs: 1000 }))) {
      if (clock.nowMs() > deadlineMs)
        throw new AppError('deadline-exceeded', `${node.id} is not healthy after a minute; see ${node.logFile}`);
      await clock.sleep(pollIntervalMs);
    }
  }
  return true;
}

function printReady(plan: DevclusterPlan, running: readonly RunningNode[]): void {
  const rows = running.map(({ node, process: child }) => [node.id, pc.green('healthy'), String(child.pid), node.grpc, node.registry ?? '']);
  print(table(['NODE', 'STATE', 'PID', 'GRPC', 'REGISTRY'], rows));
  const registryOf = (role: string): string[] =>
    plan.nodes.flatMap((node) => (node.role === role && node.registry !== undefined ? [node.registry] : []));
  const image = 'demo/app:v1';
  print(
    [
      '',
      'Push an image to a proxy, pull it from any agent:',
      ...registryOf('proxy').flatMap((at) => [`  docker tag IMAGE ${at}/${image}`, `  docker push ${at}/${image}`]),
      ...registryOf('agent').map((at) => `  docker pull ${at}/${image}`),
      '',
      `Look around: shoal status --cluster ${join(dirname(plan.clusterFile), 'cluster.yaml')}`,
      'Ctrl-C stops the cluster, a second one at once; the data stays.',
    ].join('\n'),
  );
}

/** Tells of a node that ends while the cluster is meant to run. */
async function reportExit({ node, exited }: RunningNode, stopped: Promise<void>): Promise<void> {
  const stopping = stopped.then(() => undefined);
  const how = await Promise.race([exited, stopping]);
  if (how !== undefined) process.stderr.write(`${pc.red('ended')} ${node.id} (${how}); see ${node.logFile}\n`);
}
