/** Decides what becomes of each file: what is ours is taken out first, then what is wanted goes in. Changes nothing itself. */
import { planContainerd } from './containerd.ts';
import { planDocker, withoutMirror } from './docker.ts';
import type { HostFiles } from './files.ts';
import { withoutMarked } from './marked-text.ts';
import { planPodman } from './podman.ts';
import { type RecordEntry, readRecord } from './record.ts';
import type { MirrorSettings, Runtime } from './settings.ts';
import type { RuntimePlan, WantedFile } from './wanted.ts';

export interface FileChange {
  readonly runtime: Runtime;
  readonly path: string;
  /** Undefined when there is no file. */
  readonly before: string | undefined;
  readonly after: string | undefined;
}

export interface ConfigurePlan {
  readonly changes: readonly FileChange[];
  readonly notes: readonly string[];
  /** The record once the changes are made. */
  readonly record: readonly RecordEntry[];
}

const planners: Readonly<Record<Runtime, (settings: MirrorSettings, files: HostFiles) => Promise<RuntimePlan>>> = {
  containerd: planContainerd,
  docker: async (settings) => planDocker(settings),
  podman: planPodman,
};

/** Files of the named runtimes that an earlier call wrote and that are no longer wanted are taken back. Throws `failed-precondition`. */
export async function planApply(settings: MirrorSettings, chosen: readonly Runtime[], files: HostFiles): Promise<ConfigurePlan> {
  const entries = await readRecord(files);
  const plans = await Promise.all(chosen.map(async (runtime) => planners[runtime](settings, files)));
  const wanted = plans.flatMap((plan) => plan.files);
  const changes: FileChange[] = [];
  const record: RecordEntry[] = entries.filter(({ runtime }) => !chosen.includes(runtime));
  for (const file of wanted) {
    const { change, base } = await wantedChange(file, entries, files);
    changes.push(change);
    const { url, host } = settings.agent;
    record.push({ runtime: file.runtime, path: file.path, before: base ?? null, after: change.after ?? '', agent: { url, host } });
  }
  const dropped = entries.filter(({ runtime, path }) => chosen.includes(runtime) && !wanted.some((file) => file.path === path));
  for (const entry of dropped) changes.push(await takenBack(entry, files));
  return { changes, notes: plans.flatMap((plan) => plan.notes), record };
}

/** Everything that was ever written for the named runtimes is taken back. */
export async function planRemove(chosen: readonly Runtime[], files: HostFiles): Promise<ConfigurePlan> {
  const entries = await readRecord(files);
  const taken = entries.filter(({ runtime }) => chosen.includes(runtime));
  const changes = await Promise.all(taken.map(async (entry) => takenBack(entry, files)));
  return { changes, notes: [], record: entries.filter((entry) => !taken.includes(entry)) };
}

interface Wanted {
  readonly change: FileChange;
  /** The file without ours. */
  readonly base: string | undefined;
}

async function wantedChange({ runtime, path, add }: WantedFile, entries: readonly RecordEntry[], files: HostFiles): Promise<Wanted> {
  const before = await files.read(path);
  const base = withoutOurs(
    before,
    entries.find((entry) => entry.path === path),
  );
  return { change: { runtime, path, before, after: add(base) }, base };
}

async function takenBack(entry: RecordEntry, files: HostFiles): Promise<FileChange> {
  const before = await files.read(entry.path);
  return { runtime: entry.runtime, path: entry.path, before, after: withoutOurs(before, entry) };
}

/** The exact old file when nobody has changed it since; otherwise the present one without what is ours. */
function withoutOurs(current: string | undefined, entry: RecordEntry | undefined): string | undefined {
  if (current === undefined) return undefined;
  if (entry === undefined) return withoutMarked(current);
  if (current === entry.after) return entry.before ?? undefined;
  return entry.runtime === 'docker' ? withoutMirror(current, entry.before ?? undefined, entry.agent) : withoutMarked(current);
}
