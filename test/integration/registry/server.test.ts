/** The server itself: admission, routes, read-only nodes, malformed requests, limits and shutdown. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import net from 'node:net';
import { describe, it } from 'node:test';
import { AppError, digestOf, type ImageStore, parseRepositoryName } from '#core';
import type { MemoryImageStore } from '#registry';
import { codeOf, readAll, startHarness, until } from './harness.ts';

const readOnly = (memory: MemoryImageStore): ImageStore => ({ reader: memory.reader, writer: undefined });
const failing =
  (error: unknown) =>
  (memory: MemoryImageStore): ImageStore => ({
    writer: memory.writer,
    reader: {
      ...memory.reader,
      statBlob: async () => {
        throw error;
      },
    },
  });

describe('routes', () => {
  it('answer the ping with and without the slash', async () => {
    await using harness = await startHarness();
    for (const path of ['/v2/', '/v2', '/v2/?x=y']) {
      const reply = await harness.ask('GET', path);
      assert.deepEqual([reply.status, reply.body.toString(), reply.headers['content-type']], [200, '{}', 'application/json']);
      assert.equal(reply.headers['docker-distribution-api-version'], 'registry/2.0');
      const head = await harness.ask('HEAD', path);
      assert.deepEqual([head.status, head.headers['content-length'], head.body.byteLength], [200, '2', 0]);
    }
  });

  it('refuse unknown methods with the allowed ones', async () => {
    await using harness = await startHarness();
    const digest = digestOf(randomBytes(3));
    const cases: readonly [string, string, string][] = [
      ['OPTIONS', '/v2/', 'GET, HEAD'],
      ['POST', '/v2/', 'GET, HEAD'],
      ['PUT', `/v2/a/blobs/${digest}`, 'GET, HEAD, DELETE'],
      ['POST', '/v2/a/manifests/x', 'GET, HEAD, PUT, DELETE'],
      ['GET', '/v2/a/blobs/uploads/', 'POST'],
      ['POST', `/v2/a/blobs/uploads/${'0'.repeat(36)}`, 'GET, HEAD, PATCH, PUT, DELETE'],
      ['DELETE', '/v2/a/tags/list', 'GET, HEAD'],
      ['PROPFIND', '/v2/a/tags/list', 'GET, HEAD'],
      ['TRACE', '/v2/_catalog', 'GET, HEAD'],
    ];
    for (const [method, path, allow] of cases) {
      const reply = await harness.ask(method, path);
      assert.deepEqual([reply.status, reply.headers.allow, codeOf(reply)], [405, allow, 'UNSUPPORTED'], `${method} ${path}`);
    }
  });

  it('answer malformed and unknown paths with JSON, never with a redirect', async () => {
    await using harness = await startHarness();
    const malformed = [
      '/v2/x/..%2f..%2fetc/tags/list',
      '/v2/x/%zz/tags/list',
      '/v2/a//b/tags/list',
      '/v2/../etc/tags/list',
      '/v2/a%00/tags/list',
    ];
    for (const path of [...malformed, '/v2/UPPER/tags/list', `/v2/${'a'.repeat(256)}/tags/list`, '/v2/a%5Cb/tags/list']) {
      const reply = await harness.ask('GET', path);
      assert.deepEqual([reply.status, codeOf(reply)], [400, 'NAME_INVALID'], path);
    }
    for (const path of ['/', '/v1/', '/v2/x', '/v2/tags/list', '/v2//', '/v2x/', '/metrics']) {
      const reply = await harness.ask('GET', path);
      assert.ok(reply.status === 404 || reply.status === 400, `${path}: ${reply.status}`);
      assert.equal(reply.headers['content-type'], 'application/json');
    }
    const method = await harness.ask('POST', '/v2/BAD/blobs/uploads/');
    assert.deepEqual([method.status, codeOf(method)], [400, 'NAME_INVALID']);
  });

  it('let names contain the words of the routes', async () => {
    await using harness = await startHarness();
    for (const name of ['blobs', 'a/manifests/blobs/uploads', 'tags/list/tags', 'uploads/blobs']) {
      const digest = await harness.pushBlob(name, randomBytes(4));
      assert.equal((await harness.ask('HEAD', `/v2/${name}/blobs/${digest}`)).status, 200, name);
      assert.equal((await harness.ask('GET', `/v2/${name}/tags/list`)).status, 200, name);
    }
  });
});

describe('a read-only node', () => {
  it('serves pulls and refuses every write with a way out', async () => {
    await using harness = await startHarness({ store: readOnly });
    const bytes = randomBytes(10);
    const { writer } = harness.memory;
    const signal = new AbortController().signal;
    const digest = digestOf(bytes);
    const name = parseRepositoryName('a');
    const { id } = await writer.startUpload(name, {}, { signal });
    const body = (async function* () {
      yield bytes;
    })();
    await writer.appendUpload(name, id, { body }, { signal });
    await writer.commitUpload(name, id, digest, { signal });
    assert.equal((await harness.ask('GET', `/v2/a/blobs/${digest}`)).status, 200);
    const writes: readonly [string, string][] = [
      ['POST', '/v2/a/blobs/uploads/'],
      ['PATCH', `/v2/a/blobs/uploads/${id}`],
      ['PUT', `/v2/a/blobs/uploads/${id}?digest=${digest}`],
      ['DELETE', `/v2/a/blobs/uploads/${id}`],
      ['PUT', '/v2/a/manifests/v1'],
      ['DELETE', '/v2/a/manifests/v1'],
      ['DELETE', `/v2/a/blobs/${digest}`],
      ['POST', '/v2/'],
    ];
    for (const [method, path] of writes) {
      const reply = await harness.ask(method, path, { body: Buffer.from('{}') });
      assert.deepEqual([reply.status, reply.headers.allow, codeOf(reply)], [405, 'GET, HEAD', 'UNSUPPORTED'], `${method} ${path}`);
      assert.match(reply.body.toString(), /push to the proxy/);
    }
  });
});

describe('errors of the store', () => {
  const path = `/v2/a/blobs/${digestOf(Buffer.from('x'))}`;
  const cases: readonly [unknown, number, Record<string, string>][] = [
    [new AppError('resource-exhausted', 'busy', { retryAfterMs: 1500 }), 429, { 'retry-after': '2' }],
    [new AppError('unavailable', 'no origin', { retryAfterMs: 100 }), 503, { 'retry-after': '1' }],
    [new AppError('deadline-exceeded', 'slow'), 504, {}],
    [new AppError('permission-denied', 'no'), 503, { 'retry-after': '2' }],
    [new AppError('not-found', 'no', { data: { kind: 'blob' } }), 404, {}],
    [new AppError('data-loss', 'bad disk at /var/lib/x'), 500, {}],
    [new Error('ENOENT /secret/path'), 500, {}],
    [new TypeError('x is not a function'), 500, {}],
  ];
  for (const [error, status, headers] of cases) {
    it(`become ${status} for ${error}`, async () => {
      await using harness = await startHarness({ store: failing(error) });
      const reply = await harness.ask('HEAD', path);
      assert.equal(reply.status, status);
      for (const [name, value] of Object.entries(headers)) assert.equal(reply.headers[name], value);
    });
  }

  it('never show a path of the machine, but log it', async () => {
    await using harness = await startHarness({ store: failing(new Error('ENOENT /secret/path')) });
    const reply = await harness.ask('GET', path, { headers: { 'if-none-match': '*' } });
    assert.equal(reply.status, 500);
    assert.ok(!reply.body.toString().includes('secret'));
    const line = harness.log.find(({ level }) => level === 'error');
    assert.match(String(line?.fields['error']), /secret/);
  });
});

describe('admission', () => {
  it('refuses networks that are not listed', async () => {
    await using refused = await startHarness({ registry: { allowedNetworks: ['10.0.0.0/8', 'fd00::/8'] } });
    const reply = await refused.ask('GET', '/v2/');
    assert.deepEqual([reply.status, codeOf(reply)], [403, 'DENIED']);
    await using allowed = await startHarness({ registry: { allowedNetworks: ['10.0.0.0/8', '127.0.0.1'] } });
    assert.equal((await allowed.ask('GET', '/v2/')).status, 200);
  });

  it('rejects options that make no sense', async () => {
    for (const registry of [{ allowedNetworks: ['10.0.0.0/33'] }, { allowedNetworks: ['x'] }, { limits: { pageItems: 0 } }]) {
      await assert.rejects(startHarness({ registry }), { code: 'invalid-argument' });
    }
  });
});

describe('requests that are no HTTP or too much', () => {
  it('get a short answer and a closed connection', async () => {
    await using harness = await startHarness();
    const say = (text: string | Buffer): Promise<string> => {
      const socket = harness.connect();
      socket.write(text);
      return readAll(socket);
    };
    assert.match(await say(Buffer.from('16030100f1010000ed0303', 'hex')), /^HTTP\/1.1 400 Bad Request\r\n/);
    assert.match(await say('GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n'), /^HTTP\/1.1 400 /);
    assert.match(await say(`GET /v2/ HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(70_000)}\r\n\r\n`), /^HTTP\/1.1 431 /);
  });

  it('are answered although their client goes on sending', async () => {
    await using harness = await startHarness();
    for (let round = 0; round < 20; round += 1) {
      const socket = harness.connect();
      const failed: string[] = [];
      let said = '';
      socket.on('data', (data) => {
        said += data;
      });
      socket.on('error', ({ message }) => failed.push(message));
      const closed = new Promise((resolve) => socket.once('close', resolve));
      socket.write('nonsense\r\n\r\n');
      for (let count = 0; count < 64; count += 1) socket.write(Buffer.alloc(65_536, 'x'));
      await closed;
      assert.match(said, /^HTTP\/1.1 400 /);
      assert.deepEqual(failed, [], 'the connection is not reset');
    }
  });

  it('are listened to for a while, and then closed', async () => {
    await using harness = await startHarness({ registry: { limits: { lingerMs: 3000 } } });
    const socket = net.connect({ port: harness.port, host: '127.0.0.1', allowHalfOpen: true });
    socket.on('error', () => undefined);
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.write('nonsense\r\n\r\n');
    await new Promise((resolve) => socket.once('data', resolve).once('end', resolve));
    socket.write('more');
    harness.clock.advance(3000);
    const drip = setInterval(() => socket.write('x'), 10);
    await closed;
    clearInterval(drip);
  });

  it('behind a good request are refused after its reply', async () => {
    await using harness = await startHarness();
    const socket = harness.connect();
    socket.write('GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\nnonsense\r\n\r\n');
    assert.match(await readAll(socket), /^HTTP\/1.1 200 OK\r\n[\s\S]*\{\}HTTP\/1.1 400 Bad Request\r\n/);
  });

  it('never get their refusal into the middle of a reply', async () => {
    const chunk = Buffer.alloc(1000, 'x');
    let goOn = (): void => undefined;
    const gate = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    const digest = digestOf(chunk);
    const store = (memory: import('#registry').MemoryImageStore) => ({
      writer: undefined,
      reader: Object.assign(Object.create(memory.reader), {
        openBlob: async () => ({
          sizeBytes: 2000,
          async *read() {
            yield chunk;
            await gate;
            yield chunk;
          },
          [Symbol.asyncDispose]: async () => undefined,
        }),
      }),
    });
    await using harness = await startHarness({ store });
    const socket = harness.connect();
    let said = '';
    socket.on('data', (data) => {
      said += data;
    });
    const ended = new Promise((resolve) => socket.once('close', resolve));
    socket.write(`GET /v2/a/blobs/${digest} HTTP/1.1\r\nHost: x\r\n\r\n`);
    await until(() => said.endsWith('x'));
    socket.write('nonsense\r\n\r\n');
    // Another connection that is refused meanwhile shows that the server has read this one.
    const other = harness.connect();
    other.write('nonsense\r\n\r\n');
    await readAll(other);
    goOn();
    await ended;
    const [body = '', ...rest] = said.slice(said.indexOf('\r\n\r\n') + 4).split('HTTP/1.1 400 ');
    assert.deepEqual([body.length, rest.length], [2000, 1]);
  });

  it('have a host and a version', async () => {
    await using harness = await startHarness();
    for (const head of ['GET /v2/ HTTP/1.1\r\nConnection: close', 'GET /v2/']) {
      const socket = harness.connect();
      socket.write(`${head}\r\n\r\n`);
      assert.match(await readAll(socket), /400[\s\S]*"UNSUPPORTED"[\s\S]*with a Host header/);
    }
  });

  it('may expect what nobody knows', async () => {
    await using harness = await startHarness();
    assert.equal((await harness.ask('GET', '/v2/', { headers: { expect: 'miracles' } })).status, 200);
  });

  it('may have a head of 60 KB', async () => {
    await using harness = await startHarness();
    assert.equal((await harness.ask('GET', '/v2/', { headers: { authorization: `Bearer ${'x'.repeat(60_000)}` } })).status, 200);
  });

  it('may ask for permission to send a body first', async () => {
    await using harness = await startHarness();
    const bytes = randomBytes(10);
    const socket = harness.connect();
    socket.write(`POST /v2/a/blobs/uploads/?digest=${digestOf(bytes)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n`);
    socket.write('Content-Length: 10\r\nExpect: 100-continue\r\n\r\n');
    await new Promise((resolve) => socket.once('data', resolve));
    socket.write(bytes);
    assert.match(await readAll(socket), /^HTTP\/1.1 201 Created/);
  });
});

describe('closing', () => {
  it('lets running replies finish, refuses new requests and then stops listening', async () => {
    let release = (): void => undefined;
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const store = (memory: MemoryImageStore): ImageStore => ({
      writer: undefined,
      reader: {
        ...memory.reader,
        openBlob: async () => ({
          sizeBytes: 4,
          async *read() {
            yield Buffer.from('ab');
            await gate;
            yield Buffer.from('cd');
          },
          [Symbol.asyncDispose]: async () => undefined,
        }),
      },
    });
    await using harness = await startHarness({ store });
    const running = harness.connect();
    running.write(`GET /v2/a/blobs/${digestOf(Buffer.from('x'))} HTTP/1.1\r\nHost: x\r\n\r\n`);
    let said = '';
    running.on('data', (chunk) => {
      said += chunk;
    });
    await until(() => said.endsWith('ab'));
    const closed = harness.server.close({ drainMs: 60_000 });
    const refused = await harness.ask('GET', '/v2/');
    assert.deepEqual([refused.status, codeOf(refused), refused.headers.connection], [503, 'UNAVAILABLE', 'close']);
    const ended = new Promise((resolve) => running.once('end', resolve));
    release();
    await Promise.all([closed, ended]);
    assert.ok(said.endsWith('abcd'));
    await assert.rejects(harness.ask('GET', '/v2/'), { code: 'ECONNREFUSED' });
  });

  it('cuts what has not finished when the time is up', async () => {
    await using harness = await startHarness();
    const { headers } = await harness.ask('POST', '/v2/a/blobs/uploads/');
    const socket = harness.connect();
    socket.on('error', () => undefined);
    socket.write(`PATCH ${headers.location} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc`);
    await until(() => harness.memory.usedBytes === 3);
    const gone = new Promise((resolve) => socket.once('close', resolve));
    socket.resume();
    const closed = harness.server.close({ drainMs: 1000 });
    harness.clock.advance(1000);
    await Promise.all([closed, gone]);
  });

  it('does not wait for idle connections', async () => {
    await using harness = await startHarness();
    const socket = net.connect(harness.port, '127.0.0.1');
    await new Promise((resolve) => socket.once('connect', resolve));
    const gone = new Promise((resolve) => socket.once('close', resolve));
    socket.on('error', () => undefined);
    await harness.ask('GET', '/v2/');
    await harness.server.close({ drainMs: 60_000 });
    socket.resume();
    await gone;
  });
});
