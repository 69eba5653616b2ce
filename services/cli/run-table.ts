/** The table about runs of a cluster, simulated or real. */
import { formatSize } from '#runtime';
import type { Percentiles, RunResult } from '#sim';
import { table } from './output.ts';

/** A result and what it cost this machine. Messages are counted in simulations only. */
export type RunRow = RunResult & { readonly cpuSeconds: number; readonly messageCount?: number; readonly trackerMessageCount?: number };

/** Times over T*, then seconds for each blob. */
export function runTable(results: readonly RunRow[]): string {
  const head = ['SCENARIO', 'SEED', 'HOSTS', 'T*', 'T*K/T*', 'P50', 'P99', 'P99.9', 'LAST', 'TWICE', 'ORIGINS', 'MESSAGES', 'CPU'];
  const rows = results.map((result) => [
    result.scenario.name,
    String(result.scenario.seed),
    `${result.finishedCount}/${result.hostCount}`,
    `${(result.idealMs / 1000).toFixed(2)} s`,
    result.pieceFactor.toFixed(3),
    ...shown(result.ratio),
    `${(100 * result.duplicateShare).toFixed(2)} %`,
    `${result.originCopies.toFixed(2)} B`,
    result.messageCount === undefined ? '' : String(result.messageCount + (result.trackerMessageCount ?? 0)),
    `${result.cpuSeconds.toFixed(1)} s`,
  ]);
  const blobs = results.flatMap(({ scenario, blobs: each }) =>
    each.map(({ name, sizeBytes, finishMs }) => [
      `${scenario.name}/${name}`,
      formatSize(sizeBytes),
      ...[finishMs.p50, finishMs.p99, finishMs.p999, finishMs.last].map((ms) =>
        Number.isFinite(ms) ? `${(ms / 1000).toFixed(2)} s` : 'never',
      ),
    ]),
  );
  return `${table(head, rows)}\n\n${table(['BLOB', 'SIZE', 'P50', 'P99', 'P99.9', 'LAST'], blobs)}`;
}

/** Over T*. */
function shown({ p50, p99, p999, last }: Percentiles): string[] {
  return [p50, p99, p999, last].map((ratio) => (Number.isFinite(ratio) ? ratio.toFixed(3) : 'never'));
}
