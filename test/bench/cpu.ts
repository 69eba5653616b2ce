/**
 * Where each CPU-second per GB goes when a blob moves from one node to another, sending and receiving side. Each layer is measured alone, in
 * processes of its own, and is the difference to the one below it: a mutual-TLS socket, an exchange of pieces over gRPC, two whole nodes with
 * stores on disk. Encryption, hashing and disk are measured apart; what then remains of a node is our own code, and what copies and garbage
 * of the layers cost each other. CPU is user plus system time of all threads of a side, so it includes the kernel's work on its behalf.
 *
 *   node --import tsx test/bench/cpu.ts [--mib 1024] [--rounds 3] [--json]
 */
import { execFile } from 'node:child_process';
import { createCipheriv, createHash, randomBytes, randomFillSync } from 'node:crypto';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { printTable } from './table.ts';

const { values } = parseArgs({
  options: {
    mib: { type: 'string', default: '1024' },
    rounds: { type: 'string', default: '3' },
    json: { type: 'boolean', default: false },
  },
});
const mib = 1024 * 1024;
const sizeBytes = Number(values.mib) * mib;
const gigabytes = sizeBytes / 1e9;

interface Sides {
  readonly sending: number;
  readonly receiving: number;
}

async function output(program: string, args: readonly string[]): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', `test/bench/${program}.ts`, ...args, '--json']);
  return stdout;
}

/** CPU seconds per GB of sockets and of exchanges. */
async function transports(): Promise<Readonly<Record<'raw' | 'wire', Sides>>> {
  const report: Record<string, { senderCpuSecPerGb: number; receiverCpuSecPerGb: number }> = JSON.parse(
    await output('one-hop', ['--mib', values.mib, '--rounds', values.rounds]),
  );
  const of = (name: string): Sides => ({
    sending: report[name]?.senderCpuSecPerGb ?? Number.NaN,
    receiving: report[name]?.receiverCpuSecPerGb ?? Number.NaN,
  });
  return { raw: of('raw'), wire: of('wire') };
}

/** CPU seconds per GB of two nodes whose receiver fetches the blob, the median round. */
async function nodes(): Promise<Sides> {
  const rounds: Sides[] = [];
  for (let round = 0; round < Number(values.rounds); round += 1) {
    const [fetched]: { sent: { cpuSeconds: number }; received: { cpuSeconds: number } }[] = JSON.parse(await output('peer', [values.mib]));
    if (fetched === undefined) throw new Error('no run');
    rounds.push({ sending: fetched.sent.cpuSeconds / gigabytes, receiving: fetched.received.cpuSeconds / gigabytes });
  }
  return { sending: median(rounds.map((round) => round.sending)), receiving: median(rounds.map((round) => round.receiving)) };
}

function median(list: readonly number[]): number {
  return [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)] ?? Number.NaN;
}

/** CPU seconds per GB of some work on the whole size. */
async function cost(work: () => Promise<void> | void): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6 / gigabytes;
}

const piece = randomFillSync(Buffer.allocUnsafe(mib));

/** As the receiver does: each piece, and the whole blob. */
function hash(): void {
  const whole = createHash('sha256');
  for (let at = 0; at < sizeBytes; at += mib) {
    createHash('sha256').update(piece).digest();
    whole.update(piece);
  }
  whole.digest();
}

/** In the size of TLS 1.3's records. */
function encrypt(): void {
  const cipher = createCipheriv('aes-256-gcm', randomBytes(32), randomBytes(12));
  const record = piece.subarray(0, 16 * 1024);
  for (let at = 0; at < sizeBytes; at += record.byteLength) cipher.update(record);
  cipher.final();
}

async function disk(): Promise<Sides> {
  const root = await mkdtemp(join(tmpdir(), 'shoal-bench-'));
  try {
    const file = await open(join(root, 'blob'), 'w+');
    const receiving = await cost(async () => {
      for (let at = 0; at < sizeBytes; at += mib) await file.write(piece, 0, mib, at);
      await file.sync();
    });
    const sending = await cost(async () => {
      const target = Buffer.allocUnsafe(mib);
      for (let at = 0; at < sizeBytes; at += mib) await file.read(target, 0, mib, at);
    });
    await file.close();
    return { sending, receiving };
  } finally {
    await rm(root, { recursive: true });
  }
}

setFlagsFromString('--no-concurrent-array-buffer-sweeping');
const layers = await transports();
const whole = await nodes();
const hashing = await cost(hash);
const encryption = await cost(encrypt);
const files = await disk();
const rowsOf = (side: keyof Sides): readonly (readonly [string, number])[] => {
  const hashed = side === 'receiving' ? hashing : 0;
  const own = whole[side] - layers.wire[side] - hashed - files[side];
  return [
    ['TLS: encryption', encryption],
    ['TLS: records, sockets, the kernel', layers.raw[side] - encryption],
    ['HTTP/2 and gRPC', layers.wire[side] - layers.raw[side]],
    ['hashing: pieces and whole', hashed],
    ['disk', files[side]],
    ['our code, and what layers cost each other', own],
    ['a node', whole[side]],
  ];
};
if (values.json) {
  process.stdout.write(`${JSON.stringify({ node: process.version, sizeBytes, layers, whole, encryption, hashing, files })}\n`);
} else {
  const [sending, receiving] = [rowsOf('sending'), rowsOf('receiving')];
  const cell = (seconds: number, of: number): string[] => [seconds.toFixed(2), `${((100 * seconds) / of).toFixed(0)} %`];
  printTable(
    ['CPU-s/GB', 'sending', '', 'receiving', ''],
    sending.map(([name, seconds], index) => [
      name,
      ...cell(seconds, whole.sending),
      ...cell(receiving[index]?.[1] ?? Number.NaN, whole.receiving),
    ]),
  );
}
