/**
 * What network events cost: nanoseconds for each event while nobody listens, with one watcher, and with a watcher that wants other kinds.
 *
 *   node --import tsx test/bench/events.ts [--count 5000000] [--json]
 *
 * A piece makes three events at each side; a node that moves 200 MB/s in pieces of 1 MiB about 600 a second.
 */
import { parseArgs } from 'node:util';
import { parseDigest, peerIdOf } from '#core';
import { NetworkEvents } from '#peer';
import { SystemClock } from '#runtime';
import { printTable } from './table.ts';

const { values } = parseArgs({ options: { count: { type: 'string', default: '5000000' }, json: { type: 'boolean', default: false } } });
const count = Number(values.count);
const digest = parseDigest(`sha256:${'0'.repeat(64)}`);
const peer = peerIdOf({ role: 'agent', id: 'one' });

/** As every place that knows of an event does. */
function tell(events: NetworkEvents, piece: number): void {
  if (events.active) events.emit({ type: 'piece-sent', digest, peer, direction: 'inbound', piece, sizeBytes: piece });
}

function nanoseconds(events: NetworkEvents): number {
  for (let piece = 0; piece < count / 10; piece += 1) tell(events, piece);
  const startMs = performance.now();
  for (let piece = 0; piece < count; piece += 1) tell(events, piece);
  return ((performance.now() - startMs) * 1e6) / count;
}

const events = new NetworkEvents({ clock: new SystemClock() });
let heardCount = 0;
const rows: [string, number][] = [['nobody listens', nanoseconds(events)]];
const stop = events.listen(() => {
  heardCount += 1;
});
rows.push(['one listener', nanoseconds(events)]);
const abort = new AbortController();
const watching = events.watch({ kinds: new Set(['link-up'] as const) }, { signal: abort.signal }).next();
rows.push(['and a watcher of other kinds', nanoseconds(events)]);
abort.abort();
await watching.catch(() => undefined);
stop();
rows.push(['nobody listens any more', nanoseconds(events)]);
if (heardCount < 2 * count) throw new Error('events were lost');
if (values.json) process.stdout.write(`${JSON.stringify(Object.fromEntries(rows))}\n`);
else
  printTable(
    ['network events', 'ns each'],
    rows.map(([name, ns]) => [name, ns.toFixed(1)]),
  );
