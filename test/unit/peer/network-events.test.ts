import assert from 'node:assert/strict';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { isAppError, parsePeerId, silentLogger } from '#core';
import { NetworkEvent as EventMessage } from '#gen/shoal/peer/v1/network_event_service';
import { type NetworkEvent, NetworkEvents, networkEventFromProto, networkEventLine, type TimedEvent } from '#peer';
import { SystemClock } from '#runtime';
import { blobOf } from '#test/support/storage-fixtures';
import { tempDir } from '#test/support/temp';
import { networkEventToProto } from '../../../services/lib/peer/network-event-codec.ts';
import { NetworkEventFile } from '../../../services/lib/peer/network-event-file.ts';

const { digest } = blobOf(1, 10).metainfo;
const other = blobOf(2, 10).metainfo.digest;
const peer = parsePeerId('agent/a1');
const clock = new SystemClock();
const link = { digest, peer, direction: 'outbound' as const };

const arbitraryEvent: fc.Arbitrary<NetworkEvent> = (() => {
  const links = fc.constantFrom('outbound' as const, 'inbound' as const).map((direction) => ({ digest, peer, direction }));
  const piece = fc.nat(100_000);
  const size = fc.nat(4 * 1024 * 1024);
  const text = fc.string({ maxLength: 20 });
  return fc.oneof(
    links.map((of) => ({ type: 'link-up' as const, ...of })),
    fc.tuple(links, text, fc.boolean()).map(([of, reason, wasUp]) => ({ type: 'link-down' as const, ...of, reason, wasUp })),
    fc
      .tuple(links, fc.constantFrom('busy' as const, 'not-have' as const, 'draining' as const, 'unknown-blob' as const), fc.nat(60_000))
      .map(([of, reason, retryAfterMs]) => ({ type: 'link-refused' as const, ...of, reason, retryAfterMs })),
    fc.tuple(links, piece).map(([of, index]) => ({ type: 'piece-requested' as const, ...of, piece: index })),
    fc.tuple(links, piece, size).map(([of, index, sizeBytes]) => ({ type: 'piece-received' as const, ...of, piece: index, sizeBytes })),
    fc.tuple(links, piece, size).map(([of, index, sizeBytes]) => ({ type: 'piece-sent' as const, ...of, piece: index, sizeBytes })),
    fc
      .tuple(
        links,
        piece,
        fc.constantFrom('corrupt' as const, 'duplicate' as const, 'busy' as const, 'not-have' as const, 'draining' as const),
      )
      .map(([of, index, reason]) => ({ type: 'piece-rejected' as const, ...of, piece: index, reason })),
    fc.tuple(fc.nat(2 ** 40), piece, piece).map(([sizeBytes, pieceCount, presentCount]) => ({
      type: 'download-started' as const,
      digest,
      sizeBytes,
      pieceCount,
      presentCount,
    })),
    fc
      .tuple(fc.nat(2 ** 40), fc.nat(10_000_000))
      .map(([sizeBytes, durationMs]) => ({ type: 'blob-complete' as const, digest, sizeBytes, durationMs })),
    fc.tuple(text, text).map(([code, message]) => ({ type: 'download-failed' as const, digest, code, message })),
    fc
      .tuple(fc.constantFrom('wanted' as const, 'complete' as const, 'gone' as const), fc.nat(200))
      .map(([state, peersWanted]) => ({ type: 'announced' as const, digest, state, peersWanted })),
    fc.nat(1_000_000).map((droppedCount) => ({ type: 'gap' as const, droppedCount })),
  );
})();

test('every event comes out of its message as it went in', () => {
  fc.assert(
    fc.property(arbitraryEvent, fc.nat(4_000_000_000), (event, timeMs) => {
      const message = EventMessage.decode(EventMessage.encode(networkEventToProto({ timeMs, event })).finish());
      assert.deepEqual(networkEventFromProto(message), { timeMs, event });
    }),
  );
});

test('the hub is active only while somebody listens', () => {
  const events = new NetworkEvents({ clock });
  assert.equal(events.active, false);
  const first = events.listen(() => undefined);
  const second = events.listen(() => undefined);
  first();
  assert.equal(events.active, true);
  second();
  assert.equal(events.active, false);
});

/** The events of the first batches that together have `count` events. */
async function take(batches: AsyncIterable<readonly TimedEvent[]>, count: number): Promise<NetworkEvent[]> {
  const taken: NetworkEvent[] = [];
  for await (const batch of batches) {
    taken.push(...batch.map(({ event }) => event));
    if (taken.length >= count) return taken;
  }
  return taken;
}

