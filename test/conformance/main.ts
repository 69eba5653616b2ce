/**
 * `make conformance`: the suite against a proxy, against proxies behind a balancer, against proxies with logins, and its reading part against an
 * agent that is downloading. Ends with 1 when anything failed or was skipped. With `--registry host:port` it runs against that registry instead.
 */
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { startCluster, type TestCluster } from '../support/cluster-process.ts';
import { RoundRobin } from '../support/round-robin.ts';
import { tempDir } from '../support/temp.ts';
import { checkLogins, gatewayWithLogins, logins } from './logins.ts';
import { countsLine, howToGiveIt, type OfficialTarget, officialVariable, runOfficial } from './official.ts';
import { checkReadOnly, type Downloading, duringDownload, type Stock, stockUp } from './read-only.ts';
import { isClean, Recorder, totalsOf } from './recorder.ts';
import { Registry } from './registry.ts';
import { junit, table, troubles } from './report.ts';
import { runSparse, runSuite } from './suite.ts';

/** A run with fewer checks than this has lost some of them. */
const suitePassedMin = 1100;
const sparseTarget = 'sparse manifests taken';
const passedMin: Readonly<Record<string, number>> = { agent: 350, [sparseTarget]: 30 };
/** Slow enough that everything else is asked meanwhile, on a slow machine too. */
const agentIngress = '1MiB/s';
const largeBytes = 128 * 2 ** 20;

const { values: flags } = parseArgs({
  options: { json: { type: 'boolean', default: false }, junit: { type: 'string' }, registry: { type: 'string' } },
});

const recorder = new Recorder();
/** Path of the official program; empty when none was given. */
const official = process.env[officialVariable] ?? '';
const say = (text: string): void => {
  process.stderr.write(`${text}\n`);
};

async function runCluster(directory: string): Promise<void> {
  await using cluster = await startCluster({ directory: join(directory, 'cluster'), proxies: 2 });
  const proxy = cluster.registry('proxy-1');
  await using balancer = await RoundRobin.open([proxy, cluster.registry('proxy-2')]);
  using registry = new Registry({ url: `http://${proxy}` });
  using balanced = new Registry({ url: `http://${balancer.address}` });
  say('one proxy');
  await runSuite(registry, recorder, 'one proxy');
  say('two proxies behind a balancer that sends each request to the other one');
  await runSuite(balanced, recorder, 'two proxies, balanced');
  const stock = await stockUp(registry, largeBytes);
  say('an agent that is downloading');
  await readFromAgent(cluster, stock);
  await runOfficialAt([
    { name: 'one proxy', address: proxy },
    { name: 'two proxies, balanced', address: balancer.address },
  ]);
  await runOfficialAtAgent(cluster, stock);
  await takeSparse(cluster);
}

/** The other proxy again, set to take manifests without all that they refer to. */
async function takeSparse(cluster: TestCluster): Promise<void> {
  const id = 'proxy-2';
  cluster.kill(id);
  appendFileSync(join(cluster.directory, 'config', `${id}.yaml`), '\nsparseManifests: true\n');
  await using _restarted = await cluster.restart(id);
  say('one proxy that takes manifests without all that they refer to');
  const address = cluster.registry(id);
  using registry = new Registry({ url: `http://${address}` });
  await runSparse(registry, recorder, sparseTarget);
  await runOfficialAt([{ name: sparseTarget, address, isSparse: true }]);
}

/** Two gateways that take each other's tokens, each request at the other one. */
async function runClusterWithLogins(directory: string): Promise<void> {
  const args = ['--gateway-config', gatewayWithLogins(directory)];
  await using cluster = await startCluster({ directory: join(directory, 'cluster-logins'), agents: 1, origins: 1, proxies: 2, args });
  await using balancer = await RoundRobin.open([cluster.registry('proxy-1'), cluster.registry('proxy-2')]);
  const url = `http://${balancer.address}`;
  using registry = new Registry({ url, login: logins.owner });
  const target = 'two proxies, logins';
  say('two proxies with logins behind such a balancer');
  await runSuite(registry, recorder, target);
  await checkLogins(url, recorder.area(target, 'logins'));
  await runOfficialAt([{ name: target, address: balancer.address, login: logins.owner }]);
}

