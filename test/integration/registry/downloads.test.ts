/** Pulling blobs: whole, in ranges, conditionally, slowly, and from a store that fails on the way. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { AppError, type BlobReader, type ImageStore } from '#core';
import type { MemoryImageStore } from '#registry';
import { codeOf, type Harness, readAll, startHarness, until } from './harness.ts';

async function withBlob(sizeBytes: number): Promise<{ harness: Harness; bytes: Buffer; digest: string; path: string }> {
  const harness = await startHarness();
  const bytes = randomBytes(sizeBytes);
  const digest = await harness.pushBlob('pull', bytes);
  return { harness, bytes, digest, path: `/v2/pull/blobs/${digest}` };
}

/** A store whose blobs are read by `read`. */
function reading(read: BlobReader['read'], sizeBytes: number, onDispose = (): void => undefined) {
  return (memory: MemoryImageStore): ImageStore => ({
    writer: memory.writer,
    reader: {
      ...memory.reader,
      openBlob: async () => ({ sizeBytes, read, [Symbol.asyncDispose]: async () => onDispose() }),
    },
  });
}

const anyBlob = `/v2/pull/blobs/sha256:${'0'.repeat(64)}`;

describe('whole blobs', () => {
  it('come with their length, digest and caching headers', async () => {
    const { harness, bytes, digest, path } = await withBlob(1_500_000);
    await using _ = harness;
    const reply = await harness.ask('GET', path.replace(':', '%3A'), { headers: { 'accept-encoding': 'gzip, zstd' } });
    assert.equal(reply.status, 200);
    assert.ok(reply.body.equals(bytes));
    const { headers } = reply;
    assert.equal(headers['content-length'], '1500000');
    assert.equal(headers['content-type'], 'application/octet-stream');
    assert.equal(headers['docker-content-digest'], digest);
    assert.equal(headers.etag, `"${digest}"`);
    assert.equal(headers['accept-ranges'], 'bytes');
    assert.equal(headers['cache-control'], 'private, max-age=31536000, immutable');
    assert.equal(headers['docker-distribution-api-version'], 'registry/2.0');
    assert.equal(headers['content-encoding'], undefined);
    assert.equal(headers['transfer-encoding'], undefined);
  });

  it('are described by HEAD, which ignores Range and opens nothing', async () => {
    await using harness = await startHarness({
      store: reading(() => {
        throw new Error('opened');
      }, 0),
    });
    const digest = await harness.pushBlob('pull', randomBytes(2048));
    const reply = await harness.ask('HEAD', `/v2/pull/blobs/${digest}`, { headers: { range: 'bytes=0-9' } });
    assert.deepEqual([reply.status, reply.headers['content-length'], reply.body.byteLength], [200, '2048', 0]);
    assert.equal(reply.headers['docker-content-digest'], digest);
  });

  it('are unknown elsewhere and invalid by a malformed digest', async () => {
    const { harness, digest } = await withBlob(10);
    await using _ = harness;
    const elsewhere = await harness.ask('GET', `/v2/other/blobs/${digest}`);
    assert.deepEqual([elsewhere.status, codeOf(elsewhere)], [404, 'BLOB_UNKNOWN']);
    assert.equal((await harness.ask('HEAD', `/v2/other/blobs/${digest}`)).status, 404);
    for (const text of ['sha256:baddigeststring', 'md5:00', `sha256:${'A'.repeat(64)}`, 'latest']) {
      const reply = await harness.ask('GET', `/v2/pull/blobs/${text}`);
      assert.deepEqual([reply.status, codeOf(reply)], [400, 'DIGEST_INVALID'], text);
    }
  });

  it('may be empty', async () => {
    const { harness, path } = await withBlob(0);
    await using _ = harness;
    const reply = await harness.ask('GET', path);
    assert.deepEqual([reply.status, reply.headers['content-length'], reply.body.byteLength], [200, '0', 0]);
    const ranged = await harness.ask('GET', path, { headers: { range: 'bytes=0-' } });
    assert.deepEqual([ranged.status, ranged.headers['content-range']], [416, 'bytes */0']);
  });
});

