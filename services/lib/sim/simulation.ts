/** One run of a scenario: builds the network, lets everything happen, and sums it up. */
import { type Digest, type Metainfo, SeededRng, shuffle } from '#core';
import { Ring } from '#placement';
import type { PeerOffer } from '#swarm';
import { simBlob } from './blob.ts';
import { idealMs, pieceFactor } from './bound.ts';
import type { Violation } from './checks.ts';
import type { SimHost } from './host.ts';
import { SimNetwork } from './network.ts';
import { type Percentiles, percentiles } from './percentiles.ts';
import { type GraphFrame, Recorder, type Sample } from './recorder.ts';
import type { Scenario } from './scenario.ts';

export interface BlobResult {
  readonly name: string;
  readonly sizeBytes: number;
  readonly pieceCount: number;
  /** From the arrival of the host. */
  readonly finishMs: Percentiles;
}

/** What a run came to, simulated or real. */
export interface RunResult {
  readonly scenario: Scenario;
  /** The bound of a host at full speed. */
  readonly idealMs: number;
  /** The bound with pieces over the one without. */
  readonly pieceFactor: number;
  /** From the arrival of a host until it had everything, over its own bound. */
  readonly ratio: Percentiles;
  readonly blobs: readonly BlobResult[];
  /** Hosts that lived to the end. */
  readonly hostCount: number;
  readonly finishedCount: number;
  /** Bytes received twice or in vain over all bytes received. */
  readonly duplicateShare: number;
  /** Bytes that origins sent over the size of the blobs. */
  readonly originCopies: number;
  readonly samples: readonly Sample[];
  readonly frames: readonly GraphFrame[];
}

export interface SimResult extends RunResult {
  readonly messageCount: number;
  readonly trackerMessageCount: number;
  readonly eventCount: number;
  readonly virtualMs: number;
  readonly violations: readonly Violation[];
}

interface Member {
  readonly id: string;
  readonly host: SimHost;
}

const slowFactor = 10;
const weakFactor = 20;
/** A run that takes this many times the bound (and as long after the last arrival) is given up. */
const limitFactor = 30;
const limitMsMin = 120_000;
const arrivalShareMin = 0.002;
const sampleCount = 100;
const frameCount = 8;

export class Simulation {
  readonly network: SimNetwork;
  readonly #scenario: Scenario;
  readonly #blobs: readonly Metainfo[];
  readonly #origins: readonly Member[];
  readonly #agents: readonly SimHost[];
  readonly #arrivedMs: readonly number[];
  readonly #owners = new Map<Digest, readonly SimHost[]>();
  readonly #recorder: Recorder;
  readonly #sizeBytes: number;
  readonly #limitMs: number;
  #dueCount: number;
  #ended = false;

