/** Limits against clients that send too much, too often or too slowly, each with the answer that clients understand. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { type BlobReader, digestOf } from '#core';
import { codeOf, readAll, startHarness, until } from './harness.ts';

const uploads = '/v2/up/load/blobs/uploads/';

describe('the size of a blob', () => {
  const registry = { limits: { blobBytes: 2000 } };
  const bytes = randomBytes(2001);

  it('is refused at once when it is declared', async () => {
    await using harness = await startHarness({ registry });
    const socket = harness.connect();
    socket.write(`POST ${uploads}?digest=${digestOf(bytes)} HTTP/1.1\r\nHost: x\r\nContent-Length: 2001\r\n\r\n`);
    let said = '';
    socket.on('data', (chunk) => {
      said += chunk;
    });
    await until(() => said.includes('"errors"'));
    assert.match(said, /^HTTP\/1\.1 413 [\s\S]*SIZE_INVALID[\s\S]*at most 2000 bytes/);
    socket.destroy();
  });

  it('is refused while it streams in, in one chunk or in several, and nothing of it stays', async () => {
    await using harness = await startHarness({ registry });
    const whole = await harness.ask('POST', `${uploads}?digest=${digestOf(bytes)}`, {
      body: [bytes.subarray(0, 1500), bytes.subarray(1500)],
    });
    assert.deepEqual([whole.status, codeOf(whole)], [413, 'SIZE_INVALID']);
    const location = (await harness.ask('POST', uploads)).headers.location ?? '';
    assert.equal((await harness.ask('PATCH', location, { body: [bytes.subarray(0, 1500)] })).status, 202);
    const second = await harness.ask('PATCH', location, { body: [bytes.subarray(1500)] });
    assert.deepEqual([second.status, codeOf(second)], [413, 'SIZE_INVALID']);
    assert.equal((await harness.ask('GET', location)).status, 404);
    assert.equal(harness.memory.usedBytes, 0);
  });

  it('may be exactly the limit', async () => {
    await using harness = await startHarness({ registry });
    await harness.pushBlob('up/load', bytes.subarray(0, 2000));
  });
});

describe('a slow body of a request', () => {
  it('is ended with 408 when it never stands still but is below the floor, and what came stays', async () => {
    const limits = { bodyIdleMs: 60_000, bodyBytesPerSecMin: 100, bodyWindowMs: 60_000 };
    await using harness = await startHarness({ registry: { limits } });
    const location = (await harness.ask('POST', uploads)).headers.location ?? '';
    const socket = harness.connect();
    let said = '';
    socket.on('data', (chunk) => {
      said += chunk;
    });
    socket.write(`PATCH ${location} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n`);
    for (let sent = 1; sent <= 6; sent += 1) {
      assert.equal(said, '');
      socket.write('x');
      await until(() => harness.memory.usedBytes === sent);
      harness.clock.advance(10_000);
    }
    await until(() => said.includes('"errors"'));
    assert.match(said, /^HTTP\/1\.1 408 /);
    socket.destroy();
    assert.equal((await harness.ask('GET', location)).headers.range, '0-5');
  });

  it('goes on above the floor, however long it takes', async () => {
    const limits = { bodyIdleMs: 60_000, bodyBytesPerSecMin: 100, bodyWindowMs: 60_000 };
    await using harness = await startHarness({ registry: { limits } });
    const location = (await harness.ask('POST', uploads)).headers.location ?? '';
    const socket = harness.connect();
    socket.write(`PATCH ${location} HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\nConnection: close\r\n\r\n`);
    for (let sent = 1; sent <= 20; sent += 1) {
      socket.write('x'.repeat(1000));
      await until(() => harness.memory.usedBytes === sent * 1000);
      harness.clock.advance(9000);
    }
    assert.match(await readAll(socket), /^HTTP\/1\.1 202 /);
  });
});

describe('a client that reads slowly', () => {
  const registry = { limits: { bodyIdleMs: 3_600_000, bodyBytesPerSecMin: 1_000_000, bodyWindowMs: 60_000 } };
  const digest = `sha256:${'0'.repeat(64)}`;

  const blob = (chunk: Buffer, count: number, onDispose: () => void) => (memory: import('#registry').MemoryImageStore) => ({
    writer: undefined,
    reader: Object.assign(Object.create(memory.reader), {
      openBlob: async (): Promise<BlobReader> => ({
        sizeBytes: chunk.byteLength * count,
        async *read() {
          for (let index = 0; index < count; index += 1) yield chunk;
        },
        [Symbol.asyncDispose]: async () => onDispose(),
      }),
    }),
  });

  it('is cut off below the floor, though it takes something now and then', async () => {
    let isDisposed = false;
    const store = blob(Buffer.alloc(4 * 2 ** 20), 1000, () => {
      isDisposed = true;
    });
    await using harness = await startHarness({ registry, store });
    const socket = harness.connect();
    socket.pause();
    socket.write(`GET /v2/a/blobs/${digest} HTTP/1.1\r\nHost: x\r\n\r\n`);
    await until(() => harness.clock.pendingCount > 0);
    for (let round = 0; round < 40 && !isDisposed; round += 1) {
      harness.clock.advance(10_000);
      socket.read(1000);
      for (let turn = 0; turn < 5; turn += 1) await new Promise(setImmediate);
    }
    assert.ok(isDisposed);
    socket.destroy();
  });

  it('of a large manifest is cut off too', async () => {
    const bytes = Buffer.alloc(16 * 2 ** 20, ' ');
    const store = (memory: import('#registry').MemoryImageStore) => ({
      writer: undefined,
      reader: Object.assign(Object.create(memory.reader), {
        getManifest: async () => ({ digest, mediaType: 'x/y', sizeBytes: bytes.byteLength, bytes }),
      }),
    });
    await using harness = await startHarness({ registry: { limits: { ...registry.limits, bodyIdleMs: 1000 } }, store });
    const socket = harness.connect();
    socket.pause();
    socket.write('GET /v2/a/manifests/x HTTP/1.1\r\nHost: x\r\n\r\n');
    await until(() => harness.clock.pendingCount > 0);
    harness.clock.advance(1000);
    await until(() => harness.log.some(({ message, fields }) => message === 'request' && fields['isAborted'] === true));
    socket.destroy();
  });
});

describe('one client', () => {
  it('that asks too often gets 429 with Retry-After, and is served again later', async () => {
    await using harness = await startHarness({ registry: { limits: { requestBurst: 3, requestsPerSec: 1 } } });
    for (let index = 0; index < 3; index += 1) assert.equal((await harness.ask('GET', '/v2/')).status, 200);
    const refused = await harness.ask('GET', '/v2/');
    assert.deepEqual([refused.status, codeOf(refused), refused.headers['retry-after']], [429, 'TOOMANYREQUESTS', '1']);
    harness.clock.advance(1000);
    assert.equal((await harness.ask('GET', '/v2/')).status, 200);
  });

  it('with too many uploads at once gets 429 for the next, but may read', async () => {
    await using harness = await startHarness({ registry: { limits: { uploadsPerClient: 1 } } });
    const location = (await harness.ask('POST', uploads)).headers.location ?? '';
    const socket = harness.connect();
    socket.write(`PATCH ${location} HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc`);
    await until(() => harness.memory.usedBytes === 3);
    const body = Buffer.from('x');
    const refused = await harness.ask('POST', `${uploads}?digest=${digestOf(body)}`, { body });
    assert.deepEqual([refused.status, codeOf(refused)], [429, 'TOOMANYREQUESTS']);
    assert.equal((await harness.ask('GET', '/v2/')).status, 200);
    socket.end('def');
    assert.match(await readAll(socket), /^HTTP\/1\.1 202 /);
    assert.equal((await harness.ask('POST', `${uploads}?digest=${digestOf(body)}`, { body })).status, 201);
  });

  it('with too many requests at once gets 429, and its places are free again when it goes away', async () => {
    await using harness = await startHarness({ registry: { limits: { requestsPerClient: 2 } } });
    const location = (await harness.ask('POST', uploads)).headers.location ?? '';
    const socket = harness.connect();
    socket.write(`PATCH ${location} HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc`);
    await until(() => harness.memory.usedBytes === 3);
    assert.equal((await harness.ask('GET', '/v2/')).status, 200);
    const other = (await harness.ask('POST', uploads)).headers.location ?? '';
    const second = harness.connect();
    second.write(`PATCH ${other} HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc`);
    await until(() => harness.memory.usedBytes === 6);
    assert.equal((await harness.ask('GET', '/v2/')).status, 429);
    second.destroy();
    socket.destroy();
    await until(() => harness.log.filter(({ message, fields }) => message === 'request' && fields['isAborted'] === true).length === 2);
    assert.equal((await harness.ask('GET', '/v2/')).status, 200);
  });
});