describe('ranges', () => {
  it('are sent exactly', async () => {
    const { harness, bytes, path } = await withBlob(2048);
    await using _ = harness;
    const wanted: readonly [string, number, number][] = [
      ['500-1499', 500, 1500],
      ['500-', 500, 2048],
      ['-500', 1548, 2048],
      ['-5000', 0, 2048],
      ['0-', 0, 2048],
      ['2000-5000', 2000, 2048],
      ['0-99999999999999999999', 0, 2048],
    ];
    for (const [range, start, end] of wanted) {
      const reply = await harness.ask('GET', path, { headers: { range: `bytes=${range}` } });
      assert.equal(reply.status, 206, range);
      assert.equal(reply.headers['content-range'], `bytes ${start}-${end - 1}/2048`);
      assert.equal(reply.headers['content-length'], String(end - start));
      assert.ok(reply.body.equals(bytes.subarray(start, end)));
    }
  });

  it('outside the blob or malformed are refused', async () => {
    const { harness, path } = await withBlob(2048);
    await using _ = harness;
    for (const range of ['5000-10000', '2048-', '500-0', '-0', 'abc', '1-2-3', '', '--5', '99999999999999999999-']) {
      const reply = await harness.ask('GET', path, { headers: { range: `bytes=${range}` } });
      assert.deepEqual([reply.status, reply.headers['content-range'], codeOf(reply)], [416, 'bytes */2048', 'RANGE_INVALID'], range);
    }
    const unit = await harness.ask('GET', path, { headers: { range: 'items=0-1' } });
    assert.deepEqual([unit.status, unit.body.byteLength], [200, 2048]);
  });

  it('in one request come as parts in the order of the request', async () => {
    const { harness, bytes, path } = await withBlob(300_000);
    await using _ = harness;
    const ranges = Array.from({ length: 1024 }, (_unused, index) => 299_000 - index * 250);
    const header = `bytes=${ranges.map((start) => `${start}-${start + 9}`).join(',')}`;
    const reply = await harness.ask('GET', path, { headers: { range: header } });
    assert.equal(reply.status, 206);
    assert.equal(reply.headers['content-length'], String(reply.body.byteLength));
    const boundary = /^multipart\/byteranges; boundary=([A-Za-z0-9-]{1,70})$/.exec(reply.headers['content-type'] ?? '')?.[1];
    assert.ok(boundary);
    const parts = reply.body.toString('latin1').split(`--${boundary}`);
    assert.equal(parts.length, 1024 + 2);
    assert.equal(parts.at(-1), '--\r\n');
    for (const [index, start] of ranges.entries()) {
      const content = bytes.subarray(start, start + 10).toString('latin1');
      const head = `Content-Type: application/octet-stream\r\nContent-Range: bytes ${start}-${start + 9}/300000`;
      assert.equal(parts[index + 1], `\r\n${head}\r\n\r\n${content}\r\n`);
    }
  });

  it('that cannot be answered part by part get the whole blob', async () => {
    const { harness, path } = await withBlob(5000);
    await using _ = harness;
    const tooMany = Array.from({ length: 1025 }, (_unused, index) => `${index}-${index}`).join(',');
    for (const range of [tooMany, '0-4999,0-0', '0-0,6000-']) {
      const reply = await harness.ask('GET', path, { headers: { range: `bytes=${range}` } });
      assert.deepEqual([reply.status, reply.body.byteLength], [200, 5000], range.slice(0, 20));
    }
  });
});

describe('conditional requests', () => {
  it('are answered 304 when the client has the blob', async () => {
    const { harness, digest, path } = await withBlob(10);
    await using _ = harness;
    for (const tag of [`"${digest}"`, digest, `W/"${digest}"`, `"x", "${digest}"`, '*']) {
      for (const method of ['GET', 'HEAD']) {
        const reply = await harness.ask(method, path, { headers: { 'if-none-match': tag, range: 'bytes=0-1' } });
        assert.deepEqual([reply.status, reply.body.byteLength, reply.headers.etag], [304, 0, `"${digest}"`], `${method} ${tag}`);
        assert.equal(reply.headers['docker-content-digest'], digest);
      }
    }
    assert.equal((await harness.ask('GET', path, { headers: { 'if-none-match': '"other"' } })).status, 200);
    const elsewhere = await harness.ask('GET', `/v2/other/blobs/${digest}`, { headers: { 'if-none-match': '*' } });
    assert.equal(elsewhere.status, 404);
  });

  it('are answered 412 when If-Match names something else', async () => {
    const { harness, digest, path } = await withBlob(10);
    await using _ = harness;
    const reply = await harness.ask('GET', path, { headers: { 'if-match': '"other"', 'if-none-match': '*' } });
    assert.equal(reply.status, 412);
    assert.equal((await harness.ask('GET', path, { headers: { 'if-match': `"${digest}"` } })).status, 200);
  });

  it('ignore the range when If-Range is not the entity tag', async () => {
    const { harness, digest, path } = await withBlob(10);
    await using _ = harness;
    const ask = (tag: string) => harness.ask('GET', path, { headers: { 'if-range': tag, range: 'bytes=1-2' } });
    assert.equal((await ask(`"${digest}"`)).status, 206);
    for (const tag of ['"other"', `W/"${digest}"`, 'Sat, 01 Jan 2000 00:00:00 GMT']) assert.equal((await ask(tag)).status, 200, tag);
  });
});

