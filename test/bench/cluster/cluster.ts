/** A whole cluster of real processes, one host each, on a network whose links are limited once the blobs are pushed. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { AppError, parseDigest } from '#core';
import { type Link, LinkDirection, type Transfer, TransferServiceService } from '#gen/shoal/peer/v1/transfer_service';
import { CertificateDirectory } from '#pki';
import { SystemClock } from '#runtime';
import type { Scenario } from '#sim';
import { digestToProto } from '#wire';
import { type OperatorSession, openCluster } from '../../../services/cli/cluster-file.ts';
import { type BenchBlob, pushStream } from './blobs.ts';
import type { LiarJob } from './liar.ts';
import { BenchNetwork, type NetHost } from './namespaces.ts';
import { type HostProcess, serviceCommand, startOn, stopProcess } from './nodes.ts';
import { type ClusterPlan, clusterName, type HostedNode, planCluster, seedsOf } from './plan.ts';

/** The share of a normal uplink that a weak host has. */
export const weakUplinkShare = 0.05;
/** Processes that start at a time: more only compete for the CPUs. */
const startingMax = 6;
const startTimeoutMs = 60_000;
const pollIntervalMs = 50;
export const repository = 'bench/blobs';

export interface BenchNode extends HostedNode, HostProcess {}

export class BenchCluster implements AsyncDisposable {
  readonly network: BenchNetwork;
  readonly nodes: BenchNode[] = [];
  readonly liars: HostProcess[] = [];
  readonly #scenario: Scenario;
  readonly #plan: ClusterPlan;
  readonly #clock = new SystemClock();
  #session: OperatorSession | undefined;

  private constructor(scenario: Scenario, network: BenchNetwork, plan: ClusterPlan) {
    this.#scenario = scenario;
    this.network = network;
    this.#plan = plan;
  }

  /** Starts everything below `directory` and waits until every node is healthy. */
  static async open(directory: string, scenario: Scenario): Promise<BenchCluster> {
    const seeds = seedsOf({ agents: scenario.hostCount, origins: scenario.originCount });
    const network = await BenchNetwork.open();
    try {
      for (const { id } of seeds) await network.addHost(id);
      const plan = planCluster(directory, seeds, (id) => network.hosts.get(id)?.address ?? '');
      const cluster = new BenchCluster(scenario, network, plan);
      try {
        await cluster.#start();
      } catch (error) {
        await cluster.#stop();
        throw error;
      }
      return cluster;
    } catch (error) {
      await network[Symbol.asyncDispose]();
      throw error;
    }
  }

  get agents(): BenchNode[] {
    return this.nodes.filter(({ role }) => role === 'agent');
  }

  nodesOf(role: string): BenchNode[] {
    return this.nodes.filter((node) => node.role === role);
  }

