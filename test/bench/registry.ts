/**
 * Push and pull beside Debian's docker-registry on the same machine and with the same bytes: a real Docker engine, and curl for one large blob.
 *
 *   node --import tsx test/bench/registry.ts [--mib 1024] [--image-mib 256] [--rounds 3] [--directory /dev/shm] [--json]
 *
 * Needs root, docker.io, docker-registry, curl and `make build`. Two clusters stand beside docker-registry: three origins with two owners a blob, and
 * one origin. Each round makes new random bytes, so that nobody has them, and another contestant begins. Before each step the disk is idle (`sync`).
 * What a push leaves to be done, the copy to durable storage, is waited for before it is another's turn. Shoal answers a push when each origin of the
 * quorum has synced it; docker-registry syncs nothing, so a second figure has the time until the bytes of either are on the disk. Ratios are Shoal over docker-registry, medians of the rounds.
 */
import { createHash, randomFillSync } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startCluster } from '../support/cluster-process.ts';
import { DockerEngine } from '../support/docker.ts';
import { PlainRegistry } from '../support/plain-registry.ts';
import { runOk, until } from '../support/processes.ts';
import { printTable } from './table.ts';

const mib = 2 ** 20;
const { values } = parseArgs({
  options: {
    mib: { type: 'string', default: '1024' },
    'image-mib': { type: 'string', default: '256' },
    rounds: { type: 'string', default: '3' },
    directory: { type: 'string', default: tmpdir() },
    json: { type: 'boolean', default: false },
  },
});
const [blobMib, imageMib, roundCount] = [Number(values.mib), Number(values['image-mib']), Number(values.rounds)];
if (![blobMib, imageMib, roundCount].every((value) => Number.isInteger(value) && value >= 0) || blobMib < 8 || roundCount < 1) {
  process.stderr.write('registry: --mib takes a whole number from 8, --image-mib one from 0 (no image), --rounds one from 1\n');
  process.exit(2);
}

/** One contestant: where to push and where to pull. */
interface Side {
  readonly name: string;
  readonly push: string;
  readonly pull: string;
  /** The folder of a cluster's durable storage. */
  readonly storage?: string;
}

/** Waits until what was just pushed is in durable storage too: that is work of this contestant's, and must not run in the turn of the next one. */
async function stored({ storage }: Side, sizeBytesMin: number): Promise<void> {
  if (storage === undefined) return;
  const usedBytes = async (): Promise<number> => Number((await runOk('du', ['-sb', storage])).split('\t')[0]);
  await until('the push is in durable storage', async () => ((await usedBytes()) >= sizeBytesMin ? true : undefined), 120_000);
}

/** They come last, in turn: what a push leaves to be done in the background is over after the first ones. */
const warmPulls = 5;
const plainName = 'docker-registry';
const allFigures = ['docker push', 'docker pull', 'http push', 'http push, and on disk', 'http pull, cold', 'http pull, warm'] as const;
type Figure = (typeof allFigures)[number];
const figures = allFigures.filter((figure) => imageMib > 0 || !figure.startsWith('docker'));
const seconds = new Map<string, number[]>();

async function timed(side: Side, figure: Figure, work: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await work();
  const tookSec = (performance.now() - startMs) / 1000;
  note(side, figure, tookSec);
  return tookSec;
}

function note({ name }: Side, figure: Figure, tookSec: number): void {
  const key = `${name} ${figure}`;
  seconds.set(key, [...(seconds.get(key) ?? []), tookSec]);
}

const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)] ?? Number.NaN;
const sync = async (): Promise<string> => runOk('sync', ['-f', root]);
const curl = async (...args: readonly string[]): Promise<string> => runOk('curl', ['-sS', '--fail', '-o', '/dev/null', ...args]);

async function dockerRound(sides: readonly Side[], engine: DockerEngine, round: number): Promise<void> {
  const local = `bench:${round}`;
  await engine.buildImage(
    local,
    [imageMib / 2, imageMib / 4, imageMib / 4].map((size) => Math.floor(size * mib)),
  );
  for (const side of sides) {
    const name = `${side.push}/bench/docker:${round}`;
    await engine.dockerOk('tag', local, name);
    await sync();
    await timed(side, 'docker push', async () => engine.dockerOk('push', '-q', name));
    await engine.dockerOk('image', 'rm', '-f', name);
    await stored(side, (round - 1) * blobMib * mib + round * imageMib * mib);
  }
  await engine.dockerOk('image', 'rm', '-f', local);
  for (const side of sides) {
    const name = `${side.pull}/bench/docker:${round}`;
    await sync();
    await timed(side, 'docker pull', async () => engine.dockerOk('pull', '-q', name));
    await engine.dockerOk('image', 'rm', '-f', name);
  }
}

