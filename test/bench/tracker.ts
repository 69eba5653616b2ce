/**
 * One tracker process under many agents: real Announce streams over mutual TLS, each with a certificate and a connection of its own, kept by
 * the client library that agents use, from a few load processes.
 *
 *   node --import tsx test/bench/tracker.ts [--agents 3000] [--loaders 3] [--seconds 10]
 *
 * Prints what a connected agent costs, announcements (an update of a blob, answered with an offer of peers) per second, and the time from kill -9
 * and an immediate restart until every agent has told everything again. Needs Linux for /proc, and `make build`.
 */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, openSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { stringify } from 'yaml';
import { TrackerDirectory } from '#cluster';
import { AppError, type Digest, digestOf, nullMeter, SeededRng, silentLogger } from '#core';
import { TrackerServiceService } from '#gen/shoal/tracker/v1/tracker_service';
import { CertificateDirectory, issueLeaf, parseTlsMaterial, StaticCertificateSource } from '#pki';
import { SystemClock } from '#runtime';
import { ChannelPool, digestFromProto } from '#wire';
import { end, until } from '../support/processes.ts';
import { tempDir } from '../support/temp.ts';
import { usageOf } from './cluster/usage.ts';
import { printTable } from './table.ts';

interface Job {
  readonly certificates: string;
  readonly endpoint: string;
  readonly firstAgent: number;
  readonly agentCount: number;
}

const clock = new SystemClock();
const observed = { clock, logger: silentLogger, meter: nullMeter };
/** The blob that every agent holds. */
const common = digestOf(Buffer.from('common'));
/** Blobs of the load, as many swarms as a busy day has. */
const blobCount = 100;
/** Announcements of one load process that wait for their answer at a time. */
const concurrency = 64;
const peersWanted = 30;
/** All connections and handshakes on two CPUs take about a tenth of it. */
const deadlineMs = 180_000;

const tracker = { role: 'tracker', id: 'tracker-1' } as const;
const operator = { role: 'operator', id: 'admin' } as const;

/** A load process: connects its agents, then announces whenever it is told to. */
async function load(job: Job): Promise<void> {
  const authority = await new CertificateDirectory({ root: job.certificates }, observed).authority();
  const directories: TrackerDirectory[] = [];
  for (let index = job.firstAgent; index < job.firstAgent + job.agentCount; index += 1) {
    const leaf = await issueLeaf(authority, { identity: { role: 'agent', id: `agent-${index}` } }, { clock });
    const pem = { caPem: authority.certPem, certPem: leaf.certPem, keyPem: leaf.keyPem };
    const certificates = new StaticCertificateSource(parseTlsMaterial(pem, clock.wallMs()));
    const channels = new ChannelPool({}, { ...observed, certificates });
    // Nobody asks for metainfo here.
    const origins = {
      getMetainfo: async () => Promise.reject(new AppError('unavailable', 'no origins in this benchmark')),
      ownerOffers: () => [],
    };
    const options = { trackers: [{ id: tracker.id, endpoint: job.endpoint }], advertise: ':7000' };
    directories.push(new TrackerDirectory(options, { ...observed, channels, rng: new SeededRng(index + 1), origins }));
  }
  process.send?.('ready');
  process.on('message', (message: { readonly connect?: true; readonly announceMs?: number }) => {
    if (message.connect) {
      for (const directory of directories) {
        directory.connect();
        directory.update(common, { state: 'complete', peersWanted: 0 });
      }
    }
    if (message.announceMs !== undefined) void announce(directories, message.announceMs).then((latencies) => process.send?.(latencies));
  });
}

/** Announces for a while, one after another on each of some agents at a time; the milliseconds that each took. */
async function announce(directories: readonly TrackerDirectory[], durationMs: number): Promise<number[]> {
  const latencies: number[] = [];
  const endMs = performance.now() + durationMs;
  const worker = async (first: number): Promise<void> => {
    for (let turn = first; performance.now() < endMs; turn += concurrency) {
      const directory = directories[turn % directories.length];
      const startedMs = performance.now();
      if (directory === undefined || !(await answered(directory, digestOf(Buffer.from(`blob ${turn % blobCount}`))))) continue;
      latencies.push(performance.now() - startedMs);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, async (_, first) => worker(first)));
  return latencies;
}

/** Asks for peers of a blob; false when nothing came within a second. */
async function answered(directory: TrackerDirectory, digest: Digest): Promise<boolean> {
  return await new Promise((resolve) => {
    const done = (outcome: boolean): void => {
      unsubscribe();
      clearTimeout(timer);
      resolve(outcome);
    };
    const unsubscribe = directory.onOffer((offered) => {
      if (offered === digest) done(true);
    });
    const timer = setTimeout(() => done(false), 1000);
    directory.update(digest, { state: 'wanted', peersWanted });
  });
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  await new Promise((closed) => server.close(closed));
  return typeof address === 'object' && address !== null ? address.port : 0;
}

