/**
 * Clients that are slow, broken or many at once, against the gateways of a whole cluster: none is answered with a server error, nobody else is held
 * up, results are exact, and afterwards every process holds what it held before.
 */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { get, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { stringify } from 'yaml';
import { type Asked, ask } from '../support/ask.ts';
import { startCluster, type TestCluster } from '../support/cluster-process.ts';
import { type MalformedRequest, malformedReads, malformedWrites } from '../support/malformed-requests.ts';
import { mutations } from '../support/mutations.ts';
import { usageOf } from '../support/process-usage.ts';
import { until } from '../support/processes.ts';
import { exchangeRaw, openRaw, repliesOf } from '../support/raw-http.ts';
import { tempDir } from '../support/temp.ts';

const mib = 2 ** 20;
const repository = 'hostile/app';
const manifestType = 'application/vnd.oci.image.manifest.v1+json';
/** So that slow clients meet them within the test, but not while others should have been served. */
const limits = { headTimeout: '4s', bodyIdle: '5s', bodyWindow: '5s', bodyPerSecond: '8KiB' };
const root = tempDir('hostile');
let cluster: TestCluster;
let proxy: string;
let agent: string;
let largeDigest: string;
let smallDigest: string;
/** Open files of each process before anything hostile. */
let quietFiles: ReadonlyMap<string, number>;

const digestOf = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
const times = <T>(count: number, make: (index: number) => T): T[] => Array.from({ length: count }, (_, index) => make(index));

before(async () => {
  const gateway = join(root, 'gateway.yaml');
  writeFileSync(gateway, stringify({ registry: { limits } }));
  cluster = await startCluster({ directory: join(root, 'cluster'), agents: 1, args: ['--gateway-config', gateway] });
  proxy = cluster.registry('proxy-1');
  agent = cluster.registry('agent-1');
  quietFiles = new Map(cluster.nodes.map(({ id }) => [id, openCount(id)]));
  largeDigest = await push(randomBytes(16 * mib));
  smallDigest = await push(randomBytes(5000));
  await pull(agent, largeDigest);
});

after(async () => cluster?.stop());

async function pull(registry: string, digest: string, from = repository): Promise<void> {
  const { status, body } = await ask('GET', `http://${registry}/v2/${from}/blobs/${digest}`);
  assert.deepEqual([status, digestOf(body)], [200, digest]);
}

/** A client that reads on and on, but never as fast as it could. */
async function pullSlowly(registry: string, digest: string): Promise<void> {
  const hash = createHash('sha256');
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    get(`http://${registry}/v2/${repository}/blobs/${digest}`, { agent: false }, resolve).once('error', reject);
  });
  for await (const chunk of response) {
    hash.update(chunk);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  assert.equal(`sha256:${hash.digest('hex')}`, digest);
}

async function newSession(into = repository): Promise<string> {
  const { status, headers, body } = await ask('POST', `http://${proxy}/v2/${into}/blobs/uploads/`);
  assert.equal(status, 202, body.toString());
  return `http://${proxy}${headers.location}`;
}

async function push(body: Buffer): Promise<string> {
  const digest = digestOf(body);
  const { status } = await ask('PUT', `${await newSession()}?digest=${digest}`, { body });
  assert.equal(status, 201);
  return digest;
}

/** A client that says something, then little, and reads only when told to. */
class SlowClient {
  readonly socket: Socket;
  readonly ended: Promise<void>;
  /** Sent five times a second. */
  drip: string;
  hasEnded = false;
  #said = '';

  constructor(address: string, head: string, options: { readonly drip: string; readonly reads: boolean }) {
    this.socket = openRaw(address);
    this.drip = options.drip;
    if (options.reads) {
      this.socket.setEncoding('latin1').on('data', (text: string) => {
        this.#said += text;
      });
    } else {
      this.socket.pause();
    }
    const timer = setInterval(() => {
      if (this.drip !== '') this.socket.write(this.drip);
    }, 200);
    this.ended = new Promise((resolve) => {
      this.socket.once('close', () => {
        clearInterval(timer);
        this.hasEnded = true;
        resolve();
      });
    });
    this.socket.write(head);
  }

