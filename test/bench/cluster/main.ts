/**
 * `make bench-cluster`: real processes, one host each, in network namespaces with limited links; beside them the simulator with the same
 * numbers, and one plain registry. Needs root, iproute2, curl, `make build`, and for `plain` Debian's docker-registry.
 *
 *   node --import tsx test/bench/cluster/main.ts [scenario...] [--hosts 24] [--size 200000000] [--rate 6000000] [--json] [--html FILE]
 */
import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { AppError, toAppError } from '#core';
import { type Scenario, Simulation } from '#sim';
import { print, printJson } from '../../../services/cli/output.ts';
import { runPage } from '../../../services/cli/run-page.ts';
import { checkTools, ownFolder, removeLeftovers } from './namespaces.ts';
import { type PlainRun, runPlain } from './plain.ts';
import { type Pair, reportText, verdictsOf } from './report.ts';
import { runScenario } from './run.ts';
import { benchScenario, parseScenarioName, scenarioNames } from './scenarios.ts';

/** Where the nodes' disks are: in memory when they fit, since the hosts of a cluster do not share one disk. */
const memoryFolder = '/dev/shm';
/** At most this share of the memory's folder is taken. */
const memoryShareMax = 0.5;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    hosts: { type: 'string' },
    size: { type: 'string' },
    rate: { type: 'string' },
    json: { type: 'boolean', default: false },
    html: { type: 'string' },
    /** Keeps the nodes' logs there. */
    logs: { type: 'string' },
  },
});

function numberOf(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^\d{1,12}$/.test(text) || Number(text) === 0) throw new AppError('invalid-argument', `--${name}: write a whole number`);
  return Number(text);
}

/** The folder for the disks of all nodes of a scenario. */
function folderFor({ hostCount, originCount, blobs }: Scenario): string {
  const needed = (hostCount + originCount + 1) * blobs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  if (!existsSync(memoryFolder)) return ownFolder(tmpdir());
  const { bavail, bsize } = statfsSync(memoryFolder);
  return ownFolder(needed <= memoryShareMax * bavail * bsize ? memoryFolder : tmpdir());
}

function keepLogs(directory: string, name: string): void {
  const from = join(directory, 'logs');
  if (values.logs === undefined || !existsSync(from)) return;
  const to = join(values.logs, name);
  mkdirSync(to, { recursive: true });
  for (const file of readdirSync(from)) copyFileSync(join(from, file), join(to, file));
}

async function main(): Promise<void> {
  const names = (positionals.length === 0 ? scenarioNames.filter((name) => name !== 'plain') : positionals).map(parseScenarioName);
  const options = {
    hostCount: numberOf('hosts', values.hosts),
    sizeBytes: numberOf('size', values.size),
    rateBytesPerSec: numberOf('rate', values.rate),
  };
  await checkTools();
  await removeLeftovers([memoryFolder, tmpdir()]);
  process.once('exit', () => {
    for (const parent of [memoryFolder, tmpdir()]) rmSync(ownFolder(parent), { recursive: true, force: true });
  });
  const pairs: Pair[] = [];
  let plain: PlainRun | undefined;
  for (const name of names) {
    const scenario = benchScenario(name, options);
    const directory = folderFor(scenario);
    process.stderr.write(`${name}: ${scenario.description}\n`);
    if (name === 'plain') plain = await runPlain(scenario, directory);
    else {
      const real = await runScenario(scenario, directory, () => keepLogs(directory, name));
      for (const failure of real.failures) process.stderr.write(`${name}: ${failure}\n`);
      pairs.push({ real, simulated: new Simulation(scenario).run() });
    }
  }
  const runs = pairs.map(({ real }) => real);
  if (values.html !== undefined) writeFileSync(values.html, await runPage('shoal on real processes', runs));
  if (values.json) printJson({ runs: pairs.map(jsonOf), plain, verdicts: verdictsOf(runs) });
  else print(reportText({ pairs, plain }));
}

function jsonOf({ real, simulated }: Pair) {
  const { frames: _, ...result } = real;
  return { ...result, simulated: { ratio: simulated.ratio, originCopies: simulated.originCopies } };
}

// The first signal ends this process in order: what it made is removed on exit, and the nodes stop with their stdin.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(130));

await main().catch((error: unknown) => {
  process.stderr.write(`bench-cluster: ${toAppError(error).message}\n`);
  process.exitCode = 1;
});
