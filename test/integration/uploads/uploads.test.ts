/** Uploads through proxies that keep nothing, at origins over real sockets. */
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { newUploadId } from '#cluster';
import { AppError, digestOf, isAppError, type Logger, parseRepositoryName, silentLogger } from '#core';
import { UploadSourceServiceService } from '#gen/shoal/proxy/v1/upload_source_service';
import { Ring } from '#placement';
import { until } from '../../support/processes.ts';
import { deferred } from '../wire/mesh.ts';
import { PushMesh } from './push-mesh.ts';

const mib = 2 ** 20;
const repository = parseRepositoryName('demo/app');
const forever = { signal: new AbortController().signal };

async function* chunks(bytes: Uint8Array, chunkBytes = 65_536): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
}

const isUploadUnknown = (error: unknown): boolean => isAppError(error, 'not-found') && error.data['kind'] === 'upload';
const canBeTriedAgain = (error: unknown): boolean => isAppError(error, 'unavailable') && (error.retryAfterMs ?? 0) > 0;

test('sessions go to the origins in turn, and chunks through either proxy; the blob is held by its owners', async (t) => {
  const mesh = await PushMesh.open(t);
  const [a, b] = [await mesh.proxy('p1'), await mesh.proxy('p2')];
  const used = new Set<string>();
  for (let count = 0; count < 3; count += 1) {
    const bytes = randomBytes(3 * mib + 11);
    const digest = digestOf(bytes);
    const { id } = await a.uploads.start(repository, {}, forever);
    const origin = mesh.originOf(id);
    used.add(origin.id);
    assert.equal((await a.uploads.append(repository, id, { body: chunks(bytes.subarray(0, mib + 1)) }, forever)).offsetBytes, mib + 1);
    const rest = { body: chunks(bytes.subarray(mib + 1), 1000), startByte: mib + 1, lengthBytes: 2 * mib + 10 };
    assert.equal((await b.uploads.append(repository, id, rest, forever)).offsetBytes, bytes.byteLength);
    assert.deepEqual(await a.uploads.stat(repository, id, forever), { id, offsetBytes: bytes.byteLength });
    for (const { uploads } of [b, a])
      assert.deepEqual(await uploads.commit(repository, id, digest, forever), { digest, sizeBytes: bytes.byteLength });
    await a.uploads.cancel(repository, id, forever);
    await assert.rejects(b.uploads.stat(repository, id, forever), isUploadUnknown);
    assert.equal(origin.store.metainfo(digest)?.digest, digest);
    const holders = (): readonly string[] =>
      mesh.origins.filter((one) => one.queued.includes(digest) || one.ingests.held.has(digest)).map((one) => one.id);
    assert.ok(holders().length >= 2 && holders().includes(origin.id), 'a quorum, of which the origin of the upload is one');
    const owners = new Ring(mesh.members).owners(digest, 2, () => true).map((owner) => owner.id);
    await until('every owner holds it', async () => (owners.every((owner) => holders().includes(owner)) ? true : undefined));
  }
  assert.equal(used.size, 3);
});

test('an id that names no origin, and one that its origin does not know, are unknown', async (t) => {
  const mesh = await PushMesh.open(t, 1);
  const { uploads } = await mesh.proxy('p1');
  for (const id of [randomUUID(), newUploadId('o9'), newUploadId('o1')]) {
    await assert.rejects(uploads.stat(repository, id, forever), isUploadUnknown);
    await assert.rejects(uploads.append(repository, id, { body: chunks(Buffer.from('x')) }, forever), isUploadUnknown);
    await assert.rejects(uploads.commit(repository, id, digestOf(Buffer.from('x')), forever), isUploadUnknown);
    await assert.rejects(uploads.cancel(repository, id, forever), isUploadUnknown);
  }
});

test('when a body breaks off everything before it is kept, and its own error is thrown', async (t) => {
  const mesh = await PushMesh.open(t, 1);
  const { uploads } = await mesh.proxy('p1');
  const bytes = randomBytes(mib + 100);
  const { id } = await uploads.start(repository, {}, forever);
  const caller = new AbortController();
  async function* broken(): AsyncGenerator<Uint8Array> {
    yield* chunks(bytes);
    // The registry aborts its signal as well when the client goes away.
    caller.abort();
    throw new AppError('cancelled', 'the client went away');
  }
  await assert.rejects(uploads.append(repository, id, { body: broken() }, { signal: caller.signal }), /the client went away/);
  assert.equal((await uploads.stat(repository, id, forever)).offsetBytes, bytes.byteLength);
});

