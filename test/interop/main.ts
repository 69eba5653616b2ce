/**
 * `make interop`: every client pushes to a proxy and pulls from agents. Ends with 1 when one of them fails, when a tool is missing, or when
 * the table in the README says something else; `--write` puts the table there. `--only NAME...` tries some, and leaves the README alone.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startCluster } from '../support/cluster-process.ts';
import { tempDir } from '../support/temp.ts';
import { containerd } from './clients/containerd.ts';
import { buildah, podman } from './clients/containers.ts';
import { crane } from './clients/crane.ts';
import { docker } from './clients/docker.ts';
import { helm } from './clients/helm.ts';
import { oras } from './clients/oras.ts';
import { skopeo } from './clients/skopeo.ts';
import type { ClientFactory, Field } from './field.ts';
import { makeLayout } from './layout.ts';
import { markdown, type Outcome, type Row, withoutVersions, withTable } from './table.ts';
import { findTools, type Versions } from './tools.ts';

const readme = 'README.md';
const factories = { docker, containerd, podman, buildah, skopeo, crane, oras, helm } as const;

const { values: flags, positionals } = parseArgs({
  options: { write: { type: 'boolean', default: false }, only: { type: 'boolean', default: false } },
  allowPositionals: true,
});

async function outcomeOf(job: (() => Promise<void>) | undefined): Promise<Outcome> {
  if (job === undefined) return { state: 'cannot' };
  try {
    await job();
    return { state: 'yes' };
  } catch (error) {
    return { state: 'failed', message: error instanceof Error ? error.message : String(error) };
  }
}

async function tryClient(factory: ClientFactory, field: Field, versions: Versions): Promise<Row> {
  const client = await factory(field, (tool) => versions.get(tool) ?? '');
  try {
    const { name, version, remarks } = client;
    const [push, pull] = [await outcomeOf(client.push), await outcomeOf(client.pull)];
    return { name, version, remarks, push, pull, index: await outcomeOf(client.index), artifact: await outcomeOf(client.artifact) };
  } finally {
    await client[Symbol.asyncDispose]?.();
  }
}

/** Tries the clients in turn, so that what one does is not the load of another. */
async function tryAll(chosen: readonly ClientFactory[], versions: Versions): Promise<Row[]> {
  const root = tempDir('interop');
  const { images, layout } = await makeLayout(root);
  await using cluster = await startCluster({ directory: join(root, 'cluster') });
  const agents = [cluster.registry('agent-1'), cluster.registry('agent-2')] as const;
  const field = { root, cluster, proxy: cluster.registry('proxy-1'), agents, images, layout };
  const rows: Row[] = [];
  for (const factory of chosen) {
    const startMs = performance.now();
    const row = await tryClient(factory, field, versions);
    process.stderr.write(`${row.name} ${row.version}: ${((performance.now() - startMs) / 1000).toFixed(1)} s\n`);
    rows.push(row);
  }
  return rows;
}

/** Says what failed; true when nothing did. */
function judge(rows: readonly Row[]): boolean {
  const failures = rows.flatMap(({ name, ...row }) =>
    (['push', 'pull', 'index', 'artifact'] as const).flatMap((job) => {
      const outcome = row[job];
      return outcome.state === 'failed' ? [`failed: ${name}: ${job}: ${outcome.message}`] : [];
    }),
  );
  for (const failure of failures) process.stderr.write(`${failure}\n`);
  return failures.length === 0;
}

function summary(rows: readonly Row[]): string {
  const states = rows.flatMap(({ push, pull, index, artifact }) => [push, pull, index, artifact]).map(({ state }) => state);
  const count = (wanted: Outcome['state']): number => states.filter((state) => state === wanted).length;
  return `${rows.length} clients: ${count('yes')} passed, ${count('failed')} failed`;
}

/** Writes the table, or compares it; true when the README says what was found. */
function settleReadme(table: string): boolean {
  const before = readFileSync(readme, 'utf8');
  const after = withTable(before, table);
  if (flags.write) writeFileSync(readme, after);
  else if (withoutVersions(before) !== withoutVersions(after)) {
    process.stderr.write(`the table in ${readme} says something else: make interop ARGS=--write\n`);
    return false;
  }
  return true;
}

async function main(): Promise<boolean> {
  const unknown = positionals.filter((name) => !Object.hasOwn(factories, name));
  if (unknown.length > 0 || flags.only !== positionals.length > 0)
    throw new Error(`--only takes some of: ${Object.keys(factories).join(' ')}`);
  const versions = await findTools();
  const chosen = Object.entries(factories).filter(([name]) => !flags.only || positionals.includes(name));
  const rows = await tryAll(
    chosen.map(([, factory]) => factory),
    versions,
  );
  const table = markdown(rows);
  process.stdout.write(`${table}\n${summary(rows)}\n`);
  return judge(rows) && (flags.only || settleReadme(table));
}

try {
  process.exitCode = (await main()) ? 0 : 1;
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
