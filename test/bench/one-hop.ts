/**
 * How fast pieces go from one process to another: an exchange of 1 MiB pieces against a bare mutual-TLS socket in the same run.
 *
 *   node --import tsx test/bench/one-hop.ts [--mib 2048] [--rounds 3] [--plain-gc] [--json]
 *
 * Each transport gets a fresh sender and a fresh receiver process, and a warm-up that is not counted. The rounds alternate between the transports, so
 * that whatever else the machine does hits both; the table shows the median round of each. CPU is user plus system time of one side per GB.
 *
 * grpc-js allocates a buffer for each message. V8 frees such buffers on another thread, sees too much external memory meanwhile, and answers
 * with a full collection for every few dozen pieces. Both ends therefore free them at once, as the services do, unless `--plain-gc` is given.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type TLSSocket } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { Bitfield, nullMeter, parseDigest, silentLogger } from '#core';
import { createAuthority, issueLeaf, parseTlsMaterial, roleDnsName, StaticCertificateSource, type TlsMaterial } from '#pki';
import { ChannelPool, type InboundExchange, pieceFrame, WireServer } from '#wire';
import { SystemClock } from '../../services/lib/runtime/clock.ts';

type Transport = 'raw' | 'wire';
type Message =
  | { readonly kind: 'ready'; readonly port: number }
  | { readonly kind: 'mark' }
  | { readonly kind: 'transfer'; readonly pieceCount: number }
  | { readonly kind: 'done'; readonly seconds: number; readonly cpuSeconds: number }
  | { readonly kind: 'report' };

interface Round {
  readonly megabytesPerSec: number;
  readonly senderCpuSecPerGb: number;
  readonly receiverCpuSecPerGb: number;
}

interface Setup {
  readonly side: 'sender' | 'receiver';
  readonly transport: Transport;
  readonly plainGc: boolean;
  readonly port: number;
  readonly material: TlsMaterial;
}

const cluster = 'bench';
const pieceSizeBytes = 1 << 20;
const warmUpPieceCount = 256;
/** Requests in flight: enough to never wait for the way there. */
const windowPieceCount = 16;
const digest = parseDigest(`sha256:${'0'.repeat(64)}`);
const clock = new SystemClock();
const deps = { clock, logger: silentLogger, meter: nullMeter };

const setupText = process.env['ONE_HOP'];
if (setupText === undefined) await main();
else await runSide(JSON.parse(setupText));

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { mib: { type: 'string' }, rounds: { type: 'string' }, json: { type: 'boolean' }, 'plain-gc': { type: 'boolean' } },
  });
  const plainGc = values['plain-gc'] ?? false;
  const pieceCount = Number(values.mib ?? 2048);
  const roundCount = Number(values.rounds ?? 3);
  const rounds: Record<Transport, Round[]> = { raw: [], wire: [] };
  for (let round = 0; round < roundCount; round += 1) {
    for (const transport of ['raw', 'wire'] as const) rounds[transport].push(await measure(transport, pieceCount, plainGc));
  }
  const raw = median(rounds.raw);
  const wire = median(rounds.wire);
  const ratio = wire.megabytesPerSec / raw.megabytesPerSec;
  if (values.json) {
    process.stdout.write(`${JSON.stringify({ node: process.version, plainGc, pieceCount, roundCount, raw, wire, ratio })}\n`);
    return;
  }
  process.stdout.write('transport    MB/s   sender CPU-s/GB   receiver CPU-s/GB\n');
  for (const [name, { megabytesPerSec, senderCpuSecPerGb, receiverCpuSecPerGb }] of Object.entries({ raw, wire })) {
    const cells = [
      megabytesPerSec.toFixed(0).padStart(8),
      senderCpuSecPerGb.toFixed(2).padStart(18),
      receiverCpuSecPerGb.toFixed(2).padStart(20),
    ];
    process.stdout.write(`${name.padEnd(8)}${cells.join('')}\n`);
  }
  process.stdout.write(
    `ratio ${ratio.toFixed(2)} (wire to raw, medians of ${roundCount} rounds of ${pieceCount} MiB, Node ${process.version})\n`,
  );
}