  get statuses(): readonly number[] {
    return repliesOf(this.#said).replies.map(({ status }) => status);
  }
}

/** What a client that reads nothing is to the gateway: it is cut off, which it sees once it reads. */
async function endedUnread({ socket, ended }: SlowClient): Promise<void> {
  socket.resume();
  await ended;
}

interface Crowd {
  readonly bodies: readonly SlowClient[];
  readonly heads: readonly SlowClient[];
  readonly readers: readonly SlowClient[];
  readonly sessions: readonly string[];
}

/** Bytes of a body: every other client sends chunks. */
const dripOf = (index: number, sizeBytes: number): string =>
  index % 2 === 0 ? 'x'.repeat(sizeBytes) : `${sizeBytes.toString(16)}\r\n${'x'.repeat(sizeBytes)}\r\n`;

async function slowCrowd(count: number): Promise<Crowd> {
  const sessions = await Promise.all(times(count, async () => newSession()));
  const framings = ['Content-Length: 100000000\r\n\r\n', 'Transfer-Encoding: chunked\r\n\r\n'];
  return {
    sessions,
    bodies: sessions.map((path, index) => {
      const head = `PATCH ${new URL(path).pathname} HTTP/1.1\r\nHost: x\r\n${framings[index % 2]}`;
      return new SlowClient(proxy, head, { drip: dripOf(index, 8000), reads: true });
    }),
    heads: times(count / 4, () => new SlowClient(proxy, 'GET /v2/ HTTP/1.1\r\nHost: x\r\nA: ', { drip: 'x', reads: true })),
    readers: times(count, (index) => {
      const head = `GET /v2/${repository}/blobs/${largeDigest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`;
      return new SlowClient(index % 2 === 0 ? proxy : agent, head, { drip: '', reads: false });
    }),
  };
}

test('200 slow bodies, 200 slow readers and 50 slow heads hold nobody else up, and each is ended by the limits', async (t) => {
  const { bodies, heads, readers, sessions } = await slowCrowd(200);
  t.after(() => {
    for (const { socket } of [...bodies, ...heads, ...readers]) socket.destroy();
  });
  const slowly = [proxy, agent].map((registry) => pullSlowly(registry, largeDigest));
  await pull(agent, await push(randomBytes(4 * mib)));
  assert.ok(!bodies.some(({ hasEnded }) => hasEnded), 'a push and a pull need no slow client to end');
  for (const [index, body] of bodies.entries()) body.drip = dripOf(index, 1);
  await Promise.all(slowly);
  await Promise.all([...bodies, ...heads].map(({ ended }) => ended));
  assert.deepEqual([...new Set([...bodies, ...heads].map(({ statuses }) => statuses.join()))], ['408']);
  await until('the readers are cut off', async () => (openCount('proxy-1') <= (quietFiles.get('proxy-1') ?? 0) + 20 ? true : undefined));
  await Promise.all(readers.map(endedUnread));
  for (const path of sessions) {
    const { status, headers } = await ask('GET', path);
    assert.equal(status, 204);
    assert.match(headers.range ?? '', /^0-[1-9]\d{3,6}$/, 'what came is kept');
    assert.equal((await ask('DELETE', path)).status, 204);
  }
});

const openCount = (id: string): number => usageOf(cluster.node(id).pid).fileCount;

async function assertRefused(address: string, { what, bytes, expected }: MalformedRequest): Promise<void> {
  const session = bytes.includes('{session}') ? new URL(await newSession()).pathname : '';
  const text = bytes.replaceAll('{repository}', repository).replaceAll('{digest}', smallDigest).replaceAll('{session}', session);
  const { replies, rest } = await exchangeRaw(address, text);
  const statuses = replies.map(({ status }) => status);
  const isRight =
    statuses.length === expected.length && statuses.every((status, index) => [expected[index]].flat().includes(status)) && rest === '';
  assert.ok(
    isRight,
    `${what}: expected ${JSON.stringify(expected)}, got ${statuses} ${replies.at(-1)?.body.slice(0, 300)} ${rest.slice(0, 300)}`,
  );
  for (const { status, body } of replies) if (status >= 400) assert.ok(JSON.parse(body).errors[0].code, what);
}

test('malformed requests of every kind get the proper error, or the end of the connection', async () => {
  await Promise.all([
    ...malformedReads.flatMap((request) => [assertRefused(proxy, request), assertRefused(agent, request)]),
    ...malformedWrites.map((request) => assertRefused(proxy, request)),
  ]);
  for (const { bytes, what } of malformedWrites) {
    if (bytes.includes('{session}') || !bytes.includes('Connection: close')) continue;
    const { replies } = await exchangeRaw(agent, bytes.replaceAll('{repository}', repository));
    assert.ok([400, 401, 404, 405, 414].includes(replies[0]?.status ?? 0), `${what}: the read-only gateway answers ${replies[0]?.status}`);
  }
});

test('requests with bytes changed, lost and doubled at random are answered without a server error', async () => {
  const seed = randomBytes(4).readUInt32LE();
  const session = new URL(await newSession()).pathname;
  const manifest = manifestOf('fuzz').toString();
  const seeds = [
    `GET /v2/${repository}/blobs/${smallDigest} HTTP/1.1\r\nHost: x\r\nRange: bytes=1-2,4-\r\nIf-None-Match: "x"\r\n\r\n`,
    `GET /v2/${repository}/tags/list?n=3&last=a HTTP/1.1\r\nHost: x\r\nAccept: */*\r\nAuthorization: Basic YTpi\r\n\r\n`,
    `PATCH ${session} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n`,
    `PUT /v2/${repository}/manifests/fuzz HTTP/1.1\r\nHost: x\r\nContent-Type: ${manifestType}\r\nContent-Length: ${manifest.length}\r\n\r\n${manifest}`,
    `POST /v2/${repository}/blobs/uploads/?mount=${smallDigest}&from=${repository} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n`,
    `HEAD /v2/${repository}/referrers/${smallDigest}?artifactType=a/b HTTP/1.1\r\nHost: x\r\n\r\n`,
  ];
  // The good request behind it ends whatever the changed one leaves open.
  const ending = 'GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n';
  const queue = [...mutations(seeds, { count: 1500, seed })];
  const worker = async (): Promise<void> => {
    for (let text = queue.pop(); text !== undefined; text = queue.pop()) {
      const { replies } = await exchangeRaw(queue.length % 3 === 0 ? agent : proxy, text + ending);
      const failed = replies.find(({ status }) => status >= 500);
      assert.equal(failed, undefined, `seed ${seed}: ${JSON.stringify(text)} -> ${JSON.stringify(failed)}`);
    }
  };
  await Promise.all(times(64, worker));
  await pull(proxy, smallDigest);
});

test('100 pushes of one digest at once are all accepted, and it is there once', async () => {
  const body = randomBytes(mib + 1);
  const digest = digestOf(body);
  const pushed = async (index: number): Promise<number> => {
    const into = `${repository}${index % 4}`;
    if (index % 2 === 0) return (await ask('POST', `http://${proxy}/v2/${into}/blobs/uploads/?digest=${digest}`, { body })).status;
    const path = await newSession(into);
    assert.equal((await ask('PATCH', path, { body })).status, 202);
    return (await ask('PUT', `${path}?digest=${digest}`)).status;
  };
  assert.deepEqual([...new Set(await Promise.all(times(100, pushed)))], [201]);
  for (let index = 0; index < 4; index += 1) await pull(index % 2 === 0 ? agent : proxy, digest, `${repository}${index}`);
  const { stdout } = await cluster.shoal('uploads', '--json');
  const open = JSON.parse(stdout) as readonly { readonly repository: string }[];
  assert.deepEqual(
    open.filter((upload) => /^hostile\/app\d$/.test(upload.repository)),
    [],
    'no session stays open',
  );
});

function manifestOf(name: string): Buffer {
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: manifestType,
      config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: smallDigest, size: 5000 },
      layers: [],
      annotations: { name },
    }),
  );
}

