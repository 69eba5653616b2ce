/**
 * RSS of agents that download a large blob and seed it to each other at the same time, read by a client each. Prints the curve, then the peaks.
 *
 *   node --import tsx test/bench/memory.ts [--gb 10] [--max-mb 250] [--json]
 *
 * Needs `make build` and twice the size of free disk. The origin's copy is a sparse file of zeros: it costs no disk, and no layer between it and
 * the client saves anything because of it. Fails when an agent has ever had more than `--max-mb` resident (MB of 10^6 bytes).
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir, open, statfs } from 'node:fs/promises';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { BuildIndexClient } from '#cluster';
import { MetainfoBuilder, nullMeter, parseDigest, parseRepositoryName, SeededRng, silentLogger } from '#core';
import { CertificateDirectory } from '#pki';
import { SystemClock } from '#runtime';
import { DiskBlobStore } from '#storage';
import { ChannelPool } from '#wire';
import { startCluster, type TestCluster } from '../support/cluster-process.ts';
import { tempDir } from '../support/temp.ts';
import { cpuSecondsOf } from './measure.ts';
import { printTable } from './table.ts';

const { values } = parseArgs({
  options: {
    gb: { type: 'string', default: '10' },
    'max-mb': { type: 'string', default: '250' },
    json: { type: 'boolean', default: false },
  },
});
const sizeBytes = Math.round(Number(values.gb) * 1e9);
const repository = 'bench/memory';
const agents = ['agent-1', 'agent-2'];
const clock = new SystemClock();
const quiet = { clock, logger: silentLogger, meter: nullMeter };

/** Puts the blob into the store of an origin that does not run. */
async function place(directory: string) {
  const block = Buffer.alloc(4 * 1024 * 1024);
  const hash = createHash('sha256');
  const builder = new MetainfoBuilder();
  for (let at = 0; at < sizeBytes; at += block.byteLength) {
    const bytes = block.subarray(0, Math.min(block.byteLength, sizeBytes - at));
    hash.update(bytes);
    builder.update(bytes);
  }
  const metainfo = builder.finish(parseDigest(`sha256:${hash.digest('hex')}`));
  await using store = await DiskBlobStore.open({ root: directory, capacityBytes: 2 ** 40 }, quiet);
  const path = join(directory, 'placed');
  const file = await open(path, 'w');
  await file.truncate(sizeBytes);
  await file.close();
  await store.adopt(path, metainfo, { fsync: true });
  return metainfo;
}

/** Shows the blob in the repository, as a proxy does after a push. */
async function link(cluster: TestCluster, blob: { readonly digest: ReturnType<typeof parseDigest>; readonly sizeBytes: number }) {
  const proxy = { role: 'proxy', id: 'proxy-1' } as const;
  const certificates = await new CertificateDirectory({ root: join(cluster.directory, 'certs') }, { clock }).watch(proxy, quiet);
  await using channels = new ChannelPool({}, { ...quiet, certificates });
  const members = cluster.nodes.filter(({ role }) => role === 'build-index').map(({ id, grpc }) => ({ id, endpoint: grpc }));
  await using index = new BuildIndexClient({ members }, { ...quiet, channels, rng: new SeededRng(1) });
  const { signal } = new AbortController();
  await index.linkBlob(parseRepositoryName(repository), blob, await index.fence({ signal }), { signal });
  await certificates[Symbol.asyncDispose]();
}

function rssMib(pid: number, field: 'VmRSS' | 'VmHWM'): number {
  const line = readFileSync(`/proc/${pid}/status`, 'utf8').match(new RegExp(`${field}:\\s+(\\d+)`));
  return Number(line?.[1]) / 1024;
}

/** Reads the blob from an agent and counts. */
function pull(cluster: TestCluster, agent: string, digest: string): { bytes: number; readonly done: Promise<void> } {
  const count = { bytes: 0, done: Promise.resolve() };
  count.done = new Promise((resolve, reject) => {
    get(`http://${cluster.registry(agent)}/v2/${repository}/blobs/${digest}`, (response) => {
      if (response.statusCode !== 200) reject(new Error(`GET: ${response.statusCode}`));
      response.on('data', (bytes: Buffer) => {
        count.bytes += bytes.byteLength;
      });
      response.on('error', reject);
      response.on('end', () => (count.bytes === sizeBytes ? resolve() : reject(new Error(`only ${count.bytes} bytes came`))));
    }).on('error', reject);
  });
  return count;
}

const { bavail, bsize } = await statfs(tmpdir());
const neededBytes = agents.length * sizeBytes * 1.05;
if (bavail * bsize < neededBytes)
  throw new Error(`${tmpdir()} needs ${(neededBytes / 1e9).toFixed(0)} GB of free space; set TMPDIR or --gb`);
const directory = tempDir('memory');
const shape = { directory, agents: agents.length, origins: 1 };
await (await startCluster(shape)).stop();
await mkdir(join(directory, 'data', 'origin-1'), { recursive: true });
const metainfo = await place(join(directory, 'data', 'origin-1'));
await using cluster = await startCluster(shape);
await link(cluster, metainfo);

const pids = agents.map((agent) => cluster.node(agent).pid);
const startMs = performance.now();
const startCpu = cpuSecondsOf(pids);
const idle = pids.map((pid) => rssMib(pid, 'VmRSS'));
const pulls = agents.map((agent) => pull(cluster, agent, metainfo.digest));
const done = Promise.all(pulls.map((one) => one.done)).then(() => true);
const curve: { readonly seconds: number; readonly gb: readonly number[]; readonly rss: readonly number[] }[] = [];
do {
  const seconds = (performance.now() - startMs) / 1000;
  curve.push({ seconds, gb: pulls.map(({ bytes }) => bytes / 1e9), rss: pids.map((pid) => rssMib(pid, 'VmRSS')) });
} while (!(await Promise.race([done, sleep(1000, false)])));
const seconds = (performance.now() - startMs) / 1000;
const peaks = pids.map((pid) => rssMib(pid, 'VmHWM'));
const peakMb = (Math.max(...peaks) * 2 ** 20) / 1e6;
const cpuPerGb = (cpuSecondsOf(pids) - startCpu) / (agents.length * (sizeBytes / 1e9));
if (values.json) {
  process.stdout.write(`${JSON.stringify({ sizeBytes, seconds, idle, peaks, cpuPerGb, curve })}\n`);
} else {
  const every = Math.max(1, Math.ceil(curve.length / 24));
  printTable(
    ['seconds', ...agents.flatMap((agent) => [`${agent} GB`, 'RSS MiB'])],
    curve
      .filter((_, index) => index % every === 0)
      .map((point) => [
        point.seconds.toFixed(0),
        ...agents.flatMap((_, at) => [point.gb[at]?.toFixed(2) ?? '', point.rss[at]?.toFixed(0) ?? '']),
      ]),
  );
  const list = (numbers: readonly number[]): string => numbers.map((value) => value.toFixed(0)).join(' and ');
  process.stdout.write(
    `idle ${list(idle)} MiB, peak ${list(peaks)} MiB (${peakMb.toFixed(0)} of ${values['max-mb']} MB); ${(sizeBytes / 1e6 / seconds).toFixed(0)} MB/s to each, ${cpuPerGb.toFixed(1)} CPU-s/GB an agent\n`,
  );
}
if (peakMb > Number(values['max-mb'])) process.exitCode = 1;
