/** `shoal sim`: a named scenario in virtual time, with the engine, roster and handout that the services run. */
import { writeFile } from 'node:fs/promises';
import { setImmediate as breathe } from 'node:timers/promises';
import { SingleBar } from 'cli-progress';
import { Command } from 'commander';
import pc from 'picocolors';
import { AppError } from '#core';
import { formatDuration, parseSize } from '#runtime';
import { type SimResult, Simulation, scenarioOf, scenarios } from '#sim';
import { print, printJson, table } from './output.ts';
import { runPage } from './run-page.ts';
import { runTable } from './run-table.ts';

interface SimFlags {
  readonly list?: boolean;
  readonly hosts?: string;
  readonly size?: string;
  readonly up?: string;
  readonly down?: string;
  readonly seed?: string;
  readonly json?: boolean;
  readonly html?: string;
}

/** A result and what it cost this machine. */
type Measured = SimResult & { readonly cpuSeconds: number };

/** Events between two steps of the progress bar: some tenths of a second. */
const stepEvents = 100_000;

export function simCommand(): Command {
  return new Command('sim')
    .description('simulates a cluster: the real engine and trackers in virtual time; the same seed gives the same result')
    .argument('[scenario...]', 'names, see --list')
    .option('--list', 'list the scenarios')
    .option('--hosts <count>', 'agents')
    .option('--size <bytes>', 'of all blobs together, e.g. 500MiB')
    .option('--up <rate>', 'bytes per second that a host sends, e.g. 100MiB')
    .option('--down <rate>', 'bytes per second that a host receives')
    .option('--seed <number>', 'another run of the same scenario')
    .option('--json', 'print JSON, with the curve')
    .option('--html <file>', 'write a page with the completion curve and the graph of links')
    .action(async (names: string[], flags: SimFlags) => {
      if (flags.list === true || names.length === 0) {
        print(
          table(
            ['SCENARIO', 'WHAT HAPPENS'],
            Array.from(scenarios.values(), ({ name, description }) => [name, description]),
          ),
        );
        return;
      }
      const overrides = {
        hostCount: numberOf('hosts', flags.hosts),
        sizeBytes: sizeOf('size', flags.size),
        upBytesPerSec: sizeOf('up', flags.up),
        downBytesPerSec: sizeOf('down', flags.down),
        seed: numberOf('seed', flags.seed),
      };
      const planned = names.map((name) => scenarioOf(name, overrides));
      const results: Measured[] = [];
      for (const scenario of planned) results.push(await measure(new Simulation(scenario), scenario.name));
      if (flags.html !== undefined) await writeFile(flags.html, await runPage('shoal sim', results));
      if (flags.json === true) printJson(results.map(({ frames: _, ...result }) => result));
      else print(runTable(results));
      report(results);
    });
}

async function measure(simulation: Simulation, name: string): Promise<Measured> {
  const bar = new SingleBar({ format: `{bar} {percentage}% | ${name} | {virtual} simulated`, hideCursor: true, stream: process.stderr });
  const before = process.cpuUsage();
  bar.start(1000, 0, { virtual: '0 ms' });
  try {
    while (!simulation.advance(stepEvents)) {
      bar.update(Math.floor(simulation.progress * 1000), { virtual: formatDuration(simulation.network.nowMs) });
      await breathe();
    }
  } finally {
    bar.stop();
  }
  const { user, system } = process.cpuUsage(before);
  return { ...simulation.result(), cpuSeconds: (user + system) / 1e6 };
}

/** Says what must not have happened, and makes the command fail. */
function report(results: readonly Measured[]): void {
  for (const { scenario, violations } of results) {
    for (const { rule, example, count } of violations) {
      process.stderr.write(pc.red(`${scenario.name} (seed ${scenario.seed}) broke a rule ${count} times, first ${example}: ${rule}\n`));
      process.exitCode = 1;
    }
  }
}

function numberOf(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,10}$/.test(text)) return Number(text);
  throw new AppError('invalid-argument', `--${name}: write a whole number`);
}

function sizeOf(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const size = /^\d+$/.test(text) ? Number(text) : parseSize(text);
  if (size === undefined) throw new AppError('invalid-argument', `--${name}: write bytes, or a size such as 64MiB`);
  return size;
}
