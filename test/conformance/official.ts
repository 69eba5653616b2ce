/**
 * Runs the official conformance program of the distribution specification, where one is given, and judges it by what it wrote: the program
 * itself ends with 0 when checks are skipped, when its settings are wrong and when its results cannot be written.
 */
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { run } from '../support/processes.ts';
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

export interface OfficialTarget {
  readonly name: string;
  /** `host:port` */
  readonly address: string;
  /** For a node that takes no pushes. */
  readonly stock?: Stock;
}

/** Runs the program once for each version; every test case becomes a check. */
export async function runOfficial(program: string, target: OfficialTarget, directory: string, recorder: Recorder): Promise<void> {
  for (const version of versions) {
    const area = `official, OCI_VERSION=${version}`;
    const results = join(directory, `${target.name}-${version}`.replaceAll(/[^a-z0-9.-]/g, '-'));
    mkdirSync(results, { recursive: true });
    const { code, stdout, stderr } = await run(resolve(program), [], {
      cwd: results,
      env: environment(target, version, results),
      timeoutMs,
    });
    const file = join(results, 'junit.xml');
    const cases = existsSync(file) ? testCases(readFileSync(file, 'utf8')) : [];
    for (const { name, outcome, message } of cases)
      recorder.results.push({ target: target.name, area, name, outcome, message, elapsedMs: 0 });
    await recorder.area(target.name, area)('the program ended well and wrote its results', async () => {
      if (code !== 0 || cases.length === 0) throw new Error(`exit code ${code}, ${cases.length} results: ${stdout}${stderr}`.slice(-1500));
    });
  }
}

function environment({ address, stock, name }: OfficialTarget, version: string, results: string): NodeJS.ProcessEnv {
  const repository = `official/${name.replaceAll(/[^a-z0-9]/g, '-')}-${version.replaceAll('.', '-')}`;
  return {
    OCI_VERSION: version,
    OCI_REGISTRY: address,
    OCI_TLS: 'disabled',
    OCI_REPO1: stock?.repository ?? `${repository}/repo1`,
    OCI_REPO2: `${repository}/repo2`,
    OCI_RESULTS_DIR: results,
    ...(stock === undefined ? {} : readOnly(stock)),
  };
}

/** Lists are separated by blanks. */
function readOnly({ sets, small }: Stock): NodeJS.ProcessEnv {
  const manifests = sets.flatMap((set) => set.manifests);
  const switchedOff = [
    'PUSH',
    'BLOBS_DELETE',
    'BLOBS_MOUNT_ANONYMOUS',
    'BLOBS_UPLOAD_CANCEL',
    'MANIFESTS_DELETE',
    'MANIFESTS_TAG_PARAM',
    'TAGS_DELETE',
  ];
  return {
    ...Object.fromEntries(switchedOff.map((name) => [`OCI_API_${name}`, 'false'])),
    OCI_RO_DATA_TAGS: manifests.flatMap(({ tag }) => tag ?? []).join(' '),
    OCI_RO_DATA_MANIFESTS: manifests.map(({ digest }) => digest).join(' '),
    OCI_RO_DATA_BLOBS: small.digest,
    OCI_RO_DATA_REFERRERS: [...new Set(manifests.flatMap(({ subject }) => subject ?? []))].join(' '),
  };
}

type TestCase = Pick<CheckResult, 'name' | 'outcome'> & { readonly message: string };

/** The test cases of a JUnit file. An error counts as a failure. */
export function testCases(xml: string): TestCase[] {
  return [...xml.matchAll(/<testcase\b([^>]*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g)].map(([, attributes = '', content = '']) => {
    const name = `${attribute(attributes, 'classname')}/${attribute(attributes, 'name')}`.replace(/^\//, '');
    const status = attribute(attributes, 'status');
    const failed = /<(failure|error)\b/.test(content) || /^(fail|error)/i.test(status);
    const skipped = /<skipped\b/.test(content) || /^skip/i.test(status);
    const message = /<(?:failure|error|skipped)\b[^>]*message="([^"]*)"/.exec(content)?.[1] ?? '';
    return { name, outcome: failed ? 'failed' : skipped ? 'skipped' : 'passed', message };
  });
}

function attribute(attributes: string, name: string): string {
  return new RegExp(`\\b${name}="([^"]*)"`).exec(attributes)?.[1] ?? '';
}
