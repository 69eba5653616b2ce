import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf, isAppError, MetainfoBuilder } from '#core';
import type { EmbeddedDb } from '../../../services/lib/storage/database.ts';
import { LateWrites } from '../../../services/lib/storage/late-writes.ts';

const waitingCountMax = 4096;

test('a disk that refuses everything does not fill the memory: what was refused to its writer is forgotten', async () => {
  const refusing = { transaction: () => Promise.reject(new Error('the disk is full')) } as unknown as EmbeddedDb;
  const late = new LateWrites(refusing, () => undefined);
  let refusedCount = 0;
  for (let count = 0; count < waitingCountMax + 100; count += 1) {
    const bytes = Buffer.from(String(count));
    const metainfo = new MetainfoBuilder().update(bytes).finish(digestOf(bytes));
    try {
      await late.add({ state: 'partial', metainfo, apply: () => undefined });
    } catch (error) {
      assert.ok(isAppError(error, 'unavailable'));
      assert.equal(late.metainfo(metainfo.digest), undefined);
      refusedCount += 1;
    }
  }
  assert.equal(refusedCount, 100);
  // One that was to replace another leaves the other in its place.
  const [first] = late.digests('partial', undefined);
  const metainfo = first === undefined ? undefined : late.metainfo(first);
  assert.ok(metainfo !== undefined);
  const more = new MetainfoBuilder().update(Buffer.from('more')).finish(digestOf(Buffer.from('more')));
  await assert.rejects(
    Promise.all([
      late.add({ state: 'partial', metainfo: more, apply: () => undefined }),
      late.add({ state: 'complete', metainfo, apply: () => undefined }),
    ]),
  );
  assert.equal(late.digests('partial', undefined).length, waitingCountMax);
});