test('a body that the registry refuses is no fault of the proxy: what came is kept, and no error is logged', async (t) => {
  const mesh = await PushMesh.open(t, 1);
  const faults: string[] = [];
  const logger: Logger = { ...silentLogger, error: (message) => void faults.push(message), child: () => logger };
  const { uploads } = await mesh.proxy('p1', {}, logger);
  const { id } = await uploads.start(repository, {}, forever);
  async function* tooLarge(): AsyncGenerator<Uint8Array> {
    yield* chunks(randomBytes(mib));
    // The registry's own refusals are no AppErrors.
    throw new RangeError('the blob is too large');
  }
  await assert.rejects(uploads.append(repository, id, { body: tooLarge() }, forever), RangeError);
  assert.equal((await uploads.stat(repository, id, forever)).offsetBytes, mib);
  assert.deepEqual(faults, []);
});

test('a chunk of another length than declared, and one in the wrong place, leave the session as it was', async (t) => {
  const mesh = await PushMesh.open(t, 1);
  const { uploads } = await mesh.proxy('p1');
  const { id } = await uploads.start(repository, {}, forever);
  await uploads.append(repository, id, { body: chunks(Buffer.alloc(100)) }, forever);
  for (const lengthBytes of [299_999, 300_001]) {
    const append = uploads.append(repository, id, { body: chunks(Buffer.alloc(300_000)), lengthBytes }, forever);
    await assert.rejects(append, (error) => isAppError(error, 'invalid-argument') && error.data['reason'] === 'size');
  }
  let asked = false;
  async function* unread(): AsyncGenerator<Uint8Array> {
    asked = true;
    yield Buffer.alloc(1);
  }
  const append = uploads.append(repository, id, { body: unread(), startByte: 99 }, forever);
  await assert.rejects(append, (error) => isAppError(error, 'out-of-range') && error.data['offsetBytes'] === 100);
  assert.equal(asked, false, 'a body that is not wanted is not read');
  assert.equal((await uploads.stat(repository, id, forever)).offsetBytes, 100);
});

test('when a proxy dies in mid-chunk what arrived is kept and the other proxy goes on', async (t) => {
  const mesh = await PushMesh.open(t, 1);
  const [a, b] = [await mesh.proxy('p1'), await mesh.proxy('p2')];
  const bytes = randomBytes(2 * mib);
  const { id } = await a.uploads.start(repository, {}, forever);
  const gate = deferred();
  async function* slow(): AsyncGenerator<Uint8Array> {
    yield* chunks(bytes.subarray(0, mib));
    await gate.promise;
  }
  const broken = assert.rejects(a.uploads.append(repository, id, { body: slow() }, forever), canBeTriedAgain);
  await until('the first half has arrived', async () =>
    (await b.uploads.stat(repository, id, forever)).offsetBytes === mib ? true : undefined,
  );
  await a.server.server.drain({ graceMs: 0 });
  await broken;
  gate.resolve();
  await b.uploads.append(repository, id, { body: chunks(bytes.subarray(mib)), startByte: mib }, forever);
  await b.uploads.commit(repository, id, digestOf(bytes), forever);
});

test('a session goes on after a restart of its origin, and can be tried again meanwhile', async (t) => {
  const mesh = await PushMesh.open(t);
  const { uploads } = await mesh.proxy('p1');
  const bytes = randomBytes(mib);
  const { id } = await uploads.start(repository, {}, forever);
  await uploads.append(repository, id, { body: chunks(bytes.subarray(0, 500_000)) }, forever);
  const origin = mesh.originOf(id);
  await mesh.stop(origin);
  await assert.rejects(uploads.stat(repository, id, forever), canBeTriedAgain);
  await assert.rejects(uploads.append(repository, id, { body: chunks(bytes) }, forever), canBeTriedAgain);
  await assert.rejects(uploads.commit(repository, id, digestOf(bytes), forever), canBeTriedAgain);
  for (let count = 0; count < 3; count += 1) {
    assert.notEqual(mesh.originOf((await uploads.start(repository, {}, forever)).id), origin, 'new sessions go elsewhere');
  }
  await mesh.restart(origin);
  await until('it answers again', async () => uploads.stat(repository, id, forever));
  await uploads.append(repository, id, { body: chunks(bytes.subarray(500_000)), startByte: 500_000 }, forever);
  await uploads.commit(repository, id, digestOf(bytes), forever);
});

