import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError, parsePeerId, silentLogger } from '#core';
import { MemoryBlobStore } from '#storage';
import type { PeerOffer } from '#swarm';
import { ManualClock } from '#test/support/manual-clock';
import { MemoryTracker } from '#test/support/memory-directory';
import { blobOf, until } from '#test/support/storage-fixtures';
import { SourceSearch } from '../../../services/lib/peer/source-search.ts';

const limits = { noSourceTimeoutMs: 10_000, noProgressTimeoutMs: 60_000, lookupIntervalMs: 1000 };
const blob = blobOf(1, 1000);
const peer = parsePeerId('agent/a1');

function fixture() {
  const clock = new ManualClock();
  const tracker = new MemoryTracker();
  const store = new MemoryBlobStore({ capacityBytes: 2 ** 30 }, { clock });
  const offered: PeerOffer[] = [];
  const failures: AppError[] = [];
  const abort = new AbortController();
  const search = new SourceSearch(blob.metainfo.digest, limits, {
    directory: tracker.join({ role: 'agent', id: 'self' }),
    store,
    clock,
    logger: silentLogger,
    signal: abort.signal,
    offer: (peers) => offered.push(...peers),
    giveUp: (error) => failures.push(error),
  });
  return { clock, tracker, store, offered, failures, search, abort };
}

test('the metainfo is asked for until the directory answers', async () => {
  const { clock, tracker, search } = fixture();
  tracker.publish(blob.metainfo);
  tracker.up = false;
  const finding = search.findMetainfo();
  await until(() => clock.pendingCount === 1);
  tracker.up = true;
  clock.advance(1000);
  assert.equal(await finding, blob.metainfo);
});

test('when nobody answers in time the metainfo is unavailable, and when the owners have none it is not found', async () => {
  const { clock, tracker, search } = fixture();
  await assert.rejects(search.findMetainfo(), { code: 'not-found' });
  tracker.up = false;
  let ended = false;
  const finding = search.findMetainfo().finally(() => {
    ended = true;
  });
  finding.catch(() => undefined);
  while (!ended) {
    await until(() => ended || clock.pendingCount === 1);
    clock.advance(1000);
  }
  await assert.rejects(finding, { code: 'unavailable' });
  assert.ok(clock.nowMs() <= 11_000);
});

test('the metainfo of pieces on disk is enough when nobody answers', async () => {
  const { tracker, store, search } = fixture();
  tracker.up = false;
  await (await store.openPartial(blob.metainfo))?.[Symbol.asyncDispose]();
  assert.equal((await search.findMetainfo()).digest, blob.metainfo.digest);
});

test('a download without a source asks again and gives up in time', () => {
  const { clock, tracker, offered, failures, search } = fixture();
  tracker.owners.push({ peer, endpoint: 'x:1', complete: true });
  search.watch();
  search.linkEnded(peer, false, new AppError('unavailable', 'connection refused'));
  clock.advance(9000);
  assert.ok(offered.length >= 8);
  assert.equal(failures.length, 0);
  clock.advance(2000);
  assert.equal(failures[0]?.code, 'unavailable');
  assert.match(failures[0]?.message ?? '', /agent\/a1 \(connection refused\)/);
});

test('a busy peer is a sign of life, any other refusal is not', () => {
  const { clock, failures, search } = fixture();
  search.watch();
  for (let second = 0; second < 20; second += 1) {
    clock.advance(1000);
    search.linkRefused(peer, 'busy');
  }
  assert.equal(failures.length, 0);
  for (let second = 0; second < 11 && failures.length === 0; second += 1) {
    clock.advance(1000);
    search.linkRefused(peer, 'unknown-blob');
  }
  assert.equal(failures.length, 1);
});

test('an open link without progress is given more time, but not for ever', () => {
  const { clock, failures, search } = fixture();
  search.watch();
  search.linkOpened();
  clock.advance(50_000);
  search.progress();
  clock.advance(59_000);
  assert.equal(failures.length, 0);
  clock.advance(2000);
  assert.equal(failures.length, 1);
  search.stop();
});
