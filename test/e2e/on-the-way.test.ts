/** How clients read a blob that an agent is still downloading: containerd's ranges side by side, podman's many ranges at once, and clients that leave. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { get, type IncomingMessage } from 'node:http';
import { after, before, test } from 'node:test';
import { partsOf } from '../conformance/ranges.ts';
import { Registry } from '../conformance/registry.ts';
import { startCluster, type TestCluster } from '../support/cluster-process.ts';
import { until } from '../support/processes.ts';
import { pushBlob } from '../support/registry-client.ts';
import { tempDir } from '../support/temp.ts';

const mib = 2 ** 20;
const repository = 'demo/large';
const bytes = randomBytes(64 * mib + 12_345);
let cluster: TestCluster;
let digest: string;

before(async () => {
  cluster = await startCluster({ directory: tempDir('on-the-way'), agents: 3 });
  digest = await pushBlob(cluster.registry('proxy-1'), repository, bytes);
});

after(async () => cluster?.stop());

const path = (): string => `/v2/${repository}/blobs/${digest}`;
const url = (agent: string): string => `http://${cluster.registry(agent)}${path()}`;

interface ShownTransfer {
  readonly digest: string;
  readonly complete: boolean;
  readonly pieceCount: number;
  readonly verifiedCount: number;
  readonly sources: readonly { readonly pieceCount: number }[];
}

/** The agent's transfer of the blob, if it has one. */
async function transferAt(agent: string): Promise<ShownTransfer | undefined> {
  const { code, stdout, stderr } = await cluster.shoal('transfers', agent, '--json');
  assert.equal(code, 0, stderr);
  return (JSON.parse(stdout) as readonly ShownTransfer[]).find((transfer) => transfer.digest === digest);
}

async function limitIngress(agent: string, rate: string): Promise<void> {
  const { code, stderr } = await cluster.shoal('limits', agent, '--set', `ingress=${rate}`);
  assert.equal(code, 0, stderr);
}

/** Open descriptors of the agent's process: files, and connections of clients and peers. */
const descriptorsOf = (agent: string): number => readdirSync(`/proc/${cluster.node(agent).pid}/fd`).length;

test('ranges side by side, as containerd asks for a layer, are one download and make the exact blob', async () => {
  const sizeBytes = 4 * mib;
  const starts = Array.from({ length: Math.ceil(bytes.byteLength / sizeBytes) }, (_, index) => index * sizeBytes);
  const assembled = Buffer.alloc(bytes.byteLength);
  let firstIsHere: Promise<void> | undefined;
  await limitIngress('agent-1', '2MiB/s');
  const checkAndHurry = async (): Promise<void> => {
    assert.equal((await transferAt('agent-1'))?.complete, false);
    await limitIngress('agent-1', '0');
  };
  const worker = async (): Promise<void> => {
    for (let start = starts.shift(); start !== undefined; start = starts.shift()) {
      const end = Math.min(start + sizeBytes, bytes.byteLength);
      const response = await fetch(url('agent-1'), { headers: { range: `bytes=${start}-${end - 1}` } });
      assert.equal(response.status, 206);
      assert.equal(response.headers.get('content-range'), `bytes ${start}-${end - 1}/${bytes.byteLength}`);
      assert.equal(response.headers.get('content-length'), String(end - start));
      Buffer.from(await response.arrayBuffer()).copy(assembled, start);
      firstIsHere ??= checkAndHurry();
      await firstIsHere;
    }
  };
  await Promise.all(Array.from({ length: 6 }, worker));
  assert.ok(assembled.equals(bytes));
  const transfer = await until('the download is complete', async () => {
    const shown = await transferAt('agent-1');
    return shown?.complete === true ? shown : undefined;
  });
  const got = transfer.sources.reduce((sum, { pieceCount }) => sum + pieceCount, 0);
  assert.equal(got, transfer.pieceCount, 'every piece came once');
});

test('many ranges in one request, as podman asks for the changed files of a layer, are exact while the rest is on its way', async () => {
  await limitIngress('agent-2', '2MiB/s');
  using registry = new Registry({ url: `http://${cluster.registry('agent-2')}` });
  // From the end to the beginning, so that nothing of it comes by chance; small and unaligned.
  const ranges = Array.from({ length: 400 }, (_, index) => bytes.byteLength - 1 - (index + 1) * 16_013);
  const header = `bytes=${ranges.map((start) => `${start}-${start + 999}`).join(',')}`;
  const reply = await registry.expect(206, 'GET', path(), { headers: { range: header } });
  const incomplete = await transferAt('agent-2');
  assert.deepEqual(
    partsOf(reply).map(({ range, bytes: part }, index) => {
      const start = ranges[index] ?? 0;
      return range === `bytes ${start}-${start + 999}/${bytes.byteLength}` && part.equals(bytes.subarray(start, start + 1000));
    }),
    ranges.map(() => true),
  );
  assert.equal(incomplete?.complete, false);
});

/** Resolves with the head of the reply; its body is not read. A connection of its own, which ends with it. */
async function askRange(agent: string, start: number, sizeBytes: number): Promise<IncomingMessage> {
  const headers = { range: `bytes=${start}-${start + sizeBytes - 1}` };
  return new Promise((resolve, reject) => {
    get(url(agent), { agent: false, headers }, resolve).once('error', reject);
  });
}

test('ranges that are broken off free their connections and files, and when the last client has left the download ends', async () => {
  const agent = 'agent-3';
  await limitIngress(agent, '1MiB/s');
  const before = descriptorsOf(agent);
  const asked = await Promise.all(Array.from({ length: 60 }, async (_, index) => askRange(agent, index * mib, 4 * mib)));
  assert.deepEqual(new Set(asked.map(({ statusCode }) => statusCode)), new Set([206]));
  const during = descriptorsOf(agent);
  assert.ok(during >= before + 60, `${before} descriptors before, ${during} with 60 clients`);
  assert.equal((await transferAt(agent))?.complete, false);
  for (const response of asked) response.destroy();
  await until('the transfer has ended', async () => ((await transferAt(agent)) === undefined ? true : undefined));
  // What stays: the thread that hashes (4), and a connection to each node that has the blob.
  const kept = 4 + 8;
  await until('the descriptors are free again', async () => (descriptorsOf(agent) <= before + kept ? true : undefined), 20_000);
  const links = await cluster.shoal('links', agent, '--json');
  assert.ok(!links.stdout.includes(digest), links.stdout);
});

test('one who comes later goes on from the pieces that stayed', async () => {
  const agent = 'agent-3';
  await limitIngress(agent, '0');
  const response = await fetch(url(agent));
  assert.equal(response.status, 200);
  const hash = createHash('sha256');
  for await (const chunk of response.body ?? []) hash.update(chunk);
  assert.equal(`sha256:${hash.digest('hex')}`, digest);
  const transfer = await transferAt(agent);
  assert.ok(transfer !== undefined);
  const got = transfer.sources.reduce((sum, { pieceCount }) => sum + pieceCount, 0);
  assert.ok(got < transfer.pieceCount, `${got} of ${transfer.pieceCount} pieces came after the pause`);
});