test("a wrong digest is the client's fault and ends the session; too few owners can be tried again", async (t) => {
  const mesh = await PushMesh.open(t, 2);
  const { uploads } = await mesh.proxy('p1');
  const bytes = randomBytes(1000);
  const first = await uploads.start(repository, {}, forever);
  await uploads.append(repository, first.id, { body: chunks(bytes) }, forever);
  await assert.rejects(uploads.commit(repository, first.id, digestOf(Buffer.from('other')), forever), { code: 'digest-mismatch' });
  await assert.rejects(uploads.stat(repository, first.id, forever), isUploadUnknown);
  const second = await uploads.start(repository, {}, forever);
  await uploads.append(repository, second.id, { body: chunks(bytes) }, forever);
  const other = mesh.origins.find((origin) => origin !== mesh.originOf(second.id));
  assert.ok(other !== undefined);
  other.ingests.onIngest = async () => Promise.reject(new AppError('unavailable', 'not now'));
  await assert.rejects(uploads.commit(repository, second.id, digestOf(bytes), forever), (error) => {
    assert.ok(canBeTriedAgain(error));
    return isAppError(error) && error.data['needed'] === 2;
  });
  other.ingests.onIngest = async () => undefined;
  await uploads.commit(repository, second.id, digestOf(bytes), forever);
});

test('a slow origin slows the client: no more than a few messages are read ahead', async (t) => {
  const mesh = await PushMesh.open(t, 1);
  const { uploads } = await mesh.proxy('p1');
  const { id } = await uploads.start(repository, {}, forever);
  const store = mesh.origins[0]?.uploads;
  assert.ok(store !== undefined);
  // The origin asks for the body and then takes nothing.
  const append = store.append.bind(store);
  const gate = deferred();
  store.append = async (where, which, chunk, options) => {
    async function* held(): AsyncGenerator<Uint8Array> {
      for await (const bytes of chunk.body) {
        yield bytes;
        await gate.promise;
      }
    }
    return append(where, which, { ...chunk, body: held() }, options);
  };
  let readBytes = 0;
  async function* counted(): AsyncGenerator<Uint8Array> {
    for await (const bytes of chunks(Buffer.alloc(64 * mib))) {
      readBytes += bytes.byteLength;
      yield bytes;
    }
  }
  const appended = uploads.append(repository, id, { body: counted() }, forever);
  let seen = -1;
  await until('reading stands still', async () => {
    await new Promise((resolve) => setTimeout(resolve, 200));
    const still = readBytes === seen;
    seen = readBytes;
    return still && readBytes > 0 ? true : undefined;
  });
  assert.ok(readBytes < 16 * mib, `${readBytes} bytes were read ahead`);
  gate.resolve();
  assert.equal((await appended).offsetBytes, 64 * mib);
});

test('an origin that takes nothing is given up, and the next body gets its place', async (t) => {
  const mesh = await PushMesh.open(t, 1);
  const { uploads } = await mesh.proxy('p1', { bodiesMax: 1, waitingMax: 1, originIdleMs: 300 });
  const [first, second] = [await uploads.start(repository, {}, forever), await uploads.start(repository, {}, forever)];
  const store = mesh.origins[0]?.uploads;
  assert.ok(store !== undefined);
  const append = store.append.bind(store);
  store.append = async (where, which, chunk, options) => {
    if (which !== first.id) return append(where, which, chunk, options);
    await new Promise((_resolve, reject) => options.signal.addEventListener('abort', () => reject(options.signal.reason)));
    throw new Error('not reached');
  };
  const stuck = uploads.append(repository, first.id, { body: chunks(Buffer.alloc(10)) }, forever);
  const waiting = uploads.append(repository, second.id, { body: chunks(Buffer.alloc(10)) }, forever);
  const refused = uploads.append(repository, second.id, { body: chunks(Buffer.alloc(10)) }, forever);
  await assert.rejects(refused, (error) => isAppError(error, 'resource-exhausted') && error.retryAfterMs === 1000);
  await assert.rejects(stuck, canBeTriedAgain);
  assert.equal((await waiting).offsetBytes, 10);
});