describe('streams', () => {
  it('begin before the blob is complete', async () => {
    let release = (): void => undefined;
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const read = async function* (): AsyncGenerator<Uint8Array> {
      yield Buffer.from('first');
      await gate;
      yield Buffer.from('-then');
    };
    await using harness = await startHarness({ store: reading(read, 10) });
    const socket = harness.connect();
    socket.write(`GET ${anyBlob} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    let said = '';
    socket.on('data', (chunk) => {
      said += chunk;
    });
    const closed = new Promise((resolve) => socket.once('end', resolve));
    await until(() => said.endsWith('\r\n\r\nfirst'));
    release();
    await closed;
    assert.ok(said.endsWith('first-then'));
  });

  for (const [kind, tail] of [
    ['fails', true],
    ['is short', false],
  ] as const) {
    it(`are cut when the source ${kind}, and logged`, async () => {
      let isDisposed = false;
      const read = async function* (): AsyncGenerator<Uint8Array> {
        yield Buffer.from('part');
        if (tail) throw new AppError('data-loss', 'a piece is bad');
      };
      const store = reading(read, 10, () => {
        isDisposed = true;
      });
      await using harness = await startHarness({ store });
      await assert.rejects(harness.ask('GET', anyBlob), { code: 'ECONNRESET' });
      assert.ok(isDisposed);
      assert.equal(harness.log.filter((line) => line.message === 'reply cut short').length, 1);
    });
  }

  it('never send more than was promised', async () => {
    const read = async function* (): AsyncGenerator<Uint8Array> {
      yield Buffer.from('0123456789');
      yield Buffer.from('more');
    };
    await using harness = await startHarness({ store: reading(read, 12) });
    await assert.rejects(harness.ask('GET', anyBlob), { code: 'ECONNRESET' });
  });

  it('free the reader at once when the client goes away, without a complaint', async () => {
    let isDisposed = false;
    const read: BlobReader['read'] = async function* (_range, { signal }) {
      yield Buffer.alloc(1000);
      await new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    };
    const store = reading(read, 10_000, () => {
      isDisposed = true;
    });
    await using harness = await startHarness({ store });
    const socket = harness.connect();
    socket.write(`GET ${anyBlob} HTTP/1.1\r\nHost: x\r\n\r\n`);
    await new Promise((resolve) => socket.once('data', resolve));
    socket.destroy();
    await until(() => isDisposed);
    assert.deepEqual(
      harness.log.map(({ level, message, fields }) => [level, message, fields['isAborted']]),
      [['debug', 'request', true]],
    );
  });

  it('wait for a slow client instead of filling the memory, and give it up in the end', async () => {
    let isDisposed = false;
    let readBytes = 0;
    const chunk = Buffer.alloc(2 ** 20);
    const sizeBytes = 2 ** 30;
    const read = async function* (): AsyncGenerator<Uint8Array> {
      for (; readBytes < sizeBytes; readBytes += chunk.byteLength) yield chunk;
    };
    const store = reading(read, sizeBytes, () => {
      isDisposed = true;
    });
    await using harness = await startHarness({ store, registry: { limits: { bodyIdleMs: 1000 } } });
    const socket = harness.connect();
    socket.pause();
    socket.write(`GET ${anyBlob} HTTP/1.1\r\nHost: x\r\n\r\n`);
    await until(() => harness.clock.pendingCount > 0);
    while (!isDisposed) {
      harness.clock.advance(1000);
      await new Promise(setImmediate);
    }
    assert.ok(readBytes < 64 * 2 ** 20, `${readBytes} bytes were read`);
    socket.destroy();
  });

  it('of several requests on one connection come in order', async () => {
    const { harness, bytes, digest, path } = await withBlob(70_000);
    await using _ = harness;
    const socket = harness.connect();
    const get = `GET ${path} HTTP/1.1\r\nHost: x\r\n`;
    socket.write(
      `${get}\r\n${get}Range: bytes=0-9\r\n\r\nHEAD /v2/pull/blobs/${digest} HTTP/1.1\r\nHost: x\r\n\r\n${get}Connection: close\r\n\r\n`,
    );
    const text = await readAll(socket);
    const statuses = text.match(/HTTP\/1.1 \d{3}/g);
    assert.deepEqual(statuses, ['HTTP/1.1 200', 'HTTP/1.1 206', 'HTTP/1.1 200', 'HTTP/1.1 200']);
    assert.ok(text.endsWith(bytes.toString('latin1')));
  });

  it('of several requests at once for much never send memory that the store has taken back', async () => {
    const [chunkBytes, chunkCount] = [512 * 1024, 12];
    const sizeBytes = chunkBytes * chunkCount;
    const read: BlobReader['read'] = async function* () {
      const lent: Buffer[] = [];
      for (let index = 0; index < chunkCount; index += 1) {
        // As told: a chunk is the caller's until it asks for the second one after it.
        lent.at(-2)?.fill('-');
        lent.push(Buffer.alloc(chunkBytes, 'a'.charCodeAt(0) + index));
        yield lent.at(-1) ?? Buffer.alloc(0);
      }
    };
    await using harness = await startHarness({ store: reading(read, sizeBytes) });
    const socket = harness.connect();
    socket.pause();
    const get = `GET ${anyBlob} HTTP/1.1\r\nHost: x\r\n`;
    socket.write(`${get}\r\n${get}\r\n${get}Connection: close\r\n\r\n`);
    const text = await readAll(socket);
    const expected = Array.from({ length: chunkCount }, (_, index) =>
      String.fromCharCode('a'.charCodeAt(0) + index).repeat(chunkBytes),
    ).join('');
    const bodies = text.split(/HTTP\/1\.1 200[\s\S]*?\r\n\r\n/).slice(1);
    assert.deepEqual(
      bodies.map((body) => body === expected),
      [true, true, true],
    );
  });
});
