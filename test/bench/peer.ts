/**
 * One hop with everything in it: a blob goes from one PeerNode to another, each a process of its own with a store on disk, over mutual TLS.
 * Prints MB/s, CPU seconds per GB and peak RSS of each side, and the time to the first byte of a cold reader.
 * `node --import tsx test/bench/peer.ts [sizeMiB] [folder] [--json]`, 1024 MiB by default.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { createHash, randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { type Metainfo, MetainfoBuilder, type NodeIdentity, nullMeter, parseDigest, peerIdOf, SeededRng, silentLogger } from '#core';
import { PeerNode } from '#peer';
import { createAuthority, issueLeaf, parseTlsMaterial, StaticCertificateSource, type TlsMaterial } from '#pki';
import { SystemClock } from '#runtime';
import { DiskBlobStore } from '#storage';
import { MemoryTracker } from '#test/support/memory-directory';
import { ChannelPool, WireServer } from '#wire';

interface Job {
  readonly role: 'prepare' | 'seed' | 'leech';
  readonly root: string;
  readonly sizeBytes: number;
  readonly material?: TlsMaterial;
  readonly metainfo?: Metainfo;
  readonly endpoint?: string;
  /** The leecher reads the blob through a reader instead of fetching it. */
  readonly read?: boolean;
}

interface Usage {
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly rssMib: number;
  readonly firstByteMs?: number;
}

const mib = 1024 * 1024;
const clock = new SystemClock();
const seeder: NodeIdentity = { role: 'origin', id: 'seeder' };
const leecher: NodeIdentity = { role: 'agent', id: 'leecher' };

async function openStore(root: string): Promise<DiskBlobStore> {
  return await DiskBlobStore.open({ root, capacityBytes: 2 ** 40 }, { clock, logger: silentLogger, meter: nullMeter });
}

/** Makes the blob from a block of randomness, each piece different, without holding it in memory. */
async function prepare({ root, sizeBytes }: Job): Promise<Metainfo> {
  const block = randomFillSync(Buffer.allocUnsafe(4 * mib));
  const pieces = function* (): Generator<Buffer> {
    for (let at = 0; at < sizeBytes; at += block.byteLength) {
      block.writeDoubleLE(at, 0);
      yield block.subarray(0, Math.min(block.byteLength, sizeBytes - at));
    }
  };
  const hash = createHash('sha256');
  const builder = new MetainfoBuilder();
  for (const bytes of pieces()) {
    hash.update(bytes);
    builder.update(bytes);
  }
  const metainfo = builder.finish(parseDigest(`sha256:${hash.digest('hex')}`));
  const store = await openStore(root);
  const partial = await store.openPartial(metainfo);
  let piece = 0;
  for (const bytes of pieces()) {
    for (let at = 0; at < bytes.byteLength; at += metainfo.pieceLengthBytes) {
      await partial?.writePiece(piece, bytes.subarray(at, at + metainfo.pieceLengthBytes));
      piece += 1;
    }
  }
  await partial?.commit({ fsync: true });
  await partial?.[Symbol.asyncDispose]();
  await store[Symbol.asyncDispose]();
  return metainfo;
}

async function openNode({ root, material }: Job, identity: NodeIdentity) {
  if (material === undefined) throw new Error('a node needs a certificate');
  const certificates = new StaticCertificateSource(material);
  const deps = { certificates, clock, logger: silentLogger, meter: nullMeter };
  const store = await openStore(root);
  const pool = new ChannelPool({}, deps);
  const tracker = new MemoryTracker();
  const directory = tracker.join(identity);
  const node = await PeerNode.open({}, { ...deps, self: identity, store, channels: pool, directory, rng: new SeededRng(1) });
  const server = new WireServer({ host: '127.0.0.1', port: 0 }, deps);
  node.attach(server);
  const { port } = await server.listen();
  return { node, tracker, endpoint: `127.0.0.1:${port}` };
}

function meterUsage(): () => Usage {
  const cpu = process.cpuUsage();
  const startedMs = performance.now();
  return () => {
    const { user, system } = process.cpuUsage(cpu);
    return {
      seconds: (performance.now() - startedMs) / 1000,
      cpuSeconds: (user + system) / 1e6,
      rssMib: process.resourceUsage().maxRSS / 1024,
    };
  };
}

