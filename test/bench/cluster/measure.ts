/** Watches a run: the completion curve, the links, and what every process and the machine spend. */
import { peerIdOf } from '#core';
import { LinkDirection } from '#gen/shoal/peer/v1/transfer_service';
import type { GraphFrame, Sample } from '#sim';
import { nodeIdentityFromProto } from '#wire';
import type { BenchCluster, BenchNode } from './cluster.ts';
import { payloadShare } from './namespaces.ts';
import { type HostProcess, isRunning, UsageLog } from './nodes.ts';
import { machineUsage } from './usage.ts';

const sampleCount = 40;
const frameEverySamples = 5;
const sampleMsMin = 250;

/** From the start of the watch to its end. */
export interface Costs {
  /** Of the nodes. */
  readonly cpuSeconds: number;
  /** Of all CPUs, by whatever runs: 0 to 1. */
  readonly machineCpuShare: number;
  /** The nodes' part of it. */
  readonly nodesCpuShare: number;
  /** By role: the largest. */
  readonly peakRssBytes: Readonly<Record<string, number>>;
  /** Of all agents together, with every header. */
  readonly wireBytes: number;
}

export class Watch {
  readonly samples: Sample[] = [];
  readonly frames: GraphFrame[] = [];
  readonly #cluster: BenchCluster;
  readonly #wantedBytes: number;
  readonly #usage = new UsageLog();
  readonly #before = new Map<HostProcess, { readonly cpuSeconds: number; readonly receivedBytes: number; readonly sentBytes: number }>();
  readonly #machineBefore = machineUsage();
  readonly #startedMs = performance.now();
  readonly #timer: NodeJS.Timeout;
  #doneCount = 0;
  #sampling = Promise.resolve();

  /** `wantedBytes` is what one agent wants. */
  constructor(cluster: BenchCluster, wantedBytes: number, idealMs: number) {
    this.#cluster = cluster;
    this.#wantedBytes = wantedBytes;
    for (const process_ of cluster.nodes) this.#before.set(process_, this.#usage.of(process_));
    this.#timer = setInterval(
      () => {
        this.#sampling = this.#sampling.then(async () => this.#sample());
      },
      Math.max(sampleMsMin, idealMs / sampleCount),
    );
  }

  /** A host has everything. */
  hostDone(): void {
    this.#doneCount += 1;
  }

  /** Ends the watch and adds up. */
  async end(): Promise<Costs> {
    clearInterval(this.#timer);
    const machine = machineUsage();
    const allSeconds = machine.allSeconds - this.#machineBefore.allSeconds;
    const peakRssBytes: Record<string, number> = {};
    let cpuSeconds = 0;
    let wireBytes = 0;
    for (const node of this.#cluster.nodes) {
      const usage = this.#usage.of(node);
      cpuSeconds += usage.cpuSeconds - (this.#before.get(node)?.cpuSeconds ?? 0);
      peakRssBytes[node.role] = Math.max(peakRssBytes[node.role] ?? 0, usage.peakRssBytes);
      if (node.role === 'agent') wireBytes += this.#received(node);
    }
    await this.#sampling;
    await this.#sample();
    return {
      cpuSeconds,
      machineCpuShare: (machine.busySeconds - this.#machineBefore.busySeconds) / allSeconds,
      nodesCpuShare: cpuSeconds / allSeconds,
      peakRssBytes,
      wireBytes,
    };
  }

  #received(node: BenchNode): number {
    return this.#usage.of(node).receivedBytes - (this.#before.get(node)?.receivedBytes ?? 0);
  }

  /** The share of its bytes that an agent has, by what came over its cable. */
  #haveShare(node: BenchNode): number {
    return Math.min(1, (this.#received(node) * payloadShare) / this.#wantedBytes);
  }

  async #sample(): Promise<void> {
    const timeMs = performance.now() - this.#startedMs;
    const { agents } = this.#cluster;
    let originBytes = 0;
    for (const origin of this.#cluster.nodesOf('origin')) {
      originBytes += this.#usage.of(origin).sentBytes - (this.#before.get(origin)?.sentBytes ?? 0);
    }
    const bytesShare = agents.reduce((sum, node) => sum + this.#haveShare(node), 0) / agents.length;
    const frame = await this.#frame(timeMs);
    this.samples.push({ timeMs, bytesShare, hostsShare: this.#doneCount / agents.length, linkCount: frame.links.length, originBytes });
    if (this.samples.length % frameEverySamples === 0) this.frames.push(frame);
  }

  async #frame(timeMs: number): Promise<GraphFrame> {
    const drawn = [...this.#cluster.nodesOf('origin'), ...this.#cluster.agents].filter(isRunning);
    const at = new Map(drawn.map((node, index) => [peerIdOf(node), index]));
    const nodes = drawn.map((node) => {
      const origin = node.role === 'origin';
      return { name: peerIdOf(node), origin, haveShare: origin ? 1 : this.#haveShare(node) };
    });
    const linksOf = async (node: BenchNode, to: number): Promise<GraphFrame['links']> =>
      (await this.#cluster.links(node)).flatMap(({ peer, direction, inFlightCount }) => {
        const from = at.get(peerIdOf(nodeIdentityFromProto(peer)));
        return direction === LinkDirection.OUTBOUND && from !== undefined ? [{ from, to, sending: inFlightCount > 0 }] : [];
      });
    const links = await Promise.all(drawn.map(linksOf));
    return { timeMs, nodes, links: links.flat() };
  }
}