test('a token serves once, while it is offered, and only the origin it was made for', async (t) => {
  const mesh = await PushMesh.open(t, 2);
  const { source, server } = await mesh.proxy('p1');
  const read = async (id: string, token: Uint8Array): Promise<number> => {
    const client = (await mesh.pool({ role: 'origin', id })).client(UploadSourceServiceService, server.target);
    let sizeBytes = 0;
    for await (const { data } of client.readChunk({ token }, forever)) sizeBytes += data.byteLength;
    return sizeBytes;
  };
  const isChunkUnknown = (error: unknown): boolean => isAppError(error, 'not-found') && error.data['kind'] === 'chunk';
  const used = await source.offer(
    'o1',
    chunks(Buffer.alloc(300_000)),
    async ({ token }) => {
      await assert.rejects(read('o1', randomBytes(16)), isChunkUnknown);
      await assert.rejects(read('o2', token), isChunkUnknown);
      assert.equal(await read('o1', token), 300_000);
      await assert.rejects(read('o1', token), isChunkUnknown);
      return token;
    },
    forever,
  );
  await assert.rejects(read('o1', used), isChunkUnknown);
  const unused = await source.offer('o1', chunks(Buffer.alloc(1)), async ({ token }) => token, forever);
  await assert.rejects(read('o1', unused), isChunkUnknown);
});

test('chunks of any size arrive whole, in messages that keep their bound', async (t) => {
  const mesh = await PushMesh.open(t, 1);
  const { source, server } = await mesh.proxy('p1');
  const client = (await mesh.pool({ role: 'origin', id: 'o1' })).client(UploadSourceServiceService, server.target);
  // Around the bounds of a message and of its parts; each chunk has memory of its own, as those of a socket have.
  const sizes = [
    32_768 + 40,
    1,
    32_767,
    65_536,
    65_536 + 40,
    16_384,
    100,
    32_768,
    65_500,
    65_500,
    65_500,
    65_500,
    131_072 + 33,
    2 ** 19 + 7,
  ];
  for (let turn = 0; turn < sizes.length; turn += 1) {
    const parts = [...sizes.slice(turn), ...sizes.slice(0, turn)].map((sizeBytes) => randomBytes(sizeBytes));
    const expected = digestOf(Buffer.concat(parts));
    async function* body(): AsyncGenerator<Uint8Array> {
      for (const part of parts) yield Buffer.concat([part]);
    }
    const ask = async ({ token }: { readonly token: Uint8Array }): Promise<void> => {
      const received: Uint8Array[] = [];
      for await (const { data } of client.readChunk({ token }, forever)) received.push(data);
      assert.equal(digestOf(Buffer.concat(received)), expected);
      for (const { byteLength } of received) assert.ok(byteLength <= 2 ** 18, `a message of ${byteLength} bytes`);
    };
    await source.offer('o1', body(), ask, forever);
  }
});

test('the bytes of a slow client are sent on before a message is full', async (t) => {
  const mesh = await PushMesh.open(t, 1);
  const { uploads } = await mesh.proxy('p1');
  const { id } = await uploads.start(repository, {}, forever);
  const gate = deferred();
  async function* slow(): AsyncGenerator<Uint8Array> {
    yield Buffer.alloc(10);
    await gate.promise;
    yield Buffer.alloc(5);
  }
  const append = uploads.append(repository, id, { body: slow() }, forever);
  await until('the first bytes have arrived', async () =>
    (await uploads.stat(repository, id, forever)).offsetBytes === 10 ? true : undefined,
  );
  gate.resolve();
  assert.equal((await append).offsetBytes, 15);
});