test('a watcher gets what its filter lets through, in order', async () => {
  const events = new NetworkEvents({ clock });
  const { signal } = new AbortController();
  const watched = take(events.watch({ digests: new Set([digest]), kinds: new Set(['piece-sent']) }, { signal }), 2);
  assert.equal(events.active, true);
  for (const piece of [1, 2]) {
    events.emit({ type: 'piece-sent', ...link, digest: other, piece, sizeBytes: 1 });
    events.emit({ type: 'piece-sent', ...link, piece, sizeBytes: 1 });
    events.emit({ type: 'piece-requested', ...link, piece });
  }
  assert.deepEqual(
    (await watched).map((event) => (event.type === 'piece-sent' ? event.piece : event.type)),
    [1, 2],
  );
  assert.equal(events.active, false, 'the one who left is forgotten');
});

test('what a slow watcher misses is counted and told in its place', async () => {
  const events = new NetworkEvents({ clock });
  const { signal } = new AbortController();
  const batches = events.watch({}, { signal, waitingCountMax: 3 })[Symbol.asyncIterator]();
  const first = batches.next();
  for (let piece = 0; piece < 10; piece += 1) events.emit({ type: 'piece-requested', ...link, piece });
  const told = (await first).value?.map(({ event }) => (event.type === 'piece-requested' ? event.piece : event)) ?? [];
  assert.deepEqual(told, [0, 1, 2, { type: 'gap', droppedCount: 7 }]);
  events.emit({ type: 'piece-requested', ...link, piece: 10 });
  const [next] = (await batches.next()).value ?? [];
  assert.equal(next?.event.type === 'piece-requested' && next.event.piece, 10);
  await batches.return(undefined);
});

test('no more than sixteen may watch, and one that leaves makes room', async () => {
  const events = new NetworkEvents({ clock });
  const abort = new AbortController();
  const watchers = Array.from({ length: 16 }, () => take(events.watch({}, abort), 1));
  await assert.rejects(take(events.watch({}, abort), 1), (error: unknown) => isAppError(error, 'resource-exhausted'));
  abort.abort(new Error('enough'));
  for (const watcher of watchers) await assert.rejects(watcher, /enough/);
  const again = take(events.watch({}, new AbortController()), 1);
  events.emit({ type: 'link-up', ...link });
  assert.equal((await again).length, 1);
});

test('the file gets a line an event, and it and the one before it stay within their bytes', async () => {
  const file = join(tempDir('events'), 'events.ndjson');
  const maxBytes = 2 ** 20;
  const events = new NetworkEvents({ clock });
  const sink = await NetworkEventFile.open({ file, maxBytes }, events, { clock, logger: silentLogger });
  const event: NetworkEvent = { type: 'piece-received', ...link, piece: 7, sizeBytes: 5 };
  const lineCount = Math.ceil(maxBytes / networkEventLine({ timeMs: 0, event }).length);
  for (let index = 0; index < 3 * lineCount; index += 1) {
    events.emit(event);
    if (index % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await sink[Symbol.asyncDispose]();
  assert.equal(events.active, false);
  const sizes = await Promise.all([stat(file), stat(`${file}.1`)]);
  assert.ok(sizes[0].size + sizes[1].size <= maxBytes, `${sizes[0].size} + ${sizes[1].size}`);
  const [line = ''] = (await readFile(file, 'utf8')).split('\n');
  const { time, ...rest } = JSON.parse(line) as Record<string, unknown>;
  assert.match(String(time), /^\d{4}-.*Z$/);
  assert.deepEqual(rest, { ...event });
});

test('lines that come faster than the file takes them are counted in a gap', async () => {
  const file = join(tempDir('events'), 'events.ndjson');
  await writeFile(file, '');
  const events = new NetworkEvents({ clock });
  const sink = await NetworkEventFile.open({ file, maxBytes: 2 ** 20 }, events, { clock, logger: silentLogger });
  // All in one turn of the event loop: more than the buffer holds.
  const sentCount = 5000;
  for (let piece = 0; piece < sentCount; piece += 1) events.emit({ type: 'piece-requested', ...link, piece });
  await sink[Symbol.asyncDispose]();
  const lines = (await readFile(file, 'utf8')).trim().split('\n');
  const last = JSON.parse(lines.at(-1) ?? '') as { type: string; droppedCount: number };
  assert.equal(last.type, 'gap');
  assert.ok(last.droppedCount > 0, 'the buffer is bounded');
  assert.equal(lines.length - 1 + last.droppedCount, sentCount);
});
