/** One scenario on a real cluster: push, limit the links, let every host pull, do to them what the scenario says, and sum up. */
import { loadavg } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { pieceCountOf, pieceLengthFor, SeededRng, shuffle } from '#core';
import { idealMs, percentiles, pieceFactor, type RunResult, type Scenario } from '#sim';
import { type BenchBlob, randomBlob } from './blobs.ts';
import { BenchCluster, type BenchNode, repository, weakUplinkShare } from './cluster.ts';
import { type Costs, Watch } from './measure.ts';
import { isRunning, killProcess, type Pull, preparePull } from './nodes.ts';
import { registryPort } from './plan.ts';
import { measuredBlobs } from './scenarios.ts';

/** A run of real processes, in the simulator's terms and with what it cost. */
export interface RealRun extends RunResult {
  readonly cpuSeconds: number;
  readonly costs: Costs;
  /** Bytes of pieces that agents received over those they wanted: survivors only. */
  readonly receivedCopies: number;
  readonly corruptCount: number;
  /** When the last host with an ordinary uplink had everything. */
  readonly ordinaryLastMs: number;
  /** Of this machine, before the run. */
  readonly loadBefore: number;
  /** What did not come to its end on hosts that lived. */
  readonly failures: readonly string[];
}

/** Enough pieces for the compiler to have seen every path often. */
const warmUpBytes = 40_000_000;
/** Until every prepared curl waits on its stdin. */
const settleMs = 1000;
/** A run that takes this many times the bound is given up. */
const limitFactor = 5;
const limitMsMin = 30_000;

/** The pulls of one host. */
interface HostPulls {
  readonly node: BenchNode;
  readonly pulls: readonly Pull[];
  /** Pulls that go on meanwhile and are cancelled when every host has the others. */
  readonly beside: readonly Pull[];
}

/** Runs it in a cluster of its own below `directory`; `beforeRemoval` may look at the logs there. */
export async function runScenario(scenario: Scenario, directory: string, beforeRemoval: () => void): Promise<RealRun> {
  await using cluster = await BenchCluster.open(directory, scenario);
  await warmUp(cluster);
  const names = new Set(measuredBlobs(scenario).map(({ name }) => name));
  const all = scenario.blobs.map(randomBlob);
  const blobs = all.filter(({ name }) => names.has(name));
  const rest = all.filter(({ name }) => !names.has(name));
  for (const blob of all) await cluster.push(blob);
  const [first] = blobs;
  if (first !== undefined) await cluster.addLiars(first);
  await cluster.limit();
  const loadBefore = loadavg()[0] ?? 0;
  const servedBefore = await servedBytes(cluster, blobs);
  const boundMs = idealOf({ ...scenario, blobs });
  const hosts = cluster.agents.map((node) => ({
    node,
    pulls: blobs.map((blob) => pullOf(node, blob)),
    beside: rest.map((blob) => pullOf(node, blob)),
  }));
  await sleep(settleMs);
  const wantedBytes = sum(blobs.map(({ sizeBytes }) => sizeBytes));
  const watch = new Watch(cluster, wantedBytes, boundMs);
  const failures: string[] = [];
  const tookMs = await letPull(cluster, hosts, { scenario, boundMs, watch, failures });
  const costs = await watch.end();
  const survivors = hosts.filter(({ node }) => isRunning(node));
  const received = await receivedOf(cluster, survivors, blobs);
  beforeRemoval();
  const weak = new Set(cluster.agents.slice(0, scenario.weakCount));
  const ordinary = survivors.filter(({ node }) => !weak.has(node));
  const ratios = survivors.map(({ node }) => Math.max(...(tookMs.get(node) ?? [Number.POSITIVE_INFINITY])) / boundMs);
  return {
    scenario,
    idealMs: boundMs,
    pieceFactor: pieceFactor(scenario.hostCount, sum(blobs.map(({ sizeBytes }) => pieceCountOf(sizeBytes, pieceLengthFor(sizeBytes))))),
    ratio: percentiles(ratios),
    blobs: blobs.map(({ name, sizeBytes }, at) => ({
      name,
      sizeBytes,
      pieceCount: pieceCountOf(sizeBytes, pieceLengthFor(sizeBytes)),
      finishMs: percentiles(survivors.map(({ node }) => tookMs.get(node)?.[at] ?? Number.POSITIVE_INFINITY)),
    })),
    hostCount: survivors.length,
    finishedCount: ratios.filter(Number.isFinite).length,
    duplicateShare: received.vainBytes / Math.max(1, received.bytes),
    originCopies: ((await servedBytes(cluster, blobs)) - servedBefore) / wantedBytes,
    samples: watch.samples,
    frames: watch.frames,
    cpuSeconds: costs.cpuSeconds,
    costs,
    receivedCopies: received.bytes / (survivors.length * wantedBytes),
    corruptCount: received.corruptCount,
    ordinaryLastMs: Math.max(...ordinary.flatMap(({ node }) => tookMs.get(node) ?? [Number.POSITIVE_INFINITY])),
    loadBefore,
    failures,
  };
}

