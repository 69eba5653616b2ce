/** How the conformance program judges its own results and those of the official program. */
import assert from 'node:assert/strict';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { countsLine, type OfficialRun, reportOf, runOfficial } from '#test/conformance/official';
import { type CheckResult, isClean, Recorder, Skip, totalsOf } from '#test/conformance/recorder';
import { junit, table } from '#test/conformance/report';
import { tempDir } from '#test/support/temp';

/** A printed report of the same form. */
const printed = ({ passed = 900, failed = 0, skipped = 0, verdict = 'Pass' } = {}): string => `Test results
OCI Conformance Test: ${verdict}
  OCI Conformance Test/ping: Pass
  OCI Conformance Test/sha256 blobs: Pass
    OCI Conformance Test/sha256 blobs/post+put: Pass
      OCI Conformance Test/sha256 blobs/post+put/blob-head: Pass
      OCI Conformance Test/sha256 blobs/post+put/blob-head: FAIL
       - wanted 200, got 500
       - and a body
    OCI Conformance Test/sha256 blobs/post cancel: Disabled
      OCI Conformance Test/sha256 blobs/post cancel/blob-post-cancel: Disabled
    OCI Conformance Test/sha256 blobs/mount: Skip
      OCI Conformance Test/sha256 blobs/mount/blob-mount: Skip
       - status 202
  OCI Conformance Test/empty: Unknown
  OCI Conformance Test/last: Error

Configuration:
  registry: localhost:5000

OCI Conformance Result: ${verdict}
  Disabled......................:          1
  Skip..........................:          ${skipped}
  Pass..........................:        ${passed}
  FAIL..........................:          ${failed}
  Error.........................:          0
  Total.........................:        ${passed + failed + skipped + 1}

API conformance:
  Ping..........................:       Pass
`;

test('the leaves of a printed report are its tests; what was switched off and what held nothing is none', () => {
  const { results, verdict, counts } = reportOf(printed());
  const name = (path: string): string => `OCI Conformance Test/${path}`;
  assert.deepEqual(results, [
    { name: name('ping'), outcome: 'passed', message: '' },
    { name: name('sha256 blobs/post+put/blob-head'), outcome: 'passed', message: '' },
    { name: name('sha256 blobs/post+put/blob-head'), outcome: 'failed', message: '- wanted 200, got 500\n       - and a body' },
    { name: name('sha256 blobs/mount/blob-mount'), outcome: 'skipped', message: '- status 202' },
    { name: name('last'), outcome: 'failed', message: '' },
  ]);
  assert.equal(verdict, 'Pass');
  assert.deepEqual(counts, { Disabled: 1, Skip: 0, Pass: 900, FAIL: 0, Error: 0, Total: 901 });
  assert.deepEqual(reportOf('failed to load config: no such file\n'), { results: [], verdict: undefined, counts: {} });
});

/** Runs a program that leaves its environment in a file and prints what it is told to; returns what became of both versions, and the environments. */
async function runStandIn(
  text: string,
  code: number,
  target: object = {},
): Promise<{ last: CheckResult[]; environments: NodeJS.ProcessEnv[]; runs: readonly OfficialRun[] }> {
  const directory = tempDir('official');
  const program = join(directory, 'program');
  const lines = [
    `#!${process.execPath}`,
    "require('node:fs').writeFileSync(process.env.OCI_RESULTS_DIR + '/env.json', JSON.stringify(process.env));",
    `process.stdout.write(${JSON.stringify(text)}, () => process.exit(${code}));`,
  ];
  writeFileSync(program, lines.join('\n'));
  chmodSync(program, 0o755);
  const recorder = new Recorder();
  const runs = await runOfficial(program, { name: 'some, node', address: '127.0.0.1:1', ...target }, directory, recorder);
  const ends = recorder.results.filter(({ name }) => name.startsWith('the program reached'));
  const environments = ['1.1', 'dev'].map((version) =>
    JSON.parse(readFileSync(join(directory, `some--node-${version}`, 'env.json'), 'utf8')),
  );
  return { last: ends, environments, runs };
}

const outcomes = (results: readonly CheckResult[]): readonly string[] => results.map(({ outcome }) => outcome);

