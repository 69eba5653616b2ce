import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { type TestContext, test } from 'node:test';
import { type AppError, digestOf, isAppError, parseTag, SeededRng } from '#core';
import { SystemClock } from '#runtime';
import { anonymous, type Credentials, HttpClient, Session, UpstreamClient } from '#upstream';
import { serve } from '../../support/local-server.ts';

const { signal } = new AbortController();
const latest = { tag: parseTag('latest') };
const alice: Credentials = { type: 'basic', username: 'alice', password: 'open-sesame' };
const aliceHeader = `Basic ${Buffer.from('alice:open-sesame').toString('base64')}`;

function clientOf(t: TestContext, url: URL, forCallers = false): UpstreamClient {
  const clock = new SystemClock();
  const http = new HttpClient({ caPem: undefined }, { clock });
  t.after(() => http[Symbol.dispose]());
  return new UpstreamClient({ session: new Session({ url, forCallers }, { http, clock, rng: new SeededRng(1) }), clock });
}

function reply(response: ServerResponse, status: number, headers: Record<string, string> = {}, body: string | Buffer = ''): void {
  response.writeHead(status, { 'content-length': String(Buffer.byteLength(body)), ...headers }).end(body);
}

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  return Buffer.concat(parts);
}

const failure = (error: unknown): error is AppError => isAppError(error);

test('one token serves every request of a repository, however many begin at once', async (t) => {
  const tokens = await serve(t, (request, response) => {
    assert.equal(request.headers.authorization, aliceHeader);
    reply(response, 200, {}, JSON.stringify({ token: 'abc', expires_in: 300 }));
  });
  const bytes = Buffer.from('{"schemaVersion":2}');
  const registry = await serve(t, (request, response) => {
    if (request.headers.authorization === 'Bearer abc') return reply(response, 200, {}, bytes);
    const challenge = `Bearer realm="${tokens.url.href}token",service="registry.test",scope="repository:a/b:pull"`;
    reply(response, 401, { 'www-authenticate': challenge });
  });
  const client = clientOf(t, registry.url);
  await Promise.all(Array.from({ length: 5 }, () => client.getManifest('a/b', latest, { credentials: alice, signal })));
  await client.getManifest('a/b', latest, { credentials: alice, signal });
  assert.deepEqual(tokens.requests, ['GET /token?service=registry.test&scope=repository%3Aa%2Fb%3Apull&account=alice']);
  assert.equal(registry.requests.length, 11, 'five refused, then six with the token');
});

test('credentials that the token issuer refuses are not tried again at once', async (t) => {
  const tokens = await serve(t, (_request, response) => reply(response, 401));
  const registry = await serve(t, (_request, response) =>
    reply(response, 401, { 'www-authenticate': `Bearer realm="${tokens.url.href}token"` }),
  );
  const client = clientOf(t, registry.url);
  for (let count = 0; count < 3; count += 1) {
    await assert.rejects(client.headManifest('a/b', latest, { credentials: alice, signal }), (error) => {
      assert.ok(failure(error) && error.code === 'permission-denied' && error.data['kind'] === 'upstream');
      assert.doesNotMatch(JSON.stringify([error.message, error.data]), /sesame/);
      return true;
    });
  }
  assert.equal(tokens.requests.length, 1);
});

test('another host to which a blob is redirected never sees the credentials', async (t) => {
  const bytes = randomBytes(1000);
  const seen: (string | undefined)[] = [];
  const storage = await serve(t, (request, response) => {
    seen.push(request.headers.authorization);
    reply(response, 200, {}, bytes);
  });
  const registry = await serve(t, (request, response) => {
    if (request.headers.authorization !== aliceHeader) return reply(response, 401, { 'www-authenticate': 'Basic realm="r"' });
    reply(response, 307, { location: `http://localhost:${storage.url.port}/signed` });
  });
  const blob = await clientOf(t, registry.url).openBlob('a/b', digestOf(bytes), { credentials: alice, signal });
  assert.equal(blob.sizeBytes, 1000);
  assert.deepEqual(await collect(blob.chunks), bytes);
  assert.deepEqual(seen, [undefined]);
});

