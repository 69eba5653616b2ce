/** `shoal agent configure`: makes the agent of a host the mirror of its container runtimes. Shows first, changes with `--apply`. */
import { Command, Option } from 'commander';
import pc from 'picocolors';
import { AppError } from '#core';
import { print, printJson } from '../output.ts';
import { unifiedDiff } from './diff.ts';
import { DiskFiles, type HostFiles } from './files.ts';
import { type ConfigurePlan, type FileChange, planApply, planRemove } from './plan.ts';
import { readRecord, recordMode, recordPath, recordText } from './record.ts';
import { type MirrorSettings, parseAgentAddress, parseUpstream, type Runtime, runtimes } from './settings.ts';

/** The options of the command. */
export interface ConfigureFlags {
  readonly agent: string;
  readonly upstream: readonly string[];
  readonly catchAll?: boolean;
  readonly runtime: readonly Runtime[];
  readonly apply?: boolean;
  readonly remove?: boolean;
  readonly root: string;
}

/** Where each runtime keeps its configuration; its being there means that the runtime is installed. */
const folders: Readonly<Record<Runtime, string>> = { containerd: '/etc/containerd', docker: '/etc/docker', podman: '/etc/containers' };

export function agentCommand(): Command {
  return new Command('agent').description("looks after an agent's host").addCommand(configureCommand());
}

function configureCommand(): Command {
  return new Command('configure')
    .description(
      'makes the agent on this host the mirror of containerd (hosts.toml), docker (daemon.json) and podman (registries.conf.d). ' +
        'Shows what would change; --apply does it, --remove takes it back. Lines of others are kept.',
    )
    .option('--agent <address>', "the agent's registry as the runtimes reach it", '127.0.0.1:16000')
    .option('--upstream <host...>', 'registries it stands in for, e.g. registry.example.com; without any, all of them', [])
    .option('--catch-all', 'all registries besides the ones named')
    .addOption(
      new Option('--runtime <names...>', 'which runtimes; those that are installed unless given')
        .choices(runtimes)
        .default([], 'installed'),
    )
    .addOption(new Option('--apply', 'make the changes').conflicts('remove'))
    .option('--remove', 'take back, at once, whatever was written')
    .option('--root <folder>', 'the root of the file system to work on', '/')
    .option('--json', 'print JSON')
    .action(async (flags: ConfigureFlags & { readonly json?: boolean }) => {
      const { done, changes, notes, record } = await configure(flags);
      if (flags.json === true) printJson({ done, changes: changes.map(shownChange), notes });
      else printPlan({ changes, notes, record }, done);
    });
}

/** What was found, and whether it was carried out. */
export interface Configured extends ConfigurePlan {
  readonly done: boolean;
}

/** Plans, and carries out with `apply` or `remove`. Throws `failed-precondition` for files that cannot be changed without loss. */
export async function configure(flags: ConfigureFlags): Promise<Configured> {
  const files = new DiskFiles(flags.root);
  const plan = flags.remove === true ? await planRemove(await writtenRuntimes(flags, files), files) : await applyPlan(flags, files);
  const done = flags.apply === true || flags.remove === true;
  if (done) await carryOut(plan, files);
  return { ...plan, done };
}

async function applyPlan(flags: ConfigureFlags, files: HostFiles): Promise<ConfigurePlan> {
  const upstreams = [...new Set(flags.upstream.map(parseUpstream))];
  const settings: MirrorSettings = {
    agent: parseAgentAddress(flags.agent),
    upstreams,
    catchAll: flags.catchAll === true || upstreams.length === 0,
  };
  return planApply(settings, await chosenRuntimes(flags, files), files);
}

async function writtenRuntimes(flags: ConfigureFlags, files: HostFiles): Promise<readonly Runtime[]> {
  if (flags.runtime.length > 0) return flags.runtime;
  return [...new Set((await readRecord(files)).map(({ runtime }) => runtime))];
}

async function chosenRuntimes(flags: ConfigureFlags, files: HostFiles): Promise<readonly Runtime[]> {
  if (flags.runtime.length > 0) return [...new Set(flags.runtime)];
  const installed: Runtime[] = [];
  for (const runtime of runtimes) if (await files.hasFolder(folders[runtime])) installed.push(runtime);
  if (installed.length > 0) return installed;
  throw new AppError('failed-precondition', `none of ${Object.values(folders).join(', ')} exists: name the runtimes with --runtime`);
}

/** The record is written first, with what each file was: whatever happens then can be taken back. */
async function carryOut({ changes, record }: ConfigurePlan, files: DiskFiles): Promise<void> {
  const earlier = await readRecord(files);
  const both = [...record, ...earlier.filter(({ path }) => !record.some((entry) => entry.path === path))];
  if (both.length > 0) await files.write(recordPath, recordText(both), recordMode);
  for (const { path, before, after } of changes) {
    if (after === before) continue;
    if (after === undefined) await files.remove(path, { emptyFolder: path.endsWith('/hosts.toml') });
    else await files.write(path, after);
  }
  if (record.length > 0) await files.write(recordPath, recordText(record), recordMode);
  else if (both.length > 0) await files.remove(recordPath, { emptyFolder: true });
}

function actionOf({ before, after }: FileChange): 'none' | 'create' | 'change' | 'remove' {
  if (before === after) return 'none';
  if (before === undefined) return 'create';
  return after === undefined ? 'remove' : 'change';
}

function shownChange(change: FileChange): object {
  return { ...change, before: change.before ?? null, after: change.after ?? null, action: actionOf(change) };
}

function printPlan({ changes, notes }: ConfigurePlan, isDone: boolean): void {
  const diffs = changes.map(({ path, before, after }) => unifiedDiff(path, before, after)).filter((diff) => diff !== '');
  for (const diff of diffs) print(coloured(diff));
  for (const note of notes) print(pc.yellow(note));
  if (diffs.length === 0) print('Nothing to change.');
  else
    print(
      isDone
        ? `Done: ${diffs.length} ${diffs.length === 1 ? 'file' : 'files'} changed.`
        : 'Nothing has been changed: add --apply to do it.',
    );
}

function coloured(diff: string): string {
  const paint = (line: string): string => (line.startsWith('+') ? pc.green(line) : line.startsWith('-') ? pc.red(line) : line);
  return diff.split('\n').map(paint).join('\n');
}