test('50 puts of one tag at once: each manifest is kept, the tag is one of them, and never anything else', async () => {
  const manifests = times(50, (index) => manifestOf(`put ${index}`));
  const digests = manifests.map(digestOf);
  const get = async (registry: string, reference: string): Promise<Asked> =>
    ask('GET', `http://${registry}/v2/${repository}/manifests/${reference}`);
  const put = async (body: Buffer): Promise<number> =>
    (await ask('PUT', `http://${proxy}/v2/${repository}/manifests/raced`, { headers: { 'content-type': manifestType }, body })).status;
  const look = async (registry: string): Promise<string> => {
    const { status, body } = await get(registry, 'raced');
    return status === 404 || (status === 200 && digests.includes(digestOf(body))) ? 'fine' : `${status} ${body}`;
  };
  const [statuses, looks] = await Promise.all([
    Promise.all(manifests.map(put)),
    Promise.all(times(50, (index) => look(index % 2 === 0 ? proxy : agent))),
  ]);
  assert.deepEqual([[...new Set(statuses)], [...new Set(looks)]], [[201], ['fine']]);
  const winners = await Promise.all([proxy, agent].map(async (registry) => digestOf((await get(registry, 'raced')).body)));
  assert.ok(winners[0] === winners[1] && digests.includes(winners[0] ?? ''));
  for (const digest of digests) assert.equal((await get(agent, digest)).status, 200);
  const { tags } = JSON.parse((await ask('GET', `http://${proxy}/v2/${repository}/tags/list`)).body.toString());
  assert.equal(tags.filter((tag: string) => tag === 'raced').length, 1);
});

