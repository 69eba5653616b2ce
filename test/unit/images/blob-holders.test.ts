import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError, type Digest, isAppError } from '#core';
import { BlobHolders } from '#images';
import { MemoryBlobStore } from '#storage';
import { ManualClock } from '../../support/manual-clock.ts';
import { blobOf } from '../../support/storage-fixtures.ts';

const { bytes, metainfo } = blobOf(1, 100);
const { digest } = metainfo;
const options = { signal: new AbortController().signal };
const notFound = new AppError('not-found', 'no owner has this blob', { data: { kind: 'blob' } });
const unavailable = new AppError('unavailable', 'the owners do not answer');

function build() {
  const clock = new ManualClock();
  const store = new MemoryBlobStore({ capacityBytes: 1e6 }, { clock });
  const owners: { failure: AppError | undefined; asked: Digest[] } = { failure: undefined, asked: [] };
  const getMetainfo = async (wanted: Digest) => {
    owners.asked.push(wanted);
    if (owners.failure !== undefined) throw owners.failure;
    return metainfo;
  };
  return { clock, store, owners, holders: new BlobHolders({ store, origins: { getMetainfo }, clock }) };
}

test('the owners are asked once in thirty seconds for a blob they hold', async () => {
  const { clock, owners, holders } = build();
  assert.equal(await holders.holds(digest, options), true);
  clock.advance(29_999);
  assert.equal(await holders.holds(digest, options), true);
  assert.equal(owners.asked.length, 1);
  clock.advance(1);
  owners.failure = notFound;
  assert.equal(await holders.holds(digest, options), false);
  owners.failure = undefined;
  assert.equal(await holders.holds(digest, options), true, 'a no is not remembered');
});

test('a blob that only this node has left is lost to the others', async () => {
  const { store, owners, holders } = build();
  await store.put(digest, bytes, { fsync: false });
  owners.failure = notFound;
  assert.equal(await holders.holds(digest, options), false);
});

test('while the owners do not answer, a copy here will do and nothing else', async () => {
  const { store, owners, holders } = build();
  owners.failure = unavailable;
  await assert.rejects(holders.holds(digest, options), (error) => isAppError(error, 'unavailable'));
  await store.put(digest, bytes, { fsync: false });
  assert.equal(await holders.holds(digest, options), true);
});

test('ten thousand blobs are remembered, the least recently asked for forgotten first', async () => {
  const { owners, holders } = build();
  const digestAt = (index: number): Digest => `sha256:${index.toString(16).padStart(64, '0')}` as Digest;
  for (let index = 0; index < 10_000; index += 1) await holders.holds(digestAt(index), options);
  await holders.holds(digestAt(0), options);
  await holders.holds(digestAt(10_000), options);
  owners.asked.length = 0;
  await holders.holds(digestAt(0), options);
  await holders.holds(digestAt(1), options);
  assert.deepEqual(owners.asked, [digestAt(1)]);
});
