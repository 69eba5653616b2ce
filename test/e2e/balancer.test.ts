/** Two proxies behind a balancer without stickiness: the requests of one push go to either, and a proxy, or the origin of a session, may die in between. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { request } from 'node:http';
import { after, before, test } from 'node:test';
import { startCluster, type TestCluster } from '../support/cluster-process.ts';
import { DockerEngine } from '../support/docker.ts';
import { until } from '../support/processes.ts';
import { pushBlob } from '../support/registry-client.ts';
import { RoundRobin } from '../support/round-robin.ts';
import { tempDir } from '../support/temp.ts';

const mib = 2 ** 20;
const repository = 'demo/app';
let cluster: TestCluster;
let balancer: RoundRobin;

before(async () => {
  cluster = await startCluster({ directory: tempDir('balancer'), agents: 1, proxies: 2 });
  balancer = await RoundRobin.open([cluster.registry('proxy-1'), cluster.registry('proxy-2')]);
});

after(async () => {
  await balancer?.[Symbol.asyncDispose]();
  await cluster?.stop();
});

const digestOf = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** A push in chunks; `send` is given the whole blob and where to cut it. */
class ChunkedPush {
  readonly bytes: Buffer;
  readonly location: string;

  private constructor(bytes: Buffer, location: string) {
    this.bytes = bytes;
    this.location = location;
  }

  static async start(bytes: Buffer, registry = balancer.address): Promise<ChunkedPush> {
    const response = await fetch(`http://${registry}/v2/${repository}/blobs/uploads/`, { method: 'POST' });
    assert.equal(response.status, 202);
    return new ChunkedPush(bytes, response.headers.get('location') ?? '');
  }

  get id(): string {
    return this.location.slice(this.location.lastIndexOf('/') + 1);
  }

  async ask(method: string, query = '', registry = balancer.address): Promise<Response> {
    return fetch(`http://${registry}${this.location}${query}`, { method });
  }

  async send(startByte: number, endByte: number, registry = balancer.address): Promise<Response> {
    const headers = { 'content-range': `${startByte}-${endByte - 1}`, 'content-type': 'application/octet-stream' };
    return fetch(`http://${registry}${this.location}`, { method: 'PATCH', headers, body: this.bytes.subarray(startByte, endByte) });
  }

  /** Where the session ends, once no request of it is running. */
  async offset(registry = balancer.address): Promise<number> {
    const response = await this.ask('GET', '', registry);
    assert.equal(response.status, 204);
    const last = Number(response.headers.get('range')?.split('-')[1]);
    return last === 0 ? 0 : last + 1;
  }

  async finish(registry = balancer.address): Promise<Response> {
    return this.ask('PUT', `?digest=${digestOf(this.bytes)}`, registry);
  }
}

async function assertPullable(bytes: Buffer): Promise<void> {
  const response = await fetch(`http://${cluster.registry('agent-1')}/v2/${repository}/blobs/${digestOf(bytes)}`);
  assert.equal(response.status, 200);
  assert.ok(Buffer.from(await response.arrayBuffer()).equals(bytes));
}

test('the chunks of an upload go to either proxy', async () => {
  const push = await ChunkedPush.start(randomBytes(5 * mib + 17));
  balancer.chosen.length = 0;
  for (let at = 0; at < push.bytes.byteLength; at += mib) {
    const end = Math.min(at + mib, push.bytes.byteLength);
    const response = await push.send(at, end);
    assert.equal(response.status, 202, await response.text());
    assert.equal(response.headers.get('range'), `0-${end - 1}`);
    assert.equal(await push.offset(), end);
  }
  assert.equal((await push.send(0, mib)).status, 416, 'a chunk in the wrong place is refused');
  assert.equal((await push.finish()).status, 201);
  assert.equal((await push.ask('GET')).status, 404, 'the session is over');
  assert.equal((await push.finish()).status, 201, 'one whose answer got lost asks again');
  assert.equal(new Set(balancer.chosen).size, 2);
  await assertPullable(push.bytes);
});