function median(rounds: readonly Round[]): Round {
  const sorted = [...rounds].sort((a, b) => a.megabytesPerSec - b.megabytesPerSec);
  const middle = sorted[Math.floor(sorted.length / 2)];
  if (middle === undefined) throw new Error('at least one round');
  return middle;
}

async function measure(transport: Transport, pieceCount: number, plainGc: boolean): Promise<Round> {
  const authority = await createAuthority({ cluster }, { clock });
  const materialOf = async (id: string): Promise<TlsMaterial> => {
    const leaf = await issueLeaf(authority, { identity: { role: 'agent', id } }, { clock });
    return parseTlsMaterial({ caPem: authority.certPem, certPem: leaf.certPem, keyPem: leaf.keyPem }, clock.wallMs());
  };
  const sender = spawnSide({ side: 'sender', transport, plainGc, port: 0, material: await materialOf('sender') });
  try {
    const { port } = await answer(sender, 'ready');
    const receiver = spawnSide({ side: 'receiver', transport, plainGc, port, material: await materialOf('receiver') });
    try {
      await answer(receiver, 'ready');
      await ask(receiver, { kind: 'transfer', pieceCount: warmUpPieceCount });
      sender.send({ kind: 'mark' });
      const received = await ask(receiver, { kind: 'transfer', pieceCount });
      const sent = await ask(sender, { kind: 'report' });
      const gigabytes = (pieceCount * pieceSizeBytes) / 1e9;
      return {
        megabytesPerSec: (gigabytes * 1000) / received.seconds,
        senderCpuSecPerGb: sent.cpuSeconds / gigabytes,
        receiverCpuSecPerGb: received.cpuSeconds / gigabytes,
      };
    } finally {
      receiver.kill();
    }
  } finally {
    sender.kill();
  }
}

function spawnSide(setup: Setup): ChildProcess {
  return fork(fileURLToPath(import.meta.url), { env: { ...process.env, ONE_HOP: JSON.stringify(setup) }, execArgv: process.execArgv });
}

async function ask(child: ChildProcess, message: Message): Promise<Extract<Message, { kind: 'done' }>> {
  const reply = answer(child, 'done');
  child.send(message);
  return reply;
}

async function answer<K extends Message['kind']>(child: ChildProcess, kind: K): Promise<Extract<Message, { kind: K }>> {
  const [message]: Message[] = await once(child, 'message');
  if (message?.kind !== kind) throw new Error(`expected ${kind}, got ${JSON.stringify(message)}`);
  return message as Extract<Message, { kind: K }>;
}

/** A child: one end of one transport. */
async function runSide({ side, transport, plainGc, port, material }: Setup): Promise<void> {
  if (!plainGc) setFlagsFromString('--no-concurrent-array-buffer-sweeping');
  let transfer = async (_pieceCount: number): Promise<void> => undefined;
  let bound = 0;
  if (side === 'sender') bound = transport === 'raw' ? await rawSender(material) : await wireSender(material);
  else transfer = transport === 'raw' ? await rawReceiver(material, port) : await wireReceiver(material, port);
  let cpu = process.cpuUsage();
  process.on('message', async (message: Message) => {
    if (message.kind === 'mark') cpu = process.cpuUsage();
    if (message.kind === 'report') say({ kind: 'done', seconds: 0, cpuSeconds: cpuSecondsSince(cpu) });
    if (message.kind !== 'transfer') return;
    cpu = process.cpuUsage();
    const startedMs = performance.now();
    await transfer(message.pieceCount);
    say({ kind: 'done', seconds: (performance.now() - startedMs) / 1000, cpuSeconds: cpuSecondsSince(cpu) });
  });
  say({ kind: 'ready', port: bound });
}

