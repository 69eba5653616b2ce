import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Bitfield, parsePeerId, silentLogger } from '#core';
import type { SwarmEvent } from '#swarm';
import { ManualClock } from '#test/support/manual-clock';
import { blobOf } from '#test/support/storage-fixtures';
import type { OutboundExchange, OutboundExchangeEvents } from '#wire';
import type { PeerChannels } from '../../../services/lib/peer/deps.ts';
import { Engine } from '../../../services/lib/peer/engine.ts';
import { NetworkEvents } from '../../../services/lib/peer/network-events.ts';
import { OutboundLinks } from '../../../services/lib/peer/outbound-links.ts';

const { digest } = blobOf(1, 10).metainfo;
const peer = parsePeerId('agent/a1');
const observer = { linkOpened: () => undefined, linkRefused: () => undefined, linkEnded: () => undefined };

function fixture() {
  const events: SwarmEvent[] = [];
  const calls: string[] = [];
  const remotes: OutboundExchangeEvents[] = [];
  const clock = new ManualClock();
  const engine = new Engine({
    swarm: {
      newLink: () => 1,
      nextDeadlineMs: () => undefined,
      setOptions: () => undefined,
      apply: (event) => {
        events.push(event);
        return [];
      },
    },
    clock,
    carryOut: () => undefined,
  });
  const channels: PeerChannels = {
    client: () => assert.fail('no calls are made'),
    dialExchange: (_target, _digest, remote): OutboundExchange => {
      const name = remotes.push(remote);
      const call = (what: string) => () => void calls.push(`${what} ${name}`);
      return { request: call('request'), cancel: call('cancel'), pause: call('pause'), resume: call('resume'), close: call('close') };
    },
  };
  const links = new OutboundLinks(
    { heldBytesMax: 100 },
    { engine, channels, clock, logger: silentLogger, events: new NetworkEvents({ clock }) },
  );
  const dial = (link: number): void => links.dial(link, { digest, peer, endpoint: 'x:1' }, { pieceCount: 9, observer });
  return { links, dial, events, calls, remotes, clock };
}

test('every link pauses while too many bytes wait for the disk, one that is dialled meanwhile once it is accepted', () => {
  const { links, dial, events, calls, remotes } = fixture();
  dial(1);
  remotes[0]?.accepted(true, new Uint8Array(0));
  links.hold(100);
  assert.deepEqual(calls, []);
  links.hold(1);
  dial(2);
  assert.deepEqual(calls, ['pause 1'], 'the second hears its answer');
  remotes[1]?.accepted(true, new Uint8Array(0));
  assert.deepEqual(calls, ['pause 1', 'pause 2']);
  links.release(50);
  assert.equal(calls.length, 2, 'half of the bytes must be written first');
  links.release(1);
  assert.deepEqual(calls.slice(2), ['resume 1', 'resume 2']);
  assert.equal(links.heldBytes, 50);
  const told = events.flatMap((event) => (event.type === 'reading-paused' ? [event.paused] : []));
  assert.deepEqual(told, [true, false], 'the engine counts nobody as late meanwhile');
});

test('a bitfield of the wrong size closes the link as failed', () => {
  const { dial, events, calls, remotes } = fixture();
  dial(1);
  remotes[0]?.accepted(false, Buffer.alloc(1));
  assert.deepEqual([events, calls], [[{ type: 'link-closed', link: 1, failed: true }], ['close 1']]);
  remotes[0]?.closed(undefined);
  assert.equal(events.length, 1, 'the end is told once');
});

test('what a link hears becomes events until it ends', () => {
  const { links, dial, events, remotes } = fixture();
  dial(7);
  const [remote] = remotes;
  remote?.accepted(true, new Uint8Array(0));
  remote?.have([1]);
  remote?.piece(1, Buffer.alloc(3));
  remote?.pieceRefused(2, 'busy');
  remote?.closed(new Error('reset'));
  remote?.have([2]);
  assert.deepEqual(
    events.map((event) => event.type),
    ['link-accepted', 'peer-has', 'piece-received', 'piece-refused', 'link-closed'],
  );
  const [accepted] = events;
  assert.ok(accepted?.type === 'link-accepted' && accepted.have.isFull && accepted.have instanceof Bitfield);
  assert.equal(links.count, 0);
});

test('a refusal ends a link without a failure', () => {
  const { dial, events, remotes } = fixture();
  dial(7);
  remotes[0]?.refused('busy', 250);
  remotes[0]?.closed(undefined);
  assert.deepEqual(events, [{ type: 'link-refused', link: 7, reason: 'busy', retryAfterMs: 250 }]);
});

test('a blob without an open link dials one at first, the others after the first piece or soon', () => {
  const { links, dial, remotes, clock } = fixture();
  for (const link of [1, 2, 3, 4]) dial(link);
  assert.equal(remotes.length, 1);
  links.close(4, 'useless');
  assert.equal(remotes.length, 3, 'one that ends makes room');
  remotes[0]?.accepted(true, new Uint8Array(0));
  dial(5);
  dial(6);
  assert.equal(remotes.length, 5, 'with an open link nobody waits');
  links.closeAll();
  for (const link of [7, 8, 9, 10]) dial(link);
  assert.equal(remotes.length, 6);
  remotes[5]?.piece(0, Buffer.alloc(1));
  assert.equal(remotes.length, 6, 'who waits for the piece goes before the dials');
  clock.advance(0);
  assert.equal(remotes.length, 9, 'the first piece is here');
  links.closeAll();
  for (const link of [11, 12, 13]) dial(link);
  assert.equal(remotes.length, 10);
  clock.advance(80);
  assert.equal(remotes.length, 12);
});