async function runOfficialAt(targets: readonly OfficialTarget[]): Promise<void> {
  if (official === '') return;
  say('the official program');
  for (const target of targets)
    for (const run of await runOfficial(official, target, directory, recorder)) say(countsLine(target.name, run));
}

/** The reading part of the official program, at an agent that is downloading as well. */
async function runOfficialAtAgent(cluster: TestCluster, stock: Stock): Promise<void> {
  if (official === '') return;
  const id = 'agent-2';
  const address = cluster.registry(id);
  using registry = new Registry({ url: `http://${address}` });
  const check = recorder.area('agent', 'official program, while downloading');
  const node = await slowDown(cluster, id, stock);
  await duringDownload({ registry, check, stock, ...node }, async () => runOfficialAt([{ name: 'agent', address, stock }]));
}

interface ShownTransfer {
  readonly digest: string;
  readonly complete: boolean;
}

/** Makes an agent take long for the large blob. */
async function slowDown(cluster: TestCluster, id: string, stock: Stock): Promise<Pick<Downloading, 'isDownloading' | 'hurry'>> {
  const isDownloading = async (): Promise<boolean> => {
    const { stdout } = await cluster.shoal('transfers', id, '--json');
    const transfers = JSON.parse(stdout) as readonly ShownTransfer[];
    return transfers.some(({ digest, complete }) => digest === stock.large.digest && !complete);
  };
  const limitIngress = async (rate: string): Promise<void> => {
    const { code, stderr } = await cluster.shoal('limits', id, '--set', `ingress=${rate}`);
    if (code !== 0) throw new Error(`the agent's limit does not change: ${stderr}`);
  };
  await limitIngress(agentIngress);
  return { isDownloading, hurry: async () => limitIngress('0') };
}

async function readFromAgent(cluster: TestCluster, stock: Stock): Promise<void> {
  const id = 'agent-1';
  using registry = new Registry({ url: `http://${cluster.registry(id)}` });
  const check = recorder.area('agent', 'reading while downloading');
  const node = await slowDown(cluster, id, stock);
  await checkReadOnly({ registry, repository: stock.repository, check, stock, ...node });
}

/** The checks of each target, of which none may be missing. */
function isComplete(): boolean {
  const own = recorder.results.filter(({ area }) => !area.startsWith('official'));
  const targets = new Set(own.map(({ target }) => target));
  return [...targets].every((target) =>
    isClean(totalsOf(own.filter((result) => result.target === target)), passedMin[target] ?? suitePassedMin),
  );
}

const directory = tempDir('conformance');
if (flags.registry === undefined) {
  await runCluster(directory);
  await runClusterWithLogins(directory);
  if (official === '') say(howToGiveIt);
} else {
  using registry = new Registry({ url: `http://${flags.registry}` });
  await runSuite(registry, recorder, flags.registry);
}
if (flags.junit !== undefined) {
  mkdirSync(dirname(flags.junit), { recursive: true });
  writeFileSync(flags.junit, junit(recorder.results));
}
const trouble = troubles(recorder.results);
if (flags.json) process.stdout.write(`${JSON.stringify({ totals: totalsOf(recorder.results), results: recorder.results }, null, 2)}\n`);
else {
  const { passed, failed, skipped } = totalsOf(recorder.results);
  process.stdout.write(`${table(recorder.results)}\n${trouble === '' ? '' : `\n${trouble}\n`}`);
  process.stdout.write(`${passed} passed, ${failed} failed, ${skipped} skipped\n`);
}
process.exitCode = isClean(totalsOf(recorder.results), 1) && isComplete() ? 0 : 1;
