/** What operators are told while nodes exchange pieces, and what they can change meanwhile. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Bitfield, identityOf, nullMeter, silentLogger } from '#core';
import { NetworkEventKind, NetworkEventServiceService } from '#gen/shoal/peer/v1/network_event_service';
import { TransferServiceService } from '#gen/shoal/peer/v1/transfer_service';
import { limitsToProto, type NetworkEvent, NetworkEvents, networkEventFromProto } from '#peer';
import type { PeerOffer } from '#swarm';
import { bigBlob, pieceOf, until } from '#test/support/storage-fixtures';
import { ChannelPool, digestToProto, type PeerHandlers, pieceFrame, type WireService } from '#wire';
import { clock, deadline, PeerCluster, type TestNode, transferOf } from './cluster.ts';

const origin = { role: 'origin', id: 'o1' } as const;
const agent = { role: 'agent', id: 'a1' } as const;
const mebi = 1024 * 1024;

async function operator<S extends WireService>(cluster: PeerCluster, node: TestNode, service: S, t: { after(fn: () => void): void }) {
  const certificates = await cluster.certificates({ role: 'operator', id: 'op' });
  const pool = new ChannelPool({}, { certificates, clock, logger: silentLogger, meter: nullMeter });
  t.after(() => pool.close());
  return pool.client(service, { endpoint: node.offer.endpoint, ...identityOf(node.offer.peer) });
}

/** Counts what is emitted. */
class CountedEvents extends NetworkEvents {
  count = 0;

  override emit(event: NetworkEvent): void {
    this.count += 1;
    super.emit(event);
  }
}

test('a watcher over the wire is told of a download from its start to its end, on both sides', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(2 * mebi);
  const hubs = [new NetworkEvents({ clock }), new NetworkEvents({ clock })] as const;
  const seeder = await cluster.node(origin, { blobs: [blob], owner: true, events: hubs[0] });
  const leecher = await cluster.node(agent, { events: hubs[1] });
  const abort = new AbortController();
  const watch = async (node: TestNode, kinds: NetworkEventKind[], until: (event: NetworkEvent) => boolean): Promise<NetworkEvent[]> => {
    const client = await operator(cluster, node, NetworkEventServiceService, t);
    const told: NetworkEvent[] = [];
    const request = { digests: [digestToProto(blob.metainfo.digest)], kinds };
    for await (const { events } of client.watchNetworkEvents(request, { signal: abort.signal })) {
      for (const { event } of events.map(networkEventFromProto).filter((timed) => timed !== undefined)) {
        told.push(event);
        if (until(event)) return told;
      }
    }
    return told;
  };
  const received = watch(leecher, [], ({ type }) => type === 'blob-complete');
  const sent = watch(seeder, [NetworkEventKind.PIECE_SENT, NetworkEventKind.LINK_DOWN], ({ type }) => type === 'link-down');
  await until(() => hubs.every(({ active }) => active));
  await leecher.node.fetch(blob.metainfo.digest, {}, { signal: deadline() });
  const events = await received;
  const countOf = (wanted: NetworkEvent['type']): number => events.filter(({ type }) => type === wanted).length;
  assert.equal(countOf('download-started'), 1);
  assert.equal(countOf('link-up'), 1);
  assert.equal(countOf('piece-received'), 8);
  assert.ok(countOf('piece-requested') >= 8);
  const first = (type: NetworkEvent['type']): number => events.findIndex((event) => event.type === type);
  assert.ok(first('download-started') < first('link-up') && first('link-up') < first('piece-requested'));
  assert.ok(first('piece-requested') < first('piece-received') && first('piece-received') < first('blob-complete'));
  assert.deepEqual(
    new Set((await sent).map((event) => (event.type === 'piece-sent' ? `${event.direction} ${event.peer}` : event.type))),
    new Set(['inbound agent/a1', 'link-down']),
  );
  abort.abort();
});

