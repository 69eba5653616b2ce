/**
 * Runs the official conformance program of the distribution specification, where one is given, and judges it by the report it prints: it ends with 0
 * when checks are skipped and when its settings are wrong, and its JUnit file does not tell what it was told to leave out from what the registry lacks.
 */
import { mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { run } from '../support/processes.ts';
import type { Login } from './login.ts';
import type { Stock } from './read-only.ts';
import type { CheckResult, Recorder } from './recorder.ts';

/** Path of the built program. */
export const officialVariable = 'OCI_CONFORMANCE';

export const howToGiveIt = [
  `The official program was not given: set ${officialVariable} to a built one to run it as well.`,
  'It is the folder conformance of github.com/opencontainers/distribution-spec: go build -o conformance . (Go 1.24 or newer).',
].join('\n');

const timeoutMs = 600_000;
/** The versions whose checks are demanded: the released specification, and the one in development. */
export const versions = ['1.1', 'dev'] as const;
type Version = (typeof versions)[number];

/** For a registry that takes pushes: all there is to pass at commit 4fc4ecb is 860 and 986, in 693 and 793 tests. Other states of the program differ a little. */
const passedMin: Readonly<Record<Version, number>> = { '1.1': 840, dev: 960 };

export interface OfficialTarget {
  readonly name: string;
  /** `host:port` */
  readonly address: string;
  readonly login?: Login;
  /** For a node that takes no pushes. */
  readonly stock?: Stock;
  /** For one that takes manifests without all that they refer to. */
  readonly isSparse?: boolean;
}

/** One run of the program, as it counts it. */
export interface OfficialRun {
  readonly version: Version;
  readonly counts: OfficialReport['counts'];
}

/** Runs the program once for each version; every test of it becomes a check. */
export async function runOfficial(
  program: string,
  target: OfficialTarget,
  directory: string,
  recorder: Recorder,
): Promise<readonly OfficialRun[]> {
  const runs: OfficialRun[] = [];
  for (const version of versions) {
    const area = `official, OCI_VERSION=${version}`;
    const results = join(directory, `${target.name}-${version}`.replaceAll(/[^a-z0-9.-]/g, '-'));
    mkdirSync(results, { recursive: true });
    const env = { ...withoutOwn(process.env), ...environment(target, version, results) };
    const { code, stdout, stderr } = await run(resolve(program), [], { cwd: results, env, timeoutMs });
    const report = reportOf(stdout);
    for (const { name, outcome, message } of report.results)
      recorder.results.push({ target: target.name, area, name, outcome, message, elapsedMs: 0 });
    await recorder.area(target.name, area)('the program reached its end, and its own counts are clean', async () => {
      const fault = faultOf(report, target, version, code);
      if (fault !== undefined) throw new Error(`${fault}: ${stdout.slice(-1000)}${stderr.slice(-500)}`);
    });
    runs.push({ version, counts: report.counts });
  }
  return runs;
}

/** For people: what the program counted. */
export function countsLine(target: string, { version, counts }: OfficialRun): string {
  const shown = Object.entries(counts).map(([status, count]) => `${status} ${count}`);
  return `${target}, OCI_VERSION=${version}: ${shown.length === 0 ? 'it counted nothing' : shown.join(', ')}`;
}

/** What nobody meant for this run must not decide about it. */
function withoutOwn(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.keys(env).flatMap((name) => (name.startsWith('OCI_') ? [[name, undefined]] : [])));
}

function environment(
  { address, stock, name, login, isSparse = false }: OfficialTarget,
  version: Version,
  results: string,
): NodeJS.ProcessEnv {
  const repository = `official/${name.replaceAll(/[^a-z0-9]+/g, '-')}-${version.replaceAll('.', '-')}`;
  return {
    OCI_VERSION: version,
    OCI_REGISTRY: address,
    OCI_TLS: 'disabled',
    OCI_REPO1: stock?.repository ?? `${repository}/repo1`,
    OCI_REPO2: `${repository}/repo2`,
    OCI_RESULTS_DIR: results,
    ...(login === undefined ? {} : { OCI_USERNAME: login.user, OCI_PASSWORD: login.password }),
    ...(isSparse ? { OCI_DATA_SPARSE: 'true' } : {}),
    ...(stock === undefined ? {} : readOnly(stock)),
  };
}

