/** Uploads whose digest is known beforehand: their bytes go to the origin of the upload and to another owner at the same time. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { AppError, type Digest, digestOf, isAppError, parseRepositoryName } from '#core';
import { Ring } from '#placement';
import { until } from '../../support/processes.ts';
import { type PushMesh as Cluster, PushMesh, type PushOrigin } from './push-mesh.ts';

const mib = 2 ** 20;
const repository = parseRepositoryName('demo/app');
const forever = { signal: new AbortController().signal };

/** As a socket gives them: each chunk has memory of its own, which is taken away from whoever has given it back. */
async function* body(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += 65_536) {
    const chunk = Buffer.allocUnsafeSlow(Math.min(65_536, bytes.byteLength - at));
    chunk.set(bytes.subarray(at, at + chunk.byteLength));
    yield chunk;
  }
}

const lastOf = (bytes: Uint8Array, digest: Digest) => ({ last: { digest, lengthBytes: bytes.byteLength } });
const copyOf = ({ uploads }: PushOrigin): number => uploads?.list().length ?? 0;

/** Starts an upload; the owner that is to get a copy is the first one that is another origin. */
async function begin(cluster: Cluster, digest: Digest) {
  const { uploads } = await cluster.proxy('p1');
  const { id } = await uploads.start(repository, {}, forever);
  const at = cluster.originOf(id);
  const owners = new Ring(cluster.members).owners(digest, 2, () => true).filter((owner) => owner.id !== at.id);
  const owner = cluster.origins.find((origin) => origin.id === owners[0]?.id);
  const others = cluster.origins.filter((origin) => origin !== at && origin !== owner);
  assert.ok(owner !== undefined);
  return { uploads, id, at, owner, others };
}

test('an owner has the blob when the upload is committed, and its session is gone', async (t) => {
  const cluster = await PushMesh.open(t);
  // Through either origin as the first: an owner of the blob, and one that is none.
  for (let turn = 0; turn < 3; turn += 1) {
    const bytes = randomBytes(5 * mib + 17);
    const digest = digestOf(bytes);
    const { uploads, id, at, owner, others } = await begin(cluster, digest);
    assert.equal(
      (await uploads.append(repository, id, { body: body(bytes), ...lastOf(bytes, digest) }, forever)).offsetBytes,
      bytes.byteLength,
    );
    assert.equal(owner.store.metainfo(digest)?.sizeBytes, bytes.byteLength);
    assert.equal(at.store.metainfo(digest), undefined, 'the upload itself is not committed');
    for (const other of others) assert.equal(other.store.metainfo(digest), undefined);
    assert.deepEqual(owner.ingests.held.has(digest), false, 'nobody was told');
    assert.deepEqual(await uploads.commit(repository, id, digest, forever), { digest, sizeBytes: bytes.byteLength });
    assert.ok(owner.ingests.held.has(digest), 'the owner was asked to hold what it has');
    await until('the session of the copy has ended', async () => (copyOf(owner) === 0 ? true : undefined));
    await uploads.cancel(repository, id, forever);
  }
});

test('small bodies, those without a length, and what follows other bytes go to one origin only', async (t) => {
  const cluster = await PushMesh.open(t);
  const bytes = randomBytes(5 * mib);
  const digest = digestOf(bytes);
  const { uploads, id, owner } = await begin(cluster, digest);
  await uploads.append(repository, id, { body: body(bytes.subarray(0, mib)), last: { digest, lengthBytes: mib } }, forever);
  await uploads.append(repository, id, { body: body(bytes.subarray(mib, 2 * mib)), last: { digest, lengthBytes: undefined } }, forever);
  await uploads.append(repository, id, { body: body(bytes.subarray(2 * mib)), ...lastOf(bytes, digest) }, forever);
  assert.equal(owner.store.metainfo(digest), undefined);
  assert.equal(copyOf(owner), 0);
  await uploads.commit(repository, id, digest, forever);
});

test('an owner that takes no session, breaks off, or takes nothing any more costs the upload nothing but its copy', async (t) => {
  const cluster = await PushMesh.open(t);
  const faults: Record<string, (origin: PushOrigin) => void> = {
    'no session': ({ uploads }) => {
      assert.ok(uploads !== undefined);
      uploads.start = async () => Promise.reject(new AppError('resource-exhausted', 'too many', { retryAfterMs: 1000 }));
    },
    'breaks off': ({ uploads }) => {
      assert.ok(uploads !== undefined);
      uploads.append = async (_repository, _id, chunk) => {
        let gotBytes = 0;
        for await (const bytes of chunk.body) {
          gotBytes += bytes.byteLength;
          if (gotBytes > mib) break;
        }
        throw new AppError('resource-exhausted', 'the disk is full', { retryAfterMs: 1000 });
      };
    },
    'stands still': ({ uploads }) => {
      assert.ok(uploads !== undefined);
      uploads.append = async (_repository, _id, _chunk, { signal }) => {
        await new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
        throw new Error('not reached');
      };
    },
  };
  for (const [name, fault] of Object.entries(faults)) {
    const bytes = randomBytes(8 * mib);
    const digest = digestOf(bytes);
    const { uploads, id, owner } = await begin(cluster, digest);
    fault(owner);
    const { offsetBytes } = await uploads.append(repository, id, { body: body(bytes), ...lastOf(bytes, digest) }, forever);
    assert.equal(offsetBytes, bytes.byteLength, name);
    assert.equal(owner.store.metainfo(digest), undefined, name);
    assert.equal((await uploads.commit(repository, id, digest, forever)).sizeBytes, bytes.byteLength, name);
    await cluster.restart(owner);
  }
});

test('a wrong digest leaves nothing at either origin', async (t) => {
  const cluster = await PushMesh.open(t);
  const bytes = randomBytes(5 * mib);
  const digest = digestOf(Buffer.from('something else'));
  const { uploads, id, owner } = await begin(cluster, digest);
  await uploads.append(repository, id, { body: body(bytes), ...lastOf(bytes, digest) }, forever);
  await assert.rejects(uploads.commit(repository, id, digest, forever), { code: 'digest-mismatch' });
  for (const each of [digest, digestOf(bytes)]) assert.equal(owner.store.metainfo(each), undefined);
  await until('no session is left', async () => (cluster.origins.every((origin) => copyOf(origin) === 0) ? true : undefined));
});

test('a client that goes away leaves its session and no copy', async (t) => {
  const cluster = await PushMesh.open(t);
  const bytes = randomBytes(6 * mib);
  const digest = digestOf(bytes);
  const { uploads, id, owner } = await begin(cluster, digest);
  const caller = new AbortController();
  async function* broken(): AsyncGenerator<Uint8Array> {
    yield* body(bytes.subarray(0, 5 * mib));
    caller.abort();
    throw new AppError('cancelled', 'the client went away');
  }
  const append = uploads.append(repository, id, { body: broken(), ...lastOf(bytes, digest) }, { signal: caller.signal });
  await assert.rejects(append, (error) => isAppError(error, 'cancelled'));
  assert.equal((await uploads.stat(repository, id, forever)).offsetBytes, 5 * mib);
  await until('the session of the copy has ended', async () => (copyOf(owner) === 0 ? true : undefined));
  // What is left is sent on its own.
  await uploads.append(repository, id, { body: body(bytes.subarray(5 * mib)), startByte: 5 * mib }, forever);
  await uploads.commit(repository, id, digest, forever);
});