function say(message: Message): void {
  process.send?.(message);
}

function cpuSecondsSince(before: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

async function rawSender({ caPem, certPem, keyPem }: TlsMaterial): Promise<number> {
  const options = { ca: caPem, cert: certPem, key: keyPem, requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.3' } as const;
  const server = createServer(options, (socket) => {
    const piece = Buffer.alloc(pieceSizeBytes, 7);
    socket.on('data', (bytes) => void sendPieces(socket, piece, bytes.readUInt32BE(0)));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

async function sendPieces(socket: TLSSocket, piece: Buffer, pieceCount: number): Promise<void> {
  for (let sent = 0; sent < pieceCount; sent += 1) if (!socket.write(piece)) await once(socket, 'drain');
}

async function rawReceiver({ caPem, certPem, keyPem }: TlsMaterial, port: number): Promise<(pieceCount: number) => Promise<void>> {
  const socket = connect({ host: '127.0.0.1', port, ca: caPem, cert: certPem, key: keyPem, servername: roleDnsName(cluster, 'agent') });
  await once(socket, 'secureConnect');
  let missingBytes = 0;
  let finish = (): void => undefined;
  socket.on('data', (bytes) => {
    missingBytes -= bytes.byteLength;
    if (missingBytes === 0) finish();
  });
  return (pieceCount) =>
    new Promise((resolve) => {
      missingBytes = pieceCount * pieceSizeBytes;
      finish = resolve;
      const request = Buffer.alloc(4);
      request.writeUInt32BE(pieceCount);
      socket.write(request);
    });
}

async function wireSender(material: TlsMaterial): Promise<number> {
  const server = new WireServer({ host: '127.0.0.1', port: 0 }, { ...deps, certificates: new StaticCertificateSource(material) });
  server.addPeerService({ exchange: serveExchange, fetchBlob: async () => ({ data: new Uint8Array(0) }) });
  return (await server.listen()).port;
}

function serveExchange(exchange: InboundExchange): void {
  const waiting: number[] = [];
  let sending = false;
  const send = async (): Promise<void> => {
    sending = true;
    for (let index = waiting.shift(); index !== undefined; index = waiting.shift()) await exchange.piece(index, pieceFrame(pieceSizeBytes));
    sending = false;
  };
  exchange.listen({
    requested: (pieces) => {
      for (const index of pieces) waiting.push(index);
      if (!sending) void send().catch(() => undefined);
    },
    cancelled: () => undefined,
    closed: () => undefined,
  });
  exchange.accept(Bitfield.full(1));
}

async function wireReceiver(material: TlsMaterial, port: number): Promise<(pieceCount: number) => Promise<void>> {
  const pool = new ChannelPool({}, { ...deps, certificates: new StaticCertificateSource(material) });
  let requestedCount = 0;
  let receivedCount = 0;
  let wantedCount = 0;
  let finish = (): void => undefined;
  let accept = (): void => undefined;
  const accepted = new Promise<void>((resolve) => {
    accept = resolve;
  });
  const exchange = pool.dialExchange({ endpoint: `127.0.0.1:${port}`, role: 'agent', id: 'sender' }, digest, {
    accepted: () => accept(),
    refused: () => undefined,
    have: () => undefined,
    piece: () => {
      receivedCount += 1;
      if (requestedCount < wantedCount) exchange.request([requestedCount++]);
      if (receivedCount === wantedCount) finish();
    },
    pieceRefused: () => undefined,
    closed: (error) => {
      throw error ?? new Error('the exchange was closed');
    },
  });
  await accepted;
  return (pieceCount) =>
    new Promise((resolve) => {
      finish = resolve;
      requestedCount = Math.min(windowPieceCount, pieceCount);
      receivedCount = 0;
      wantedCount = pieceCount;
      exchange.request(Array.from({ length: requestedCount }, (_, index) => index));
    });
}