function startTracker(root: string, config: string): ChildProcess {
  const log = openSync(join(root, 'tracker.log'), 'a');
  return spawn(process.execPath, ['dist/tracker.mjs', '--config', config, '--stop-on-stdin-end'], { stdio: ['pipe', log, log] });
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      agents: { type: 'string', default: '3000' },
      loaders: { type: 'string', default: '3' },
      seconds: { type: 'string', default: '10' },
    },
  });
  const [agentCount, loaderCount, seconds] = [Number(values.agents), Number(values.loaders), Number(values.seconds)];
  if (!existsSync('dist/tracker.mjs')) throw new Error('dist/tracker.mjs is missing: run make build first');
  const root = tempDir('tracker');
  const certificates = join(root, 'certs');
  const pki = new CertificateDirectory({ root: certificates }, observed);
  await pki.init({ cluster: 'bench' });
  for (const identity of [tracker, operator]) await pki.issue(identity);
  const endpoint = `127.0.0.1:${await freePort()}`;
  const config = join(root, 'tracker.yaml');
  const origins = { members: [{ id: 'origin-1', endpoint: '127.0.0.1:1' }], replicas: 1 };
  writeFileSync(
    config,
    stringify({ node: { id: tracker.id }, certificates: { directory: certificates }, grpc: { listen: endpoint }, origins }),
  );

  const channels = new ChannelPool({}, { ...observed, certificates: await pki.watch(operator, observed) });
  const target = { ...tracker, endpoint };
  const client = channels.client(TrackerServiceService, target);
  const known = async (): Promise<number> => {
    const { blobs } = await client.listBlobs({ pageSize: 1000, pageToken: '' }, { timeoutMs: 30_000 });
    return blobs.find(({ digest }) => digestFromProto(digest) === common)?.completeCount ?? 0;
  };
  const untilKnown = async (): Promise<true> =>
    until(`the tracker knows ${agentCount} agents`, async () => ((await known()) === agentCount ? true : undefined), deadlineMs);

  let running = startTracker(root, config);
  await until('the tracker is healthy', async () => ((await channels.health(target)) ? true : undefined));
  const usage = () => usageOf(running.pid ?? 0) ?? { cpuSeconds: 0, rssBytes: 0, peakRssBytes: 0 };
  const share = Math.ceil(agentCount / loaderCount);
  const loaders = Array.from({ length: loaderCount }, (_, index) => {
    const firstAgent = index * share;
    const job: Job = { certificates, endpoint, firstAgent, agentCount: Math.min(share, agentCount - firstAgent) };
    return fork(fileURLToPath(import.meta.url), ['load', JSON.stringify(job)], {
      execArgv: ['--import', 'tsx'],
      serialization: 'advanced',
    });
  });
  try {
    await Promise.all(loaders.map(async (loader) => once(loader, 'message')));
    const idle = usage();
    const connectMs = performance.now();
    for (const loader of loaders) loader.send({ connect: true });
    await untilKnown();
    const connectedMs = performance.now() - connectMs;
    const connected = usage();

    const answers = loaders.map(async (loader) => (await once(loader, 'message'))[0] as number[]);
    for (const loader of loaders) loader.send({ announceMs: seconds * 1000 });
    const latencies = (await Promise.all(answers)).flat().sort((a, b) => a - b);
    const loaded = usage();

    running.kill('SIGKILL');
    await once(running, 'exit');
    const killedMs = performance.now();
    running = startTracker(root, config);
    await untilKnown();
    const recoveredMs = performance.now() - killedMs;
    const recovered = usage();
    const at = (quantile: number): string => `${(latencies[Math.floor(quantile * latencies.length)] ?? Number.NaN).toFixed(1)} ms`;
    const cpuUs = (1e6 * (loaded.cpuSeconds - connected.cpuSeconds)) / latencies.length;
    printTable(
      [`${agentCount} agents, ${loaderCount} load processes`, ''],
      [
        ['all connected and announced', `${(connectedMs / 1000).toFixed(1)} s`],
        ['tracker CPU for each connection', `${((1000 * (connected.cpuSeconds - idle.cpuSeconds)) / agentCount).toFixed(2)} ms`],
        ['memory for each connected agent', `${((connected.rssBytes - idle.rssBytes) / 1024 / agentCount).toFixed(1)} KiB`],
        ['announcements answered', `${(latencies.length / seconds).toFixed(0)} per second`],
        ['answered within, p50 and p99', `${at(0.5)}, ${at(0.99)}`],
        ['tracker CPU for each announcement', `${cpuUs.toFixed(0)} us, so ${(1e6 / cpuUs).toFixed(0)} per CPU-second`],
        ['peak RSS of the tracker', `${(loaded.peakRssBytes / 2 ** 20).toFixed(0)} MiB`],
        ['from kill -9 until all have told everything', `${(recoveredMs / 1000).toFixed(1)} s, ${recovered.cpuSeconds.toFixed(1)} CPU-s`],
      ],
    );
  } finally {
    for (const loader of loaders) loader.kill('SIGKILL');
    await end(running);
    channels.close();
  }
}

if (process.argv[2] === 'load') await load(JSON.parse(process.argv[3] ?? '{}') as Job);
else {
  await main();
  process.exit();
}