  constructor(scenario: Scenario) {
    this.#scenario = scenario;
    const { seed, latencyMs, swarm, trackerCount, hostCount, reading } = scenario;
    this.network = new SimNetwork({ seed, latencyMs, swarm, trackerCount, reading, owners: (digest) => this.#offers(digest) });
    this.#blobs = scenario.blobs.map(({ name, sizeBytes }) => simBlob(name, sizeBytes));
    this.#sizeBytes = sum(this.#blobs.map(({ sizeBytes }) => sizeBytes));
    const rng = new SeededRng(seed * 31 + 7);
    this.#origins = this.#addOrigins();
    this.#agents = this.#addAgents();
    this.#addLiars();
    const boundMs = this.#idealMs(scenario.downBytesPerSec);
    const arrivalMs = Math.max(arrivalShareMin, scenario.arrivalShare) * boundMs;
    this.#arrivedMs = this.#agents.map((_, at) => 1 + arrivalMs * this.#arrivalOf(at, rng));
    this.#limitMs = Math.max(limitMsMin, limitFactor * boundMs) + arrivalMs;
    this.#dueCount = hostCount * this.#blobs.length;
    const pieceCount = sum(this.#blobs.map((blob) => blob.pieceCount));
    this.#recorder = new Recorder(
      this.network,
      this.#origins.map(({ host }) => host),
      { sizeBytes: hostCount * this.#sizeBytes, pieceCount },
    );
    this.#plan(boundMs, rng);
  }

  /** Share of the bytes that arrived, 0 to 1. */
  get progress(): number {
    return this.network.verifiedBytes / (this.#sizeBytes * this.#agents.length);
  }

  get isEnded(): boolean {
    return this.#ended;
  }

  /** Handles about `eventCount` events; true when the run is over. */
  advance(eventCount: number): boolean {
    const until = this.network.eventCount + eventCount;
    const isOver = (): boolean => this.network.completedCount >= this.#dueCount;
    this.network.run(this.#limitMs, () => this.network.eventCount >= until || isOver());
    this.#ended = isOver() || this.network.eventCount < until;
    return this.#ended;
  }

  /** Runs to the end. */
  run(): SimResult {
    while (!this.advance(1_000_000));
    return this.result();
  }

  /** What came out. */
  result(): SimResult {
    const { network } = this;
    this.#record();
    const alive = this.#agents.filter((host) => host.alive);
    for (const host of alive) network.checks.finished(host, this.#blobs.length);
    const ratios = alive.map((host) => this.#tookMs(host) / this.#idealMs(host.options.downBytesPerSec));
    const received = sum(this.#agents.map((host) => host.receivedBytes));
    const boundMs = this.#idealMs(this.#scenario.downBytesPerSec);
    const pieceCount = sum(this.#blobs.map((blob) => blob.pieceCount));
    return {
      scenario: this.#scenario,
      idealMs: boundMs,
      pieceFactor: pieceFactor(this.#agents.length, Math.max(1, pieceCount)),
      ratio: percentiles(ratios),
      blobs: this.#blobs.map((blob, at) => this.#blobResult(blob, this.#scenario.blobs[at]?.name ?? '', alive)),
      hostCount: alive.length,
      finishedCount: ratios.filter(Number.isFinite).length,
      duplicateShare: received === 0 ? 0 : sum(this.#agents.map((host) => host.droppedBytes)) / received,
      originCopies: sum(this.#origins.map(({ host }) => host.sentBytes)) / this.#sizeBytes,
      messageCount: network.messageCount,
      trackerMessageCount: network.trackers.messageCount,
      eventCount: network.eventCount,
      virtualMs: network.nowMs,
      violations: network.checks.violations,
      samples: this.#recorder.samples,
      frames: this.#recorder.frames,
    };
  }

  #addOrigins(): Member[] {
    const { originCount, replicas, upBytesPerSec, downBytesPerSec } = this.#scenario;
    const origins = Array.from({ length: originCount }, (_, at) => {
      const id = `origin-${at}`;
      return { id, host: this.network.addHost({ name: `origin/${id}`, upBytesPerSec, downBytesPerSec }) };
    });
    const ring = new Ring(origins);
    for (const blob of this.#blobs) {
      const owners = ring.owners(blob.digest, replicas, () => true).map(({ host }) => host);
      this.#owners.set(blob.digest, owners);
      for (const owner of owners) this.network.seed(owner, blob);
    }
    return origins;
  }

  #addAgents(): SimHost[] {
    const { hostCount, upBytesPerSec, downBytesPerSec, slowShare, weakCount } = this.#scenario;
    const slowCount = Math.round(hostCount * slowShare);
    return Array.from({ length: hostCount }, (_, at) => {
      const factor = at < slowCount ? slowFactor : 1;
      return this.network.addHost({
        name: `agent/host-${at}`,
        upBytesPerSec: upBytesPerSec / factor / (at < weakCount ? weakFactor : 1),
        downBytesPerSec: downBytesPerSec / factor,
      });
    });
  }

  /** When a host comes, as a share of the time in which hosts come. */
  #arrivalOf(at: number, rng: SeededRng): number {
    const { hostCount, waveCount, lateCount } = this.#scenario;
    const drawn = rng.below(1 << 20) / (1 << 20);
    if (lateCount > 0) return at >= hostCount - lateCount ? 1 : drawn * arrivalShareMin;
    return waveCount > 0 ? Math.floor((at * waveCount) / hostCount) / waveCount : drawn;
  }

  #addLiars(): void {
    const { liarCount, upBytesPerSec, downBytesPerSec } = this.#scenario;
    for (let at = 0; at < liarCount; at += 1) {
      const liar = this.network.addHost({ name: `agent/liar-${at}`, upBytesPerSec, downBytesPerSec, corrupt: true });
      for (const blob of this.#blobs) this.network.seed(liar, blob);
    }
  }

  #plan(boundMs: number, rng: SeededRng): void {
    const { deadShare, trackerLossAt, originLossAt } = this.#scenario;
    const [first] = this.#blobs;
    this.#agents.forEach((host, at) => {
      for (const blob of this.#blobs) this.network.want(host, blob, this.#arrivedMs[at]);
    });
    const doomed = shuffle([...this.#agents], rng).slice(0, Math.round(deadShare * this.#agents.length));
    if (doomed.length > 0) this.network.at(boundMs / 2, () => this.#killAgents(doomed));
    if (first === undefined) return;
    if (trackerLossAt !== undefined) this.network.at(trackerLossAt * boundMs, () => this.network.killTracker(first.digest));
    if (originLossAt !== undefined) {
      this.network.at(originLossAt * boundMs, () => {
        for (const owner of this.#owners.get(first.digest)?.slice(1) ?? []) this.network.kill(owner);
      });
    }
    this.#recordEvery(boundMs / sampleCount, () => this.#record());
    this.#recordEvery(boundMs / frameCount, () => this.#recorder.frame());
  }

  #recordEvery(intervalMs: number, record: () => void): void {
    const again = (): void => {
      if (this.#ended) return;
      record();
      // Less often in a run that takes much longer than it should.
      this.network.at(this.network.nowMs + Math.max(intervalMs, this.network.nowMs / (2 * sampleCount)), again);
    };
    this.network.at(intervalMs, again);
  }

  #record(): void {
    const doneCount = this.#agents.filter((host) => host.completedMs.size === this.#blobs.length).length;
    this.#recorder.sample(doneCount / this.#agents.length);
  }

  #killAgents(doomed: readonly SimHost[]): void {
    for (const host of doomed) {
      this.network.kill(host);
      this.#dueCount -= this.#blobs.length - host.completedMs.size;
    }
  }

  #offers(digest: Digest): PeerOffer[] {
    return (this.#owners.get(digest) ?? [])
      .filter(({ alive }) => alive)
      .map(({ peer }) => ({ peer, endpoint: `${peer}:1`, complete: true }));
  }

  /** The bound of a host that receives so fast. */
  #idealMs(downBytesPerSec: number): number {
    const owners = new Set(Array.from(this.#owners.values()).flat());
    return idealMs({
      hostCount: this.#agents.length,
      sizeBytes: this.#sizeBytes,
      seedBytesPerSec: sum(Array.from(owners, (host) => host.options.upBytesPerSec)),
      upBytesPerSec: sum(this.#agents.map((host) => host.options.upBytesPerSec)),
      downBytesPerSec,
    });
  }

  /** Until the host had everything; infinite when it never did. */
  #tookMs(host: SimHost): number {
    return Math.max(...this.#blobs.map((blob) => this.#blobMs(host, blob)));
  }

  #blobMs(host: SimHost, { digest }: Metainfo): number {
    const arrivedMs = this.#arrivedMs[host.index - this.#origins.length] ?? 0;
    return (host.completedMs.get(digest) ?? Number.POSITIVE_INFINITY) - arrivedMs;
  }

  #blobResult(blob: Metainfo, name: string, alive: readonly SimHost[]): BlobResult {
    const finishMs = percentiles(alive.map((host) => this.#blobMs(host, blob)));
    return { name, sizeBytes: blob.sizeBytes, pieceCount: blob.pieceCount, finishMs };
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