test('while nobody listens, not one event is made', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blobs = [bigBlob(4 * mebi), bigBlob(1000)] as const;
  const events = new CountedEvents({ clock });
  await cluster.node(origin, { blobs, owner: true, events });
  const leecher = await cluster.node(agent, { events });
  for (const { metainfo } of blobs) await leecher.node.fetch(metainfo.digest, { sizeBytes: metainfo.sizeBytes }, { signal: deadline() });
  assert.equal(events.count, 0);
  const stop = events.listen(() => undefined);
  const again = await cluster.node({ role: 'agent', id: 'a2' }, { events });
  for (const { metainfo } of blobs) await again.node.fetch(metainfo.digest, { sizeBytes: metainfo.sizeBytes }, { signal: deadline() });
  assert.ok(events.count > 16, `${events.count} events once somebody does`);
  stop();
});

test('a corrupt piece and a refusal are told with their source', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(mebi);
  const handlers = (accepts: boolean): PeerHandlers => ({
    fetchBlob: () => assert.fail('not tiny'),
    exchange: (exchange) => {
      exchange.listen({
        requested: (pieces) => {
          for (const piece of pieces) {
            const frame = pieceFrame(pieceOf(blob, piece).byteLength);
            frame.body.fill(0);
            exchange.piece(piece, frame).catch(() => undefined);
          }
        },
        cancelled: () => undefined,
        closed: () => undefined,
      });
      if (accepts) exchange.accept(Bitfield.full(blob.metainfo.pieceCount));
      else exchange.refuse('busy', 10);
    },
  });
  const liar = await cluster.impostor({ role: 'agent', id: 'liar' }, handlers(true));
  const busy = await cluster.impostor({ role: 'agent', id: 'busy' }, handlers(false));
  const events = new NetworkEvents({ clock });
  const told: NetworkEvent[] = [];
  t.after(events.listen(({ event }) => told.push(event)));
  const leecher = await cluster.node(agent, { events });
  const abort = new AbortController();
  const fetching = leecher.node.ingest(blob.metainfo, [liar, busy], { signal: abort.signal });
  const has = (type: NetworkEvent['type'], from: PeerOffer, reason: string): boolean =>
    told.some(
      (event) => event.type === type && 'peer' in event && event.peer === from.peer && 'reason' in event && event.reason === reason,
    );
  await until(() => has('piece-rejected', liar, 'corrupt') && has('link-down', liar, 'corrupt') && has('link-refused', busy, 'busy'));
  abort.abort(new Error('enough'));
  await assert.rejects(fetching, /enough/);
});

test('a limit that is changed takes effect on a transfer that is running, which is not interrupted', async (t) => {
  const cluster = await PeerCluster.open(t);
  const blob = bigBlob(16 * mebi);
  const seeder = await cluster.node(origin, { blobs: [blob], owner: true, options: { swarm: { egressBytesPerSec: mebi } } });
  const leecher = await cluster.node(agent);
  const client = await operator(cluster, seeder, TransferServiceService, t);
  const fetching = leecher.node.fetch(blob.metainfo.digest, {}, { signal: deadline() });
  await until(() => (transferOf(leecher, blob)?.verifiedCount ?? 0) > 0);
  const startedMs = clock.nowMs();
  const { before, after } = await client.updateLimits({ limits: limitsToProto({ egressPerSecond: 0, inboundLinks: 7 }) });
  assert.deepEqual([before?.egressPerSecond, before?.inboundLinks], [BigInt(mebi), 20]);
  assert.deepEqual([after?.egressPerSecond, after?.inboundLinks, after?.outboundLinks], [0n, 7, 20]);
  await fetching;
  assert.ok(clock.nowMs() - startedMs < 8000, 'at 1 MiB/s it would have taken 15 s');
  assert.equal(transferOf(leecher, blob)?.sources.length, 1);
  assert.deepEqual((await client.getLimits({})).limits, after);
});

test('a limit out of its bounds is refused with the bounds, and nothing changes', async (t) => {
  const cluster = await PeerCluster.open(t);
  const node = await cluster.node(agent);
  const client = await operator(cluster, node, TransferServiceService, t);
  const { limits } = await client.getLimits({});
  await assert.rejects(client.updateLimits({ limits: limitsToProto({ outboundLinks: 65, inboundLinks: 3 }) }), {
    code: 'invalid-argument',
    message: 'outboundLinks must be a whole number from 1 to 64',
  });
  await assert.rejects(client.updateLimits({ limits: {} }), { code: 'invalid-argument', message: /changes nothing/ });
  assert.deepEqual((await client.getLimits({})).limits, limits);
});