/**
 * Every agent pulls another blob over unlimited links first. Agents run for months: their code is compiled when an image comes, and they have
 * connections; processes that have just started spend several times as much on each byte.
 */
async function warmUp(cluster: BenchCluster): Promise<void> {
  const blob = randomBlob({ name: 'warm-up', sizeBytes: warmUpBytes });
  await cluster.push(blob);
  const pulls = cluster.agents.map((node) => pullOf(node, blob));
  await sleep(settleMs);
  for (const pull of pulls) pull.go();
  await Promise.all(pulls.map(({ tookMs }) => tookMs));
}

/** T* of the scenario: every host at full speed, save the weak ones. */
export function idealOf({ hostCount, blobs, originCount, upBytesPerSec, downBytesPerSec, weakCount }: Scenario): number {
  return idealMs({
    hostCount,
    sizeBytes: sum(blobs.map(({ sizeBytes }) => sizeBytes)),
    seedBytesPerSec: originCount * upBytesPerSec,
    upBytesPerSec: (hostCount - weakCount * (1 - weakUplinkShare)) * upBytesPerSec,
    downBytesPerSec,
  });
}

function pullOf({ host }: BenchNode, { digest, sizeBytes }: BenchBlob): Pull {
  return preparePull(host, `http://${host.address}:${registryPort}/v2/${repository}/blobs/${digest}`, sizeBytes);
}

interface Course {
  readonly scenario: Scenario;
  readonly boundMs: number;
  readonly watch: Watch;
  readonly failures: string[];
}

/** Starts every pull at once; milliseconds by node and blob, infinite for what did not end. */
async function letPull(
  cluster: BenchCluster,
  hosts: readonly HostPulls[],
  { scenario, boundMs, watch, failures }: Course,
): Promise<Map<BenchNode, number[]>> {
  for (const { pulls, beside } of hosts) for (const pull of [...beside, ...pulls]) pull.go();
  const besides = Promise.allSettled(hosts.flatMap(({ beside }) => beside.map(({ tookMs: took }) => took)));
  const doomed = shuffle([...hosts], new SeededRng(scenario.seed)).slice(0, Math.round(scenario.deadShare * hosts.length));
  const killTimer = setTimeout(() => {
    for (const { node } of doomed) killProcess(node);
  }, boundMs / 2);
  const limitTimer = setTimeout(() => void giveUp(), Math.max(limitMsMin, limitFactor * boundMs));
  const tookMs = new Map<BenchNode, number[]>();
  const giveUp = async (): Promise<void> => {
    for (const { node, pulls } of hosts) {
      if (!tookMs.has(node) && isRunning(node)) failures.push(`${node.id} is not through: ${await cluster.stateOf(node)}`);
      for (const pull of pulls) pull.cancel();
    }
  };
  const finish = async ({ node, pulls }: HostPulls): Promise<void> => {
    const ended = await Promise.allSettled(pulls.map(({ tookMs: took }) => took));
    tookMs.set(
      node,
      ended.map((outcome) => (outcome.status === 'fulfilled' ? outcome.value : Number.POSITIVE_INFINITY)),
    );
    if (ended.every(({ status }) => status === 'fulfilled')) watch.hostDone();
    else if (isRunning(node)) for (const outcome of ended) if (outcome.status === 'rejected') failures.push(String(outcome.reason));
  };
  await Promise.all(hosts.map(finish));
  clearTimeout(killTimer);
  clearTimeout(limitTimer);
  for (const { beside } of hosts) for (const pull of beside) pull.cancel();
  await besides;
  return tookMs;
}

/** Bytes of the blobs' pieces that origins have sent so far. */
async function servedBytes(cluster: BenchCluster, blobs: readonly BenchBlob[]): Promise<number> {
  const transfers = await Promise.all(cluster.nodesOf('origin').flatMap((node) => blobs.map(async (blob) => cluster.transfer(node, blob))));
  return sum(transfers.map((transfer) => Number(transfer?.servedBytes ?? 0)));
}

interface Received {
  /** Of pieces, those in vain included. */
  readonly bytes: number;
  readonly vainBytes: number;
  readonly corruptCount: number;
}

async function receivedOf(cluster: BenchCluster, hosts: readonly HostPulls[], blobs: readonly BenchBlob[]): Promise<Received> {
  const counts = await Promise.all(
    hosts.flatMap(({ node }) =>
      blobs.map(async (blob) => {
        const sources = (await cluster.transfer(node, blob))?.sources ?? [];
        const vainCount = sum(sources.map(({ corruptCount, duplicateCount }) => corruptCount + duplicateCount));
        const vainBytes = vainCount * pieceLengthFor(blob.sizeBytes);
        const corruptCount = sum(sources.map((source) => source.corruptCount));
        return { bytes: vainBytes + sum(sources.map(({ sizeBytes }) => Number(sizeBytes))), vainBytes, corruptCount };
      }),
    ),
  );
  return {
    bytes: sum(counts.map(({ bytes }) => bytes)),
    vainBytes: sum(counts.map(({ vainBytes }) => vainBytes)),
    corruptCount: sum(counts.map(({ corruptCount }) => corruptCount)),
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
