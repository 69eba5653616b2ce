/** Pushing blobs: every form of upload that clients and the conformance suite use, and every way it can go wrong. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { AppError, digestOf, type ImageWriter } from '#core';
import { codeOf, type Harness, readAll, startHarness, until } from './harness.ts';

const uploads = '/v2/up/load/blobs/uploads/';

async function start(harness: Harness, path = uploads): Promise<string> {
  const reply = await harness.ask('POST', path);
  assert.equal(reply.status, 202, reply.body.toString());
  assert.equal(reply.headers.range, '0-0');
  assert.equal(reply.headers['content-length'], '0');
  const location = reply.headers.location ?? '';
  assert.match(location, /^\/v2\/up\/load\/blobs\/uploads\/[0-9a-f-]{36}$/);
  assert.equal(location.split('/').at(-1), reply.headers['docker-upload-uuid']);
  return location;
}

async function holds(harness: Harness, digest: string, bytes: Buffer): Promise<void> {
  const reply = await harness.ask('GET', `/v2/up/load/blobs/${digest}`);
  assert.equal(reply.status, 200);
  assert.equal(reply.headers['content-length'], String(bytes.byteLength));
  assert.equal(reply.headers['docker-content-digest'], digest);
  assert.ok(reply.body.equals(bytes));
}

describe('uploads that succeed', () => {
  for (const algorithm of ['sha256', 'sha512'] as const) {
    for (const size of [0, 1, 100_000]) {
      it(`take ${size} bytes by one POST, by ${algorithm}`, async () => {
        await using harness = await startHarness();
        const bytes = randomBytes(size);
        const digest = digestOf(bytes, algorithm);
        const reply = await harness.ask('POST', `${uploads}?digest=${encodeURIComponent(digest)}`, { body: bytes });
        assert.equal(reply.status, 201);
        assert.equal(reply.headers.location, `/v2/up/load/blobs/${digest}`);
        assert.equal(reply.headers['docker-content-digest'], digest);
        await holds(harness, digest, bytes);
      });

      it(`take ${size} bytes by POST and PUT, by ${algorithm}`, async () => {
        await using harness = await startHarness();
        const bytes = randomBytes(size);
        const digest = digestOf(bytes, algorithm);
        const reply = await harness.ask('PUT', `${await start(harness)}?digest=${digest}`, { body: bytes });
        assert.equal(reply.status, 201);
        assert.equal(reply.headers.location, `/v2/up/load/blobs/${digest}`);
        await holds(harness, digest, bytes);
      });

      it(`take ${size} bytes as a chunked stream without a type, by ${algorithm}`, async () => {
        await using harness = await startHarness();
        const bytes = randomBytes(size);
        const location = await start(harness);
        const patched = await harness.ask('PATCH', location, { body: [bytes.subarray(0, 10), bytes.subarray(10)] });
        assert.equal(patched.status, 202);
        assert.equal(patched.headers.range, `0-${Math.max(0, size - 1)}`);
        const digest = digestOf(bytes, algorithm);
        const put = await harness.ask('PUT', `${patched.headers.location}?digest=${digest}`, { headers: { 'content-length': 0 } });
        assert.equal(put.status, 201);
        await holds(harness, digest, bytes);
      });
    }
  }

  it('take chunks in order, the last one inside the PUT', async () => {
    await using harness = await startHarness();
    const bytes = randomBytes(3067);
    const location = await start(harness);
    for (const at of [0, 1024]) {
      const body = bytes.subarray(at, at + 1024);
      const reply = await harness.ask('PATCH', location, { headers: { 'content-range': `${at}-${at + 1023}` }, body });
      assert.equal(reply.status, 202);
      assert.equal(reply.headers.range, `0-${at + 1023}`);
    }
    const headers = { 'content-range': '2048-3066' };
    const put = await harness.ask('PUT', `${location}?digest=${digestOf(bytes)}`, { headers, body: bytes.subarray(2048) });
    assert.equal(put.status, 201);
    await holds(harness, digestOf(bytes), bytes);
  });

  it('tolerate a JSON type without a body, as crane sends it', async () => {
    await using harness = await startHarness();
    const reply = await harness.ask('POST', uploads, { headers: { 'content-type': 'application/json', 'content-length': 0 } });
    assert.equal(reply.status, 202);
  });

  it('tolerate a broken Content-Type and the form type of curl', async () => {
    await using harness = await startHarness();
    for (const type of ['application/x-www-form-urlencoded', ';;;/', 'x', 'multipart/form-data; boundary=x']) {
      const bytes = randomBytes(10);
      const reply = await harness.ask('POST', `${uploads}?digest=${digestOf(bytes)}`, { headers: { 'content-type': type }, body: bytes });
      assert.equal(reply.status, 201, type);
    }
  });

  it('start by the address without the trailing slash, by a chunked empty body and with an algorithm', async () => {
    await using harness = await startHarness();
    await start(harness, '/v2/up/load/blobs/uploads');
    await start(harness, `${uploads}?digest-algorithm=sha512&ns=docker.io&_state=x`);
    const chunked = await harness.ask('POST', uploads, { headers: { 'transfer-encoding': 'chunked' } });
    assert.equal(chunked.status, 202);
  });

  it('answer a PUT that is repeated after its reply got lost', async () => {
    await using harness = await startHarness();
    const bytes = randomBytes(10);
    const location = await start(harness);
    await harness.ask('PATCH', location, { body: bytes });
    const put = () => harness.ask('PUT', `${location}?digest=${digestOf(bytes)}`);
    assert.equal((await put()).status, 201);
    assert.equal((await put()).status, 201);
    const other = await harness.ask('PUT', `${location}?digest=${digestOf(randomBytes(10))}`);
    assert.equal(other.status, 404);
    assert.equal(codeOf(other), 'BLOB_UPLOAD_UNKNOWN');
  });
});

describe('uploads that fail', () => {
  it('refuse chunks out of order with 416 and go on', async () => {
    await using harness = await startHarness();
    const bytes = randomBytes(2048);
    const location = await start(harness);
    const patch = (first: number, last: number) =>
      harness.ask('PATCH', location, { headers: { 'content-range': `${first}-${last}` }, body: bytes.subarray(first, last + 1) });
    const refused = async (first: number, last: number, range: string): Promise<void> => {
      const reply = await patch(first, last);
      assert.equal(reply.status, 416);
      assert.equal(codeOf(reply), 'BLOB_UPLOAD_INVALID');
      assert.equal(reply.headers.location, location);
      assert.equal(reply.headers.range, range);
    };
    await refused(1024, 2047, '0-0');
    assert.equal((await patch(0, 1023)).status, 202);
    await refused(0, 1023, '0-1023');
    await refused(1025, 2047, '0-1023');
    const put = await harness.ask('PUT', `${location}?digest=${digestOf(bytes)}`, {
      headers: { 'content-range': '0-1023' },
      body: bytes.subarray(0, 1024),
    });
    assert.equal(put.status, 416);
    const stat = await harness.ask('GET', `${location}?digest=${digestOf(bytes)}`);
    assert.deepEqual([stat.status, stat.headers.range, stat.headers.location], [204, '0-1023', location]);
    assert.equal((await patch(1024, 2047)).status, 202);
    assert.equal((await harness.ask('PUT', `${location}?digest=${digestOf(bytes)}`)).status, 201);
  });

  it('refuse a Content-Range that is none with 416', async () => {
    await using harness = await startHarness();
    const location = await start(harness);
    for (const range of ['x', '5-4', 'bytes=0-4', '0-', '-5']) {
      const reply = await harness.ask('PATCH', location, { headers: { 'content-range': range }, body: Buffer.alloc(5) });
      assert.equal(reply.status, 416, range);
      assert.equal(reply.headers.range, '0-0');
    }
  });

  it('roll back a body that does not have the length of its range', async () => {
    await using harness = await startHarness();
    const location = await start(harness);
    for (const last of [3, 5]) {
      const reply = await harness.ask('PATCH', location, { headers: { 'content-range': `0-${last}` }, body: Buffer.alloc(5) });
      assert.deepEqual([reply.status, codeOf(reply)], [400, 'SIZE_INVALID']);
    }
    const tolerated = await harness.ask('PATCH', location, { headers: { 'content-range': 'bytes 0-4/*' }, body: Buffer.alloc(5) });
    assert.deepEqual([tolerated.status, tolerated.headers.range], [202, '0-4']);
  });

  it('refuse bytes that do not have the digest, and forget them', async () => {
    await using harness = await startHarness();
    const digest = digestOf(randomBytes(10));
    const single = await harness.ask('POST', `${uploads}?digest=${digest}`, { body: randomBytes(15) });
    assert.deepEqual([single.status, codeOf(single)], [400, 'DIGEST_INVALID']);
    const empty = await harness.ask('POST', `${uploads}?digest=${digest}`);
    assert.equal(empty.status, 400);
    const location = await start(harness);
    const put = await harness.ask('PUT', `${location}?digest=${digest}`, { body: randomBytes(15) });
    assert.deepEqual([put.status, codeOf(put)], [400, 'DIGEST_INVALID']);
    assert.equal((await harness.ask('GET', location)).status, 404);
    assert.equal(harness.memory.usedBytes, 0);
  });

  it('keep the session when the digest of a PUT is missing or malformed', async () => {
    await using harness = await startHarness();
    const location = await start(harness);
    for (const query of ['', '?digest=', '?digest=md5:00', '?digest=sha256:AB', '?digest=sha384:00']) {
      const reply = await harness.ask('PUT', `${location}${query}`, { body: Buffer.alloc(5) });
      assert.deepEqual([reply.status, codeOf(reply)], [400, 'DIGEST_INVALID'], query);
    }
    assert.equal((await harness.ask('HEAD', location)).status, 204);
    const algorithm = await harness.ask('POST', `${uploads}?digest-algorithm=md5`);
    assert.deepEqual([algorithm.status, codeOf(algorithm)], [400, 'DIGEST_INVALID']);
  });

  it('know nothing of other sessions', async () => {
    await using harness = await startHarness();
    const location = await start(harness);
    const unknown = [`/v2/other/blobs/uploads/${location.split('/').at(-1)}`, `${uploads}${'0'.repeat(36)}`, `${uploads}x`];
    for (const path of unknown) {
      for (const method of ['GET', 'PATCH', 'PUT', 'DELETE']) {
        const query = method === 'PUT' ? `?digest=${digestOf(randomBytes(4))}` : '';
        const reply = await harness.ask(method, path + query, method === 'PATCH' ? { body: Buffer.alloc(3) } : {});
        assert.deepEqual([reply.status, codeOf(reply)], [404, 'BLOB_UPLOAD_UNKNOWN'], `${method} ${path}`);
      }
    }
  });

  it('are cancelled by DELETE', async () => {
    await using harness = await startHarness();
    const location = await start(harness);
    const reply = await harness.ask('DELETE', location);
    assert.deepEqual([reply.status, reply.body.byteLength], [204, 0]);
    for (const method of ['GET', 'DELETE', 'PATCH']) assert.equal((await harness.ask(method, location)).status, 404);
  });

  it('keep what arrived when the client goes away, and resume there', async () => {
    await using harness = await startHarness();
    const bytes = randomBytes(200_000);
    const location = await start(harness);
    const socket = harness.connect();
    socket.write(`PATCH ${location} HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n`);
    socket.write(bytes.subarray(0, 50_000));
    await until(() => harness.memory.usedBytes === 50_000);
    socket.destroy();
    await until(() => harness.log.some((line) => line.fields['isAborted'] === true));
    const stat = await harness.ask('GET', location);
    assert.equal(stat.headers.range, '0-49999');
    const headers = { 'content-range': '50000-199999' };
    assert.equal((await harness.ask('PATCH', location, { headers, body: bytes.subarray(50_000) })).status, 202);
    assert.equal((await harness.ask('PUT', `${location}?digest=${digestOf(bytes)}`)).status, 201);
    assert.deepEqual(
      harness.log.filter((line) => line.level !== 'debug'),
      [],
    );
  });

  it('are ended with 408 when the body stands still, and keep what has come', async () => {
    await using harness = await startHarness({ registry: { limits: { bodyIdleMs: 1000 } } });
    const location = await start(harness);
    const socket = harness.connect();
    socket.write(`PATCH ${location} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc`);
    await until(() => harness.memory.usedBytes === 3);
    let said = '';
    socket.on('data', (chunk) => {
      said += chunk;
    });
    harness.clock.advance(1000);
    await until(() => said.includes('"errors"'));
    assert.match(said, /^HTTP\/1\.1 408 [\s\S]*connection: close\r\n[\s\S]*too slowly/i);
    const closed = new Promise((resolve) => socket.once('close', resolve));
    harness.clock.advance(5000);
    await closed;
    assert.equal((await harness.ask('GET', location)).headers.range, '0-2');
  });

  it('do not interleave two chunks of one session', async () => {
    await using harness = await startHarness();
    const location = await start(harness);
    const socket = harness.connect();
    socket.write(`PATCH ${location} HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\nabc`);
    await until(() => harness.memory.usedBytes === 3);
    const second = await harness.ask('PATCH', location, { body: Buffer.from('xyz') });
    assert.deepEqual([second.status, codeOf(second)], [409, 'BLOB_UPLOAD_INVALID']);
    socket.end('def');
    assert.match(await readAll(socket), /^HTTP\/1.1 202 [\s\S]*range: 0-5\r\n/i);
  });

  it('answer at once and close when the body is not wanted', async () => {
    await using harness = await startHarness();
    const socket = harness.connect();
    socket.write(`PUT ${uploads}x?digest=sha256:0 HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n`);
    let said = '';
    socket.on('data', (chunk) => {
      said += chunk;
    });
    await until(() => said.includes('"errors"'));
    assert.match(said, /^HTTP\/1.1 404 [\s\S]*connection: close\r\n/i);
    const closed = new Promise((resolve) => socket.once('end', resolve));
    socket.write(Buffer.alloc(100_000));
    await closed;
  });

  it('stop listening to an unwanted body after a while', async () => {
    await using harness = await startHarness({ registry: { limits: { lingerMs: 500 } } });
    const socket = harness.connect();
    socket.write(`PATCH ${uploads}x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n`);
    let said = '';
    let isEnded = false;
    const closed = new Promise<void>((resolve) => {
      socket.once('end', () => {
        isEnded = true;
        resolve();
      });
    });
    socket.on('data', (chunk) => {
      said += chunk;
    });
    await until(() => said.includes('"errors"'));
    for (let round = 0; round < 3; round += 1) await harness.ask('GET', '/v2/');
    assert.ok(!isEnded, 'the connection stays open for the rest of the body');
    harness.clock.advance(500);
    await closed;
    socket.destroy();
  });
});

describe('a session that cannot be ended', () => {
  it('does not hide what was wrong with the upload: it expires by itself', async () => {
    const cancelUpload = async (): Promise<never> => {
      throw new AppError('unavailable', 'its origin does not answer');
    };
    await using harness = await startHarness({
      registry: { limits: { blobBytes: 2000 } },
      store: ({ reader, writer }) => ({ reader, writer: Object.assign(Object.create(writer) as ImageWriter, { cancelUpload }) }),
    });
    const wrong = await harness.ask('POST', `${uploads}?digest=${digestOf(randomBytes(9))}`, { body: randomBytes(20) });
    assert.deepEqual([wrong.status, codeOf(wrong)], [400, 'DIGEST_INVALID']);
    const chunks = [randomBytes(1500), randomBytes(1500)];
    const whole = await harness.ask('POST', `${uploads}?digest=${digestOf(Buffer.concat(chunks))}`, { body: chunks });
    assert.deepEqual([whole.status, codeOf(whole)], [413, 'SIZE_INVALID']);
    const patched = await harness.ask('PATCH', await start(harness), { body: chunks });
    assert.deepEqual([patched.status, codeOf(patched)], [413, 'SIZE_INVALID']);
  });
});

describe('mounts', () => {
  it('show a blob of another repository', async () => {
    await using harness = await startHarness();
    const bytes = randomBytes(20);
    const digest = await harness.pushBlob('src/repo', bytes);
    assert.equal((await harness.ask('HEAD', `/v2/up/load/blobs/${digest}`)).status, 404);
    const reply = await harness.ask('POST', `${uploads}?from=src%2Frepo&mount=${encodeURIComponent(digest)}&origin=x`);
    assert.equal(reply.status, 201);
    assert.equal(reply.headers.location, `/v2/up/load/blobs/${digest}`);
    assert.equal(reply.headers['docker-content-digest'], digest);
    await holds(harness, digest, bytes);
  });

  it('find a blob without a source, and in the repository itself', async () => {
    await using harness = await startHarness();
    const digest = await harness.pushBlob('src/repo', randomBytes(20));
    assert.equal((await harness.ask('POST', `${uploads}?mount=${digest}`)).status, 201);
    assert.equal((await harness.ask('POST', `${uploads}?mount=${digest}&from=up/load`)).status, 201);
  });

  it('become an upload when they are not possible', async () => {
    await using harness = await startHarness();
    const digest = await harness.pushBlob('src/repo', randomBytes(20));
    for (const from of ['&from=other', '&from=BAD%20NAME', '&from=..%2f']) await start(harness, `${uploads}?mount=${digest}${from}`);
    await start(harness, `${uploads}?mount=${digestOf(randomBytes(9))}`);
    const malformed = await harness.ask('POST', `${uploads}?mount=sha256:zz&from=src/repo`);
    assert.deepEqual([malformed.status, codeOf(malformed)], [400, 'DIGEST_INVALID']);
  });
});