async function httpRound(sides: readonly Side[], round: number): Promise<void> {
  const bytes = randomFillSync(Buffer.allocUnsafe(blobMib * mib));
  const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
  const file = join(root, 'blob');
  writeFileSync(file, bytes);
  for (const side of sides) {
    const start = await fetch(`http://${side.push}/v2/bench/http/blobs/uploads/`, { method: 'POST' });
    const location = new URL(start.headers.get('location') ?? '', `http://${side.push}`);
    location.searchParams.set('digest', digest);
    await sync();
    const pushSec = await timed(side, 'http push', async () => curl('-T', file, '-H', 'Expect:', location.href));
    const syncStartMs = performance.now();
    await sync();
    note(side, 'http push, and on disk', pushSec + (performance.now() - syncStartMs) / 1000);
    await timed(side, 'http pull, cold', async () => curl(`http://${side.pull}/v2/bench/http/blobs/${digest}`));
    await stored(side, round * (blobMib + imageMib) * mib);
  }
  await sync();
  for (let turn = 0; turn < warmPulls; turn += 1) {
    for (const side of sides) await timed(side, 'http pull, warm', async () => curl(`http://${side.pull}/v2/bench/http/blobs/${digest}`));
  }
}

function report(sides: readonly Side[]): void {
  const rate = (side: string, figure: Figure): number => {
    const sizeMib = figure.startsWith('docker') ? imageMib : blobMib;
    return (sizeMib * mib) / 1e6 / median(seconds.get(`${side} ${figure}`) ?? []);
  };
  const names = sides.map(({ name }) => name).filter((name) => name !== plainName);
  const rows = figures.map((figure) => {
    const plain = rate(plainName, figure);
    const shoal = names.map((name) => ({ name, mbPerSec: rate(name, figure), ratio: rate(name, figure) / plain }));
    return { figure, dockerRegistryMbPerSec: plain, shoal };
  });
  if (values.json) process.stdout.write(`${JSON.stringify({ blobMib, imageMib, roundCount, rows }, null, 2)}\n`);
  else {
    printTable(
      ['MB/s', plainName, ...names.flatMap((name) => [name, 'ratio'])],
      rows.map(({ figure, dockerRegistryMbPerSec, shoal }) => [
        figure,
        dockerRegistryMbPerSec.toFixed(0),
        ...shoal.flatMap(({ mbPerSec, ratio }) => [mbPerSec.toFixed(0), ratio.toFixed(2)]),
      ]),
    );
  }
}

/** Copies of what is pushed: one at docker-registry, three at the origins of one cluster and one at that of the other, one at each agent and in each storage. */
const copiesMax = 9;
const { bavail, bsize } = await statfs(values.directory);
const neededBytes = roundCount * copiesMax * (blobMib + imageMib) * mib;
if (bavail * bsize < neededBytes) {
  const [needed, free] = [neededBytes, bavail * bsize].map((bytes) => `${(bytes / 1e9).toFixed(0)} GB`);
  process.stderr.write(
    `registry: ${values.directory} needs ${needed} of free space and has ${free}: fewer --rounds, less --mib, or another --directory\n`,
  );
  process.exit(2);
}

const root = mkdtempSync(join(values.directory, 'shoal-bench-'));
process.once('exit', () => rmSync(root, { recursive: true, force: true, maxRetries: 5 }));
await using three = await startCluster({ directory: join(root, 'three'), agents: 1, args: ['--replicas', '2'] });
await using one = await startCluster({ directory: join(root, 'one'), agents: 1, origins: 1 });
await using plain = await new PlainRegistry({ root: join(root, 'plain') }).start();
const sides: Side[] = [
  { name: plainName, push: plain.address, pull: plain.address },
  {
    name: '3 origins, 2 owners',
    push: three.registry('proxy-1'),
    pull: three.registry('agent-1'),
    storage: join(root, 'three', 'storage'),
  },
  { name: '1 origin', push: one.registry('proxy-1'), pull: one.registry('agent-1'), storage: join(root, 'one', 'storage') },
];
await using engine = imageMib === 0 ? undefined : await DockerEngine.start(join(root, 'engine'));
for (let round = 1; round <= roundCount; round += 1) {
  process.stderr.write(`round ${round} of ${roundCount}\n`);
  if (engine !== undefined) await dockerRound(sides, engine, round);
  await httpRound(sides, round);
  sides.push(...sides.splice(0, 1));
}
report([...sides].sort((a, b) => b.name.localeCompare(a.name)));