/** What a stock has for a node that only reads. */
function namesIn({ sets, small }: Stock): {
  readonly tags: readonly string[];
  readonly digests: readonly string[];
  readonly blobs: readonly string[];
  readonly subjects: readonly string[];
} {
  const manifests = sets.flatMap((set) => set.manifests);
  return {
    tags: manifests.flatMap(({ tag, tagParameters = [] }) => [...(tag === undefined ? [] : [tag]), ...tagParameters]),
    digests: manifests.map(({ digest }) => digest),
    blobs: [...new Set([small, ...sets.flatMap((set) => set.blobs)].map(({ digest }) => digest))],
    subjects: [...new Set(manifests.flatMap(({ subject }) => subject ?? []))],
  };
}

/** Lists are separated by single blanks. */
function readOnly(stock: Stock): NodeJS.ProcessEnv {
  const { tags, digests, blobs, subjects } = namesIn(stock);
  const switchedOff = [
    'PUSH',
    'BLOBS_DELETE',
    'BLOBS_MOUNT_ANONYMOUS',
    'BLOBS_UPLOAD_CANCEL',
    'MANIFESTS_DELETE',
    // With manifests that it has not made itself the program looks for this header in a reply it has not kept, and never finds it.
    'MANIFESTS_DIGEST_HEADER',
    'MANIFESTS_TAG_PARAM',
    'TAGS_DELETE',
  ];
  return {
    ...Object.fromEntries(switchedOff.map((name) => [`OCI_API_${name}`, 'false'])),
    OCI_RO_DATA_TAGS: tags.join(' '),
    OCI_RO_DATA_MANIFESTS: digests.join(' '),
    OCI_RO_DATA_BLOBS: blobs.join(' '),
    OCI_RO_DATA_REFERRERS: subjects.join(' '),
  };
}

type OfficialResult = Pick<CheckResult, 'name' | 'outcome'> & { readonly message: string };

export interface OfficialReport {
  /** Its tests without those that its settings switch off. */
  readonly results: readonly OfficialResult[];
  /** `Pass`, once it has reached its end and nothing failed. */
  readonly verdict: string | undefined;
  /** How many checks it counts in each status; a test may hold several. */
  readonly counts: Readonly<Record<string, number>>;
}

const statuses: Readonly<Record<string, CheckResult['outcome'] | undefined>> = {
  Pass: 'passed',
  Skip: 'skipped',
  FAIL: 'failed',
  Error: 'failed',
};

/** Reads the printed report: a tree of tests, indented, each line a path and a status, with errors below; then the verdict and the counts. */
export function reportOf(stdout: string): OfficialReport {
  const verdict = /^OCI Conformance Result: (\w+)$/m.exec(stdout);
  const tree = stdout.slice(0, verdict?.index ?? stdout.length);
  const nodes = [...tree.matchAll(/^( *)(OCI Conformance Test(?:\/.*)?): (Pass|Skip|Disabled|FAIL|Error|Unknown)$/gm)];
  const results = nodes.flatMap((node, index): OfficialResult[] => {
    const [line, indent = '', name = '', status = ''] = node;
    const next = nodes[index + 1];
    const outcome = statuses[status];
    if (outcome === undefined || (next?.[1] ?? '').length > indent.length) return [];
    const errors = tree.slice(node.index + line.length, next?.index ?? tree.length).split(/^$/m)[0] ?? '';
    return [{ name, outcome, message: outcome === 'passed' ? '' : errors.trim() }];
  });
  const rest = stdout.slice(verdict?.index ?? stdout.length).split(/^$/m)[0] ?? '';
  const counts = Object.fromEntries([...rest.matchAll(/^ +(\w+)\.+: +(\d+)$/gm)].map(([, status = '', count]) => [status, Number(count)]));
  return { results, verdict: verdict?.[1], counts };
}

/** Each is asked for by HEAD and by GET. */
function readingMin(stock: Stock): number {
  const { tags, digests, blobs } = namesIn(stock);
  return 2 * (tags.length + digests.length + blobs.length);
}

/** Why a run does not hold; undefined when it does. */
function faultOf(
  { verdict, counts }: OfficialReport,
  { stock }: OfficialTarget,
  version: Version,
  code: number | null,
): string | undefined {
  if (verdict === undefined) return `no result was printed; exit code ${code}`;
  for (const status of ['FAIL', 'Error', 'Skip']) if (counts[status] !== 0) return `${status}: ${counts[status] ?? 'no count'}`;
  const passed = counts['Pass'] ?? 0;
  const least = stock === undefined ? passedMin[version] : readingMin(stock);
  if (verdict !== 'Pass' || passed < least) return `${verdict} with ${passed} passes of at least ${least}`;
  // Without pushes the program crashes while it writes its files, which is after its report.
  return stock === undefined && code !== 0 ? `exit code ${code}` : undefined;
}