test('an upload of an unknown origin, and one that never was, are unknown at every proxy', async () => {
  const push = await ChunkedPush.start(Buffer.from('x'));
  const foreign = push.location.replace(push.id, '00000000-0000-8000-8000-000000000000');
  const unknown = push.location.replace(push.id, `${push.id.slice(0, -4)}0000`);
  for (const path of [foreign, unknown]) {
    const response = await fetch(`http://${balancer.address}${path}`);
    assert.equal(response.status, 404);
    assert.match(await response.text(), /BLOB_UPLOAD_UNKNOWN/);
  }
  assert.equal((await push.ask('DELETE')).status, 204);
});

test('a client that goes away in mid-chunk finds what arrived, at the other proxy', async () => {
  const push = await ChunkedPush.start(randomBytes(4 * mib));
  const sentBytes = 3 * mib + 5;
  await new Promise<void>((resolve) => {
    const headers = { 'content-length': String(push.bytes.byteLength) };
    const patch = request(`http://${cluster.registry('proxy-1')}${push.location}`, { method: 'PATCH', headers });
    patch.once('error', () => resolve());
    patch.once('close', () => resolve());
    patch.write(push.bytes.subarray(0, sentBytes), () => {
      void until('all of it has arrived', async () =>
        (await push.offset(cluster.registry('proxy-2'))) === sentBytes ? true : undefined,
      ).then(() => patch.destroy());
    });
  });
  const rest = await until('the session takes the rest', async () => {
    const response = await push.send(await push.offset(), push.bytes.byteLength);
    return response.status === 202 ? response : undefined;
  });
  assert.equal(rest.headers.get('range'), `0-${push.bytes.byteLength - 1}`);
  assert.equal((await push.finish()).status, 201);
  await assertPullable(push.bytes);
});

test('docker pushes an image of several layers through the balancer', async () => {
  await using engine = await DockerEngine.start(tempDir('engine'));
  const name = `${balancer.address}/demo/docker:v1`;
  const imageId = await engine.buildImage(name, [30 * mib, 7 * mib, 100, 12 * mib]);
  balancer.chosen.length = 0;
  await engine.dockerOk('push', name);
  assert.equal(new Set(balancer.chosen).size, 2);
  await engine.dockerOk('image', 'rm', '-f', imageId);
  const pulled = `${cluster.registry('agent-1')}/demo/docker:v1`;
  await engine.dockerOk('pull', '-q', pulled);
  assert.equal(await engine.imageId(pulled), imageId);
});

test('after kill -9 of a proxy in mid-chunk and between two chunks the upload goes on at the other', async () => {
  const push = await ChunkedPush.start(randomBytes(8 * mib));
  assert.equal((await push.send(0, mib, cluster.registry('proxy-1'))).status, 202);
  const broken = new Promise<void>((resolve) => {
    const patch = request(`http://${cluster.registry('proxy-1')}${push.location}`, { method: 'PATCH' });
    patch.once('error', () => resolve());
    patch.write(push.bytes.subarray(mib, 4 * mib));
  });
  await until('a part of the chunk has arrived', async () =>
    (await push.offset(cluster.registry('proxy-2'))) > 2 * mib ? true : undefined,
  );
  cluster.kill('proxy-1');
  await broken;
  await until('the session takes the next chunk', async () => {
    const at = await push.offset();
    assert.ok(at > 2 * mib, 'what arrived before the crash is kept');
    return (await push.send(at, 6 * mib)).status === 202 ? true : undefined;
  });
  assert.equal((await push.send(6 * mib, 8 * mib)).status, 202);
  assert.equal((await push.finish()).status, 201);
  await assertPullable(push.bytes);
});

test('when the origin of a session dies its requests can be tried again, and another push works at once', async () => {
  const push = await ChunkedPush.start(randomBytes(2 * mib));
  assert.equal((await push.send(0, mib)).status, 202);
  const { stdout } = await cluster.shoal('uploads', '--json');
  const uploads = JSON.parse(stdout) as readonly { readonly id: string; readonly origin: string }[];
  const origin = uploads.find(({ id }) => id === push.id)?.origin;
  assert.ok(origin !== undefined, stdout);
  cluster.kill(origin);
  for (const response of [await push.send(mib, 2 * mib), await push.ask('GET'), await push.finish()]) {
    assert.equal(response.status, 503);
    assert.match(await response.text(), /"UNAVAILABLE"/);
    assert.ok(Number(response.headers.get('retry-after')) >= 1);
  }
  await pushBlob(balancer.address, repository, push.bytes);
  await assertPullable(push.bytes);
});
