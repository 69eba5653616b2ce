/** `shoal gc`: collects garbage now, first among the names in the build-index, then among the bytes at the origins. */
import { Command, InvalidArgumentError } from 'commander';
import { AppError, isAppError, toAppError } from '#core';
import { parseDuration } from '#runtime';
import { durationToProto } from '#wire';
import { type ClusterNode, clusterFileDefault, type OperatorSession, openCluster } from './cluster-file.ts';
import { type BytesReport, collectBytes, collectNames, type GcTerms, type NamesReport } from './gc-calls.ts';
import { progressLine, reportText } from './gc-report.ts';
import { print, printJson } from './output.ts';

interface Flags {
  readonly cluster: string;
  readonly dryRun?: boolean;
  readonly repository: string;
  readonly grace?: number;
  readonly trustIndex?: boolean;
  readonly json?: boolean;
}

export function gcCommand(): Command {
  return new Command('gc')
    .description(
      'collects garbage now: tags and manifests by the retention rules, blobs that no manifest reaches, bytes that no repository shows',
    )
    .option('--dry-run', 'only say what would go')
    .option('--repository <pattern>', 'only the names of these repositories: * is any text without a slash, ** any text', '')
    .option(
      '--grace <duration>',
      'instead of the configured ones, e.g. 1h; below the length of a push, pushes under way may have to be repeated',
      duration,
    )
    .option('--trust-index', 'believe a build-index that was restored or replaced: bytes of names that it has lost are deleted')
    .option('--cluster <file>', 'the cluster file', clusterFileDefault)
    .option('--json', 'print everything that goes as one JSON document')
    .action(runGc);
}

async function runGc(flags: Flags): Promise<void> {
  await using session = await openCluster(flags.cluster);
  const terms: GcTerms = {
    dryRun: flags.dryRun === true,
    repositoryPattern: flags.repository,
    grace: flags.grace === undefined ? undefined : durationToProto(flags.grace),
    trustIndex: flags.trustIndex === true,
  };
  const line = progressLine(flags.json === true || !process.stderr.isTTY ? undefined : process.stderr);
  try {
    const names = await collectNames(session, nodeOf(session, 'build-index'), terms, (done) => line.show('names', done));
    const origins = session.file.nodes.filter(({ role }) => role === 'origin');
    const bytes = await Promise.all(origins.map((origin) => bytesOf(session, origin, terms, (done) => line.show(origin.id, done))));
    line.end();
    report(names, bytes, flags);
  } finally {
    line.end();
  }
}

function report(names: NamesReport, bytes: readonly BytesReport[], flags: Flags): void {
  if (flags.json === true) printJson({ dryRun: flags.dryRun === true, names: names.items, origins: bytes });
  else print(reportText(names, bytes, { dryRun: flags.dryRun === true }));
  if (bytes.some(({ error }) => error !== undefined)) process.exitCode = 1;
}

/** An origin that fails does not keep the others from collecting. */
async function bytesOf(
  session: OperatorSession,
  origin: ClusterNode,
  terms: GcTerms,
  onProgress: (done: { readonly count: number; readonly total: number }) => void,
): Promise<BytesReport> {
  try {
    return { origin: origin.id, blobs: await collectBytes(session, origin, terms, onProgress), error: undefined };
  } catch (error) {
    const failure = toAppError(error);
    return { origin: origin.id, blobs: [], error: isAppError(error) ? failure.message : String(error) };
  }
}

function nodeOf(session: OperatorSession, role: ClusterNode['role']): ClusterNode {
  const node = session.file.nodes.find((candidate) => candidate.role === role);
  if (node === undefined) throw new AppError('not-found', `the cluster file names no ${role}: add it`);
  return node;
}

function duration(text: string): number {
  const value = text === '0' ? 0 : parseDuration(text);
  if (value === undefined) throw new InvalidArgumentError('write it like 30m or 24h');
  return value;
}