/** Everything that is harmful at once, in small. */
async function storm(): Promise<void> {
  const { bodies, heads, readers, sessions } = await slowCrowd(100);
  await Promise.all(malformedReads.flatMap((request) => [assertRefused(proxy, request), assertRefused(agent, request)]));
  await Promise.all(times(50, async () => push(randomBytes(mib / 8))));
  for (const { socket } of [...bodies, ...heads, ...readers]) socket.destroy();
  await until('the sessions are free', async () => {
    const replies = await Promise.all(sessions.map(async (path) => ask('DELETE', path)));
    return replies.every(({ status }) => status === 204 || status === 404) ? true : undefined;
  });
}

const nodesWithData = (): TestCluster['nodes'] => cluster.nodes.filter(({ role }) => role !== 'tracker');

/** Waits until every process has as few open files as at its start and the channels to other nodes. Blobs stay open for 30 s after a peer read them. */
async function settle(): Promise<void> {
  for (const { id } of nodesWithData()) {
    const most = (quietFiles.get(id) ?? 0) + 12;
    await until(`${id} closes its files`, async () => (openCount(id) <= most ? true : undefined), 40_000).catch((error) => {
      throw new Error(`${id} has ${openCount(id)} open files, at its start ${quietFiles.get(id)}`, { cause: error });
    });
  }
}

test('open files and memory of every process return to what they were', async () => {
  // A heap grows to its working size first.
  await storm();
  await storm();
  await settle();
  const before = new Map(nodesWithData().map(({ id, pid }) => [id, usageOf(pid).residentBytes]));
  for (let round = 0; round < 2; round += 1) await storm();
  await settle();
  for (const { id, pid } of nodesWithData()) {
    const grownMib = (usageOf(pid).residentBytes - (before.get(id) ?? 0)) / mib;
    assert.ok(grownMib < 64, `${id} has grown by ${grownMib.toFixed(0)} MiB`);
  }
});

test('no process has logged a failure or a server error', () => {
  for (const { id } of cluster.nodes) {
    const lines = cluster.log(id).split('\n');
    assert.ok(lines.length > 1);
    // A gateway warns of each answer with a status of 500 and more.
    const bad = lines.filter((line) => line.includes('"level":"error"') || line.includes('"request refused"'));
    assert.deepEqual(bad.slice(0, 5), [], id);
  }
});