for (const [how, honoursRange] of [
  ['goes on where it broke off', true],
  ['skips what it has when the upstream sends everything again', false],
] as const) {
  test(`a blob whose transfer breaks ${how}`, async (t) => {
    const bytes = randomBytes(300_000);
    const ranges: (string | undefined)[] = [];
    const registry = await serve(t, (request, response) => {
      const { range } = request.headers;
      ranges.push(range);
      const startByte = honoursRange ? Number(/^bytes=(\d+)-$/.exec(range ?? 'bytes=0-')?.[1]) : 0;
      const head = startByte > 0 ? { 'content-range': `bytes ${startByte}-${bytes.length - 1}/${bytes.length}` } : {};
      response.writeHead(startByte > 0 ? 206 : 200, { 'content-length': String(bytes.length - startByte), ...head });
      if (ranges.length > 2) response.end(bytes.subarray(startByte));
      else response.write(bytes.subarray(startByte, 100_000 * ranges.length), () => response.destroy());
    });
    const blob = await clientOf(t, registry.url).openBlob('a/b', digestOf(bytes), { credentials: anonymous, signal });
    assert.deepEqual(await collect(blob.chunks), bytes);
    assert.equal(ranges[0], undefined);
    assert.match(ranges.at(-1) ?? '', /^bytes=[1-9]\d*-$/);
  });
}

test('a blob that breaks off again and again without a new byte fails', async (t) => {
  const registry = await serve(t, (request, response) => {
    if (request.headers.range !== undefined) return void response.destroy();
    response.writeHead(200, { 'content-length': '1000' }).write(Buffer.alloc(10), () => response.destroy());
  });
  const blob = await clientOf(t, registry.url).openBlob('a/b', digestOf(Buffer.alloc(0)), { credentials: anonymous, signal });
  await assert.rejects(collect(blob.chunks), (error) => failure(error) && error.code === 'unavailable');
});

test('a fault that passes is waited out, a limit that lasts is passed on with its time', async (t) => {
  let count = 0;
  const passing = await serve(t, (_request, response) => {
    count += 1;
    reply(response, count === 1 ? 503 : 200);
  });
  await clientOf(t, passing.url).headManifest('a/b', latest, { credentials: anonymous, signal });
  const limited = await serve(t, (_request, response) => reply(response, 429, { 'retry-after': '60' }));
  await assert.rejects(clientOf(t, limited.url).headManifest('a/b', latest, { credentials: anonymous, signal }), (error) => {
    assert.ok(failure(error) && error.code === 'resource-exhausted');
    assert.equal(error.retryAfterMs, 60_000);
    return true;
  });
  assert.equal(limited.requests.length, 1);
});

test('a manifest that does not have its digest is refused', async (t) => {
  const asked = digestOf(Buffer.from('the real one'));
  const registry = await serve(t, (_request, response) => reply(response, 200, { 'docker-content-digest': asked }, 'another'));
  for (const reference of [{ digest: asked }, latest]) {
    await assert.rejects(
      clientOf(t, registry.url).getManifest('a/b', reference, { credentials: anonymous, signal }),
      (error) => failure(error) && error.code === 'unavailable',
    );
  }
});

test('the challenge of an upstream reaches its own callers only', async (t) => {
  const challenge = 'Bearer realm="https://auth.test/token",service="auth.test",scope="repository:a/b:pull"';
  const registry = await serve(t, (_request, response) => reply(response, 401, { 'www-authenticate': challenge }));
  const bearer: Credentials = { type: 'bearer', token: 'expired' };
  await assert.rejects(clientOf(t, registry.url, true).headManifest('a/b', latest, { credentials: bearer, signal }), (error) => {
    assert.ok(failure(error) && error.code === 'unauthenticated');
    assert.equal(error.data['challenge'], challenge);
    return true;
  });
  await assert.rejects(clientOf(t, registry.url).headManifest('a/b', latest, { credentials: bearer, signal }), (error) => {
    assert.ok(failure(error) && error.code === 'permission-denied');
    assert.equal(error.data['challenge'], undefined);
    return true;
  });
});
