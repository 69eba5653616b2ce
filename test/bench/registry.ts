/**
 * Push and pull beside Debian's docker-registry on the same machine and image: real Docker engine, and plain HTTP for one large blob.
 *
 *   node --import tsx test/bench/registry.ts [--mib 200] [--rounds 3] [--json]
 *
 * Needs root, docker.io, docker-registry and `make build`. Each round makes a new random image, so that nobody has a layer already; the order of the two alternates.
 * The dev cluster keeps four copies of a push (proxy and three origins, two of them synced before the answer) on the disk that docker-registry
 * writes one unsynced copy to. Ratios are Shoal over docker-registry, medians of the rounds.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomFillSync, randomInt } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startCluster, type TestCluster } from '../support/cluster-process.ts';
import { DockerEngine } from '../support/docker.ts';
import { end, until } from '../support/processes.ts';
import { pushBlob } from '../support/registry-client.ts';
import { tempDir } from '../support/temp.ts';
import { printTable } from './table.ts';

const mib = 2 ** 20;
const { values } = parseArgs({
  options: { mib: { type: 'string', default: '200' }, rounds: { type: 'string', default: '3' }, json: { type: 'boolean', default: false } },
});
const sizeMib = Number(values.mib);
const roundCount = Number(values.rounds);
if (!Number.isInteger(sizeMib) || sizeMib < 8 || !Number.isInteger(roundCount) || roundCount < 1) {
  process.stderr.write('registry: --mib takes a whole number from 8, --rounds one from 1\n');
  process.exit(2);
}

/** One contestant: where to push and where to pull. */
interface Side {
  readonly name: 'shoal' | 'docker-registry';
  readonly push: string;
  readonly pull: string;
}

type Figure = 'docker push' | 'docker pull' | 'http push' | 'http pull, cold' | 'http pull, warm';
const figures: readonly Figure[] = ['docker push', 'docker pull', 'http push', 'http pull, cold', 'http pull, warm'];
const seconds = new Map<string, number[]>();

async function timed<T>(side: Side, figure: Figure, work: () => Promise<T>): Promise<T> {
  const startMs = performance.now();
  const result = await work();
  const key = `${side.name} ${figure}`;
  seconds.set(key, [...(seconds.get(key) ?? []), (performance.now() - startMs) / 1000]);
  return result;
}

const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)] ?? Number.NaN;

async function startPlainRegistry(root: string): Promise<{ readonly address: string; readonly child: ChildProcess }> {
  mkdirSync(root, { recursive: true });
  const address = `127.0.0.1:${randomInt(33_000, 39_000)}`;
  const config = join(root, 'config.yml');
  const storage = { filesystem: { rootdirectory: join(root, 'data') }, delete: { enabled: true } };
  writeFileSync(
    config,
    JSON.stringify({ version: 0.1, log: { level: 'error', accesslog: { disabled: true } }, storage, http: { addr: address } }),
  );
  const child = spawn('docker-registry', ['serve', config], { stdio: 'ignore' });
  child.once('error', (error) => {
    process.stderr.write(`registry: cannot run docker-registry: ${error.message}; install Debian's docker-registry\n`);
    process.exit(1);
  });
  await until('docker-registry answers', async () => ((await fetch(`http://${address}/v2/`)).ok ? true : undefined));
  return { address, child };
}

async function dockerRound(sides: readonly Side[], engine: DockerEngine, round: number): Promise<void> {
  const local = `bench:${round}`;
  await engine.buildImage(
    local,
    [sizeMib / 2, sizeMib / 4, sizeMib / 4].map((size) => Math.floor(size * mib)),
  );
  for (const side of sides) {
    const name = `${side.push}/bench/docker:${round}`;
    await engine.dockerOk('tag', local, name);
    await timed(side, 'docker push', async () => engine.dockerOk('push', '-q', name));
    await engine.dockerOk('image', 'rm', '-f', name);
  }
  await engine.dockerOk('image', 'rm', '-f', local);
  for (const side of sides) {
    const name = `${side.pull}/bench/docker:${round}`;
    await timed(side, 'docker pull', async () => engine.dockerOk('pull', '-q', name));
    await engine.dockerOk('image', 'rm', '-f', name);
  }
}

async function drain(url: string): Promise<void> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
  for await (const _chunk of response.body ?? []);
}

async function httpRound(sides: readonly Side[]): Promise<void> {
  const bytes = randomFillSync(Buffer.allocUnsafe(sizeMib * mib));
  for (const side of sides) {
    const digest = await timed(side, 'http push', async () => pushBlob(side.push, 'bench/http', bytes));
    const url = `http://${side.pull}/v2/bench/http/blobs/${digest}`;
    await timed(side, 'http pull, cold', async () => drain(url));
    await timed(side, 'http pull, warm', async () => drain(url));
  }
}

async function measure(cluster: TestCluster, plain: string, engine: DockerEngine): Promise<void> {
  const sides: Side[] = [
    { name: 'shoal', push: cluster.registry('proxy-1'), pull: cluster.registry('agent-1') },
    { name: 'docker-registry', push: plain, pull: plain },
  ];
  for (let round = 1; round <= roundCount; round += 1) {
    if (!values.json) process.stderr.write(`round ${round} of ${roundCount}\n`);
    await dockerRound(sides, engine, round);
    await httpRound(sides);
    sides.reverse();
  }
}

function report(): void {
  const megabytes = (sizeMib * mib) / 1e6;
  const rows = figures.map((figure) => {
    const shoal = megabytes / median(seconds.get(`shoal ${figure}`) ?? []);
    const plain = megabytes / median(seconds.get(`docker-registry ${figure}`) ?? []);
    return { figure, shoalMbPerSec: shoal, dockerRegistryMbPerSec: plain, ratio: shoal / plain };
  });
  if (values.json) process.stdout.write(`${JSON.stringify({ sizeMib, roundCount, rows }, null, 2)}\n`);
  else {
    printTable(
      ['', 'Shoal MB/s', 'docker-registry MB/s', 'ratio'],
      rows.map((row) => [row.figure, row.shoalMbPerSec.toFixed(0), row.dockerRegistryMbPerSec.toFixed(0), row.ratio.toFixed(2)]),
    );
  }
}

const root = tempDir('bench');
await using cluster = await startCluster({ directory: join(root, 'cluster') });
await using engine = await DockerEngine.start(join(root, 'engine'));
const plain = await startPlainRegistry(join(root, 'plain'));
try {
  await measure(cluster, plain.address, engine);
} finally {
  await end(plain.child);
}
report();