  /** Returns when every owner has it: a push is acknowledged before the last of them, which would fetch the rest over a limited link, as one host more. */
  async push(blob: BenchBlob): Promise<void> {
    const [proxy] = this.nodesOf('proxy');
    await pushStream(proxy?.registry ?? '', repository, blob);
    await this.#until(`${this.#scenario.replicas} origins have ${blob.name}`, async () => {
      const transfers = await Promise.all(this.nodesOf('origin').map(async (node) => this.transfer(node, blob)));
      return transfers.filter((transfer) => transfer?.complete === true).length >= this.#scenario.replicas;
    });
  }

  /** The proxy leaves, so that the origins alone seed; then every cable is limited. */
  async limit(): Promise<void> {
    for (const proxy of this.nodesOf('proxy')) await stopProcess(proxy);
    const { upBytesPerSec, downBytesPerSec, weakCount } = this.#scenario;
    const weak = new Set(this.agents.slice(0, weakCount).map(({ id }) => id));
    for (const host of this.network.hosts.values()) {
      const share = weak.has(host.name) ? weakUplinkShare : 1;
      await this.network.limit(host, { upBytesPerSec: upBytesPerSec * share, downBytesPerSec });
    }
  }

  /** Adds hosts that say they have the blob and send nothing but corrupt pieces. */
  async addLiars(blob: BenchBlob): Promise<void> {
    const tracker = this.#plan.nodes.find(({ role }) => role === 'tracker');
    for (let index = 1; index <= this.#scenario.liarCount; index += 1) {
      const id = `liar-${index}`;
      await this.#issue({ role: 'agent', id });
      const host = await this.network.addHost(id);
      const job: LiarJob = {
        id,
        address: host.address,
        certificates: this.#plan.certificates,
        tracker: { id: tracker?.id ?? '', endpoint: tracker?.grpc ?? '' },
        digest: blob.digest,
        sizeBytes: blob.sizeBytes,
      };
      const program = fileURLToPath(new URL('./liar.ts', import.meta.url));
      const command = [process.execPath, '--import', 'tsx', program, JSON.stringify(job)];
      this.liars.push(await startOn(host, command, join(this.#plan.directory, 'logs', `${id}.log`)));
      await this.#until(`${id} is healthy`, async () => this.#healthy({ grpc: `${host.address}:15001`, role: 'agent', id }));
    }
  }

  /** What a node knows of a blob it downloads, has or serves. */
  async transfer(node: BenchNode, blob: BenchBlob): Promise<Transfer | undefined> {
    const client = this.#channels.client(TransferServiceService, { endpoint: node.grpc, role: node.role, id: node.id });
    const digest = digestToProto(parseDigest(blob.digest));
    return await client.getTransfer({ digest }).then(
      ({ transfer }) => transfer,
      () => undefined,
    );
  }

  /** The open links of a node; none when it does not answer. */
  async links(node: BenchNode): Promise<readonly Link[]> {
    const client = this.#channels.client(TransferServiceService, { endpoint: node.grpc, role: node.role, id: node.id });
    return await client.listLinks({}, { timeoutMs: 1000 }).then(
      ({ links }) => links,
      () => [],
    );
  }

  /** What a node says of its running downloads and their links, for people. */
  async stateOf(node: BenchNode): Promise<string> {
    const client = this.#channels.client(TransferServiceService, { endpoint: node.grpc, role: node.role, id: node.id });
    const { transfers } = await client.listTransfers({ pageSize: 100, pageToken: '' });
    const running = transfers.filter(({ complete }) => !complete);
    const counts = running.map(({ verifiedCount, pieceCount }) => `${verifiedCount} of ${pieceCount} pieces`);
    const links = (await this.links(node)).filter(({ direction }) => direction === LinkDirection.OUTBOUND);
    const asked = links.map(({ peer, inFlightCount }) => `${peer?.id ?? ''}: ${inFlightCount}`);
    return `${counts.join(', ') || 'no download'}; asked ${asked.join(', ') || 'nobody'}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stop();
    await this.network[Symbol.asyncDispose]();
    await rm(this.#plan.directory, { recursive: true, force: true });
  }

  get #channels(): OperatorSession['channels'] {
    if (this.#session === undefined) throw new AppError('failed-precondition', 'the cluster is not open');
    return this.#session.channels;
  }

  async #start(): Promise<void> {
    const { nodes, clusterFile, cluster, certificates } = this.#plan;
    for (const node of nodes) {
      for (const file of [node.configFile, node.logFile]) await mkdir(dirname(file), { recursive: true });
      await writeFile(node.configFile, stringify(node.config));
    }
    await writeFile(clusterFile, stringify(cluster));
    await new CertificateDirectory({ root: certificates }, { clock: this.#clock }).init({ cluster: clusterName });
    for (const node of [...nodes, { role: 'operator', id: cluster.operator } as const]) await this.#issue(node);
    this.#session = await openCluster(clusterFile);
    for (let at = 0; at < nodes.length; at += startingMax) {
      const started = await Promise.all(nodes.slice(at, at + startingMax).map(async (node) => this.#startNode(node)));
      this.nodes.push(...started);
      for (const node of started) await this.#until(`${node.id} is healthy; see ${node.logFile}`, async () => this.#healthy(node));
    }
  }

  async #startNode(node: HostedNode): Promise<BenchNode> {
    const host = this.network.hosts.get(node.id) as NetHost;
    return { ...node, ...(await startOn(host, serviceCommand(node.role, node.configFile), node.logFile)) };
  }

  async #issue(identity: Parameters<CertificateDirectory['issue']>[0]): Promise<void> {
    await new CertificateDirectory({ root: this.#plan.certificates }, { clock: this.#clock }).issue(identity);
  }

  async #healthy({ grpc, role, id }: Pick<HostedNode, 'grpc' | 'role' | 'id'>): Promise<boolean> {
    return await this.#channels.health({ endpoint: grpc, role, id }, { timeoutMs: 1000 });
  }

  async #until(what: string, probe: () => Promise<boolean>): Promise<void> {
    const deadlineMs = this.#clock.nowMs() + startTimeoutMs;
    while (!(await probe())) {
      if (this.#clock.nowMs() > deadlineMs) throw new AppError('deadline-exceeded', `waited a minute in vain until ${what}`);
      await this.#clock.sleep(pollIntervalMs);
    }
  }

  async #stop(): Promise<void> {
    await Promise.all([...this.nodes, ...this.liars].map(stopProcess));
    await this.#session?.[Symbol.asyncDispose]();
    this.#session = undefined;
  }
}
