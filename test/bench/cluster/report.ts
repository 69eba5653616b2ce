/** The tables of `make bench-cluster`: the runs as `shoal sim` shows them, what they cost, and real beside simulated. */

import { formatSize } from '#runtime';
import type { Percentiles, RunResult } from '#sim';
import { table } from '../../../services/cli/output.ts';
import { runTable } from '../../../services/cli/run-table.ts';
import type { PlainRun } from './plain.ts';
import type { RealRun } from './run.ts';
import { cpuCount } from './usage.ts';

export interface Pair {
  readonly real: RealRun;
  readonly simulated: RunResult;
}

export interface BenchResults {
  readonly pairs: readonly Pair[];
  readonly plain: PlainRun | undefined;
}

export function reportText({ pairs, plain }: BenchResults): string {
  const reals = pairs.map(({ real }) => real);
  const parts = [
    ...(reals.length === 0 ? [] : [runTable(reals), costTable(reals), comparison(pairs)]),
    ...(plain === undefined ? [] : [plainTable(plain, reals)]),
    ...verdicts(reals),
  ];
  return parts.join('\n\n');
}

function costTable(runs: readonly RealRun[]): string {
  const head = ['SCENARIO', 'RECEIVED', 'ON THE WIRE', 'CORRUPT', 'CPU-S/GB', 'CPU OF ALL', 'OF NODES', 'LOAD BEFORE', 'PEAK RSS'];
  const rows = runs.map(({ scenario, blobs, finishedCount, hostCount, receivedCopies, corruptCount, costs, loadBefore }) => {
    const blobBytes = blobs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    const deliveredGb = (finishedCount * blobBytes) / 1e9;
    return [
      scenario.name,
      `${receivedCopies.toFixed(3)} B`,
      hostCount === scenario.hostCount ? `${(costs.wireBytes / (hostCount * blobBytes)).toFixed(3)} B` : '',
      String(corruptCount),
      (costs.cpuSeconds / deliveredGb).toFixed(1),
      `${percent(costs.machineCpuShare)} of ${cpuCount()}`,
      percent(costs.nodesCpuShare),
      loadBefore.toFixed(2),
      Object.entries(costs.peakRssBytes)
        .map(([role, bytes]) => `${role} ${formatSize(bytes)}`)
        .join(', '),
    ];
  });
  return table(head, rows);
}

/** Over T*: the real run, the simulated one, and how far apart they are. */
function comparison(pairs: readonly Pair[]): string {
  const rows = pairs.map(({ real, simulated }) => [
    real.scenario.name,
    ...(['p50', 'p99', 'last'] as const).map((key) => beside(real.ratio, measuredRatio(simulated, real), key)),
    `${real.originCopies.toFixed(2)} / ${simulated.originCopies.toFixed(2)} B`,
  ]);
  return table(['REAL / SIMULATED', 'P50', 'P99', 'LAST', 'ORIGINS'], rows);
}

/** Of what the real run measured: the whole, or one blob of several. */
function measuredRatio(simulated: RunResult, { blobs, idealMs }: RealRun): Percentiles {
  const [measured] = blobs;
  const finishMs = simulated.blobs.find(({ name }) => name === measured?.name)?.finishMs;
  if (finishMs === undefined || blobs.length === simulated.blobs.length) return simulated.ratio;
  const { p50, p99, p999, last } = finishMs;
  return { p50: p50 / idealMs, p99: p99 / idealMs, p999: p999 / idealMs, last: last / idealMs };
}

function beside(real: Percentiles, simulated: Percentiles, key: 'p50' | 'p99' | 'last'): string {
  const apart = 100 * (simulated[key] / real[key] - 1);
  return `${real[key].toFixed(3)} / ${simulated[key].toFixed(3)} (${apart >= 0 ? '+' : ''}${apart.toFixed(0)} %)`;
}

function plainTable({ scenario, idealMs, finishMs, cpuSeconds, peakRssBytes }: PlainRun, runs: readonly RealRun[]): string {
  const swarm = runs.find((run) => run.scenario.name === 'swarm');
  const seconds = [finishMs.p50, finishMs.p99, finishMs.last].map((ms) => `${(ms / 1000).toFixed(1)} s (${(ms / idealMs).toFixed(1)} T*)`);
  const faster = swarm === undefined ? '' : `${(finishMs.last / (swarm.ratio.last * swarm.idealMs)).toFixed(1)} times`;
  return table(
    ['ONE DOCKER-REGISTRY', 'HOSTS', 'P50', 'P99', 'LAST', 'CPU', 'PEAK RSS', 'THE SWARM IS FASTER'],
    [[scenario.name, String(scenario.hostCount), ...seconds, `${cpuSeconds.toFixed(1)} s`, formatSize(peakRssBytes), faster]],
  );
}

function percent(share: number): string {
  return `${(100 * share).toFixed(0)} %`;
}

interface Verdict {
  readonly what: string;
  readonly value: number;
  readonly limit: number;
}

/** The figures to reach, for those that the runs can tell. */
export function verdictsOf(runs: readonly RealRun[]): Verdict[] {
  const named = new Map(runs.map((run) => [run.scenario.name, run]));
  const [swarm, kill, liar, weak] = ['swarm', 'kill', 'liar', 'weak'].map((name) => named.get(name));
  const verdicts: Verdict[] = [];
  const add = (what: string, value: number, limit: number): void => {
    verdicts.push({ what, value, limit });
  };
  if (swarm !== undefined) {
    add('swarm: p50 over T*', swarm.ratio.p50, 1.15);
    add('swarm: p99 over T*', swarm.ratio.p99, 1.25);
    add('swarm: copies that left the origins', swarm.originCopies, 1.5);
    add('swarm: received over wanted', swarm.receivedCopies, 1.02);
    if (kill !== undefined) add('kill: p99 over that of swarm', p99Ms(kill) / p99Ms(swarm), 1.3);
    if (liar !== undefined) add('liar: p99 over that of swarm', p99Ms(liar) / p99Ms(swarm), 1.05);
    if (weak !== undefined) add('weak: the last of the other hosts over p99 of swarm', weak.ordinaryLastMs / p99Ms(swarm), 1.05);
  }
  const small = named.get('small')?.blobs[0];
  const beside_ = named.get('two-blobs')?.blobs.find(({ name }) => name === 'small');
  if (small !== undefined && beside_ !== undefined) {
    add('two-blobs: last of the small blob over that alone', beside_.finishMs.last / small.finishMs.last, 1.5);
  }
  for (const { scenario, hostCount, finishedCount } of runs) {
    if (finishedCount < hostCount) add(`${scenario.name}: hosts that did not finish`, hostCount - finishedCount, 0);
  }
  return verdicts;
}

function p99Ms({ ratio, idealMs }: RealRun): number {
  return ratio.p99 * idealMs;
}

function verdicts(runs: readonly RealRun[]): string[] {
  const rows = verdictsOf(runs).map(({ what, value, limit }) => [
    what,
    value.toFixed(3),
    `<= ${limit}`,
    value <= limit ? 'reached' : 'missed',
  ]);
  return rows.length === 0 ? [] : [table(['FIGURE', 'MEASURED', 'TO REACH', ''], rows)];
}
