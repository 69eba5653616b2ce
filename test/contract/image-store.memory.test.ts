/** The store in memory keeps the contract of the port, and its own bounds. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type CallOptions, digestOf, isAppError, parseRepositoryName } from '#core';
import { MemoryImageStore } from '#registry';
import { ManualClock } from '#test/support/manual-clock';
import { imageStoreContract } from './image-store.ts';

const options: CallOptions = { signal: new AbortController().signal };
const repository = parseRepositoryName('bounds');

imageStoreContract('MemoryImageStore', async () => ({
  store: new MemoryImageStore({}, { clock: new ManualClock() }),
  dispose: async () => undefined,
}));

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

describe('MemoryImageStore: bounds', () => {
  it('refuses what goes over its capacity and takes it once there is room', async () => {
    const store = new MemoryImageStore({ capacityBytes: 100 }, { clock: new ManualClock() });
    const { writer } = store;
    const bytes = Buffer.alloc(60, 1);
    const first = await writer.startUpload(repository, {}, options);
    await writer.appendUpload(repository, first.id, { body: once(bytes) }, options);
    await writer.commitUpload(repository, first.id, digestOf(bytes), options);
    const second = await writer.startUpload(repository, {}, options);
    const other = Buffer.alloc(60, 2);
    await assert.rejects(writer.appendUpload(repository, second.id, { body: once(other) }, options), (error) => {
      return isAppError(error, 'resource-exhausted') && error.retryAfterMs !== undefined;
    });
    await writer.deleteBlob(repository, digestOf(bytes), options);
    assert.equal(store.usedBytes, 0);
    await writer.appendUpload(repository, second.id, { body: once(other) }, options);
    assert.equal(store.usedBytes, 60);
    await writer.cancelUpload(repository, second.id, options);
    assert.equal(store.usedBytes, 0);
  });

  it('counts a blob that is uploaded twice once', async () => {
    const store = new MemoryImageStore({}, { clock: new ManualClock() });
    const bytes = Buffer.alloc(60, 1);
    for (const name of ['one', 'two'].map(parseRepositoryName)) {
      const { id } = await store.writer.startUpload(name, {}, options);
      await store.writer.appendUpload(name, id, { body: once(bytes) }, options);
      await store.writer.commitUpload(name, id, digestOf(bytes), options);
    }
    assert.equal(store.usedBytes, 60);
  });

  it('forgets an upload that stands still and gives its room back', async () => {
    const clock = new ManualClock();
    const store = new MemoryImageStore({ sessionTtlMs: 1000 }, { clock });
    const { id } = await store.writer.startUpload(repository, {}, options);
    await store.writer.appendUpload(repository, id, { body: once(Buffer.alloc(60)) }, options);
    clock.advance(1000);
    assert.equal((await store.writer.statUpload(repository, id, options)).offsetBytes, 60);
    clock.advance(1);
    await assert.rejects(store.writer.statUpload(repository, id, options), (error) => isAppError(error, 'not-found'));
    assert.equal(store.usedBytes, 0);
  });

  it('refuses more uploads at once than it may hold', async () => {
    const { writer } = new MemoryImageStore({ sessionsMax: 1 }, { clock: new ManualClock() });
    await writer.startUpload(repository, {}, options);
    await assert.rejects(writer.startUpload(repository, {}, options), (error) => isAppError(error, 'resource-exhausted'));
  });
});