test('both versions are run, with nothing from outside that the program would read', async (t) => {
  process.env['OCI_FILTER_TEST'] = 'OCI Conformance Test/ping';
  t.after(() => delete process.env['OCI_FILTER_TEST']);
  const login = { user: 'u', password: 'p' };
  const { last, environments } = await runStandIn(printed({ passed: 1000 }), 0, { login });
  assert.deepEqual(outcomes(last), ['passed', 'passed']);
  const own = environments.map((env) => Object.fromEntries(Object.entries(env).filter(([name]) => name.startsWith('OCI_'))));
  assert.deepEqual(
    own.map(({ OCI_RESULTS_DIR: _, ...rest }) => rest),
    ['1.1', 'dev'].map((version) => ({
      OCI_VERSION: version,
      OCI_REGISTRY: '127.0.0.1:1',
      OCI_TLS: 'disabled',
      OCI_REPO1: `official/some-node-${version.replace('.', '-')}/repo1`,
      OCI_REPO2: `official/some-node-${version.replace('.', '-')}/repo2`,
      OCI_USERNAME: 'u',
      OCI_PASSWORD: 'p',
    })),
  );
});

test('a run with a failure, with a skip, with too few passes or without an end does not hold', async () => {
  for (const [text, code] of [
    [printed({ passed: 1000, failed: 1, verdict: 'FAIL' }), 1],
    [printed({ passed: 1000, skipped: 1 }), 0],
    [printed({ passed: 100 }), 0],
    [printed({ passed: 1000 }), 2],
    ['failed to load config\n', 0],
  ] as const) {
    const { last } = await runStandIn(text, code);
    assert.deepEqual(outcomes(last), ['failed', 'failed'], text);
  }
});

test('what the program counted is told for each version, also when it counted nothing', async () => {
  const { runs } = await runStandIn(printed({ passed: 1000, skipped: 2 }), 0);
  assert.deepEqual(
    runs.map((run) => countsLine('some node', run)),
    ['1.1', 'dev'].map((version) => `some node, OCI_VERSION=${version}: Disabled 1, Skip 2, Pass 1000, FAIL 0, Error 0, Total 1003`),
  );
  const broken = await runStandIn('failed to load config\n', 0);
  assert.deepEqual(
    broken.runs.map((run) => countsLine('some node', run)),
    ['1.1', 'dev'].map((version) => `some node, OCI_VERSION=${version}: it counted nothing`),
  );
});

test('a node without pushes is named what it has, and may end badly after a good report', async () => {
  const manifests = [
    { digest: 'sha256:m1', tag: 't1', subject: 'sha256:s' },
    { digest: 'sha256:m2', tagParameters: ['t2', 't3'], subject: 'sha256:s' },
  ];
  const stock = {
    repository: 'some/stock',
    sets: [{ name: 'set', blobs: [{ digest: 'sha256:c' }, { digest: 'sha256:b' }], manifests }],
    small: { digest: 'sha256:b' },
  };
  const { last, environments } = await runStandIn(printed({ passed: 14 }), 2, { stock });
  assert.deepEqual(outcomes(last), ['passed', 'passed']);
  const [env] = environments;
  assert.deepEqual(
    ['TAGS', 'MANIFESTS', 'BLOBS', 'REFERRERS'].map((name) => env?.[`OCI_RO_DATA_${name}`]),
    ['t1 t2 t3', 'sha256:m1 sha256:m2', 'sha256:b sha256:c', 'sha256:s'],
  );
  assert.equal(env?.['OCI_REPO1'], 'some/stock');
  assert.equal(env?.['OCI_API_PUSH'], 'false');
  assert.deepEqual(outcomes((await runStandIn(printed({ passed: 13 }), 0, { stock })).last), ['failed', 'failed']);
});

test('what this program writes counts passes, failures and skips', async () => {
  const recorder = new Recorder();
  const check = recorder.area('proxy', 'blobs');
  await check('works', async () => undefined);
  await check('a < b & "c"', async () => {
    throw new Error('no <digest>');
  });
  await check('optional', async () => {
    throw new Skip('not offered');
  });
  const xml = junit(recorder.results);
  assert.match(xml, /<testcase name="works" time="[\d.e-]+"\/>/);
  assert.match(xml, /<testcase name="a &lt; b &amp; &quot;c&quot;" time="[\d.e-]+"><failure message="no &lt;digest&gt;"\/>/);
  assert.match(xml, /<skipped message="not offered"\/>/);
  assert.match(table(recorder.results), /proxy +blobs +1 +1 +1/);
});

test('a run is clean only without failures, without skips and with enough passes', () => {
  assert.equal(isClean({ passed: 10, failed: 0, skipped: 0 }, 10), true);
  assert.equal(isClean({ passed: 9, failed: 0, skipped: 0 }, 10), false);
  assert.equal(isClean({ passed: 10, failed: 1, skipped: 0 }, 10), false);
  assert.equal(isClean({ passed: 10, failed: 0, skipped: 1 }, 10), false);
  assert.deepEqual(totalsOf([]), { passed: 0, failed: 0, skipped: 0 });
});