async function leech(job: Job): Promise<Usage> {
  const { metainfo, endpoint } = job;
  if (metainfo === undefined || endpoint === undefined) throw new Error('the leecher needs a source');
  const { node, tracker } = await openNode(job, leecher);
  const source = { peer: peerIdOf(seeder), endpoint, complete: true };
  tracker.publish(metainfo);
  tracker.owners.push(source);
  const { signal } = new AbortController();
  const usage = meterUsage();
  const fetching = node.ingest(metainfo, [source], { signal });
  let firstByteMs: number | undefined;
  if (job.read === true) {
    const startedMs = performance.now();
    await using reader = await node.open(metainfo.digest, {}, { signal });
    for await (const _ of reader.read({ startByte: 0, endByte: reader.sizeBytes }, { signal }))
      firstByteMs ??= performance.now() - startedMs;
  }
  await fetching;
  return { ...usage(), ...(firstByteMs === undefined ? {} : { firstByteMs }) };
}

/** A child process: takes its job, answers, and for a seeder answers once more when told to end. */
async function child(): Promise<void> {
  // As the services do; see one-hop.ts.
  setFlagsFromString('--no-concurrent-array-buffer-sweeping');
  const [job] = (await once(process, 'message')) as [Job];
  if (job.role === 'prepare') process.send?.(await prepare(job));
  else if (job.role === 'leech') process.send?.(await leech(job));
  else {
    const { endpoint } = await openNode(job, seeder);
    const usage = meterUsage();
    process.send?.(endpoint);
    await once(process, 'message');
    process.send?.(usage());
  }
  process.disconnect();
  process.exit(0);
}

function start(job: Job): ChildProcess {
  const process_ = fork(fileURLToPath(import.meta.url), ['child'], {
    execArgv: ['--import', 'tsx', ...profileArgs(job)],
    serialization: 'advanced',
  });
  process_.send(job);
  return process_;
}

function profileArgs({ role }: Job): string[] {
  const folder = process.env['SHOAL_BENCH_PROFILE'];
  return folder === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${join(folder, role)}`];
}

async function answerOf<T>(process_: ChildProcess): Promise<T> {
  const [answer] = (await once(process_, 'message')) as [T];
  return answer;
}

function print(name: string, { cpuSeconds, rssMib }: Usage, sizeBytes: number): void {
  process.stdout.write(`${name.padEnd(24)} ${(cpuSeconds / (sizeBytes / 1e9)).toFixed(2)} CPU-s/GB   ${rssMib.toFixed(0)} MiB peak RSS\n`);
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({ options: { json: { type: 'boolean', default: false } }, allowPositionals: true });
  const sizeBytes = Number(positionals[0] ?? 1024) * mib;
  const root = await mkdtemp(join(positionals[1] ?? tmpdir(), 'shoal-bench-'));
  const runs: object[] = [];
  try {
    const authority = await createAuthority({ cluster: 'bench' }, { clock });
    const materialOf = async (identity: NodeIdentity): Promise<TlsMaterial> => {
      const leaf = await issueLeaf(authority, { identity }, { clock });
      return parseTlsMaterial({ caPem: authority.certPem, certPem: leaf.certPem, keyPem: leaf.keyPem }, clock.wallMs());
    };
    const metainfo = await answerOf<Metainfo>(start({ role: 'prepare', root: join(root, 'seeder'), sizeBytes }));
    if (!values.json)
      process.stdout.write(`${sizeBytes / mib} MiB in ${metainfo.pieceCount} pieces of ${metainfo.pieceLengthBytes / mib} MiB\n`);
    for (const read of [false, true]) {
      const serving = start({ role: 'seed', root: join(root, 'seeder'), sizeBytes, material: await materialOf(seeder) });
      const endpoint = await answerOf<string>(serving);
      const target = join(root, `leecher-${read}`);
      const material = await materialOf(leecher);
      const received = await answerOf<Usage>(start({ role: 'leech', root: target, sizeBytes, material, metainfo, endpoint, read }));
      serving.send('end');
      const sent = await answerOf<Usage>(serving);
      await rm(target, { recursive: true });
      runs.push({ read, sizeBytes, received, sent });
      if (values.json) continue;
      const first = received.firstByteMs === undefined ? '' : `, first byte after ${received.firstByteMs.toFixed(1)} ms`;
      process.stdout.write(
        `${read ? 'fetch and read' : 'fetch, synced'}: ${(sizeBytes / 1e6 / received.seconds).toFixed(0)} MB/s${first}\n`,
      );
      print('  sending side', sent, sizeBytes);
      print('  receiving side', received, sizeBytes);
    }
    if (values.json) process.stdout.write(`${JSON.stringify(runs)}\n`);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

await (process.argv[2] === 'child' ? child() : main());
