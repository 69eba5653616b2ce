/** The tracker's roster and what it hands out. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { digestOf, isAppError, parsePeerId, SeededRng } from '#core';
import { Roster, type RosterOptions } from '#swarm';

const digest = digestOf(Buffer.from('blob'));

class Cluster {
  readonly roster: Roster;

  constructor(options: Partial<RosterOptions> = {}) {
    this.roster = new Roster(options, { rng: new SeededRng(7) });
  }

  join(name: string, session = 1): void {
    this.roster.apply({ type: 'peer-joined', peer: parsePeerId(name), session, endpoint: `${name}:1` });
  }

  announce(name: string, complete = false, haveCount = 0, session = 1): void {
    this.roster.apply({ type: 'blob-announced', peer: parsePeerId(name), session, digest, complete, haveCount });
  }

  add(name: string, complete = false): void {
    this.join(name);
    this.announce(name, complete);
  }

  leave(name: string, session = 1): void {
    this.roster.apply({ type: 'peer-left', peer: parsePeerId(name), session });
  }

  handout(name: string, count?: number): string[] {
    return this.roster.handout(digest, parsePeerId(name), count).map((offer) => offer.peer);
  }
}

test('a handout has no duplicates, not the one who asks, and no more than asked for', () => {
  const cluster = new Cluster();
  for (let at = 0; at < 40; at += 1) cluster.add(`agent/a${at}`, at % 2 === 0);
  for (let round = 0; round < 50; round += 1) {
    const peers = cluster.handout('agent/a1', 20);
    assert.equal(peers.length, 20);
    assert.equal(new Set(peers).size, 20);
    assert.ok(!peers.includes('agent/a1'));
  }
  assert.equal(cluster.handout('agent/a1', 100).length, 39);
});

test('a peer that left is gone from every blob at once', () => {
  const cluster = new Cluster();
  cluster.add('agent/a');
  cluster.add('agent/b');
  cluster.leave('agent/a');
  assert.deepEqual(cluster.handout('agent/b'), []);
  assert.equal(cluster.roster.membershipCount, 1);
  cluster.leave('agent/b');
  assert.equal(cluster.roster.blobCount, 0);
});

test('the end of an old stream does not remove a peer that came back', () => {
  const cluster = new Cluster();
  cluster.add('agent/a');
  cluster.add('agent/b');
  cluster.join('agent/a', 2);
  assert.deepEqual(cluster.handout('agent/b'), [], 'a new stream starts with nothing');
  cluster.announce('agent/a', false, 0, 2);
  cluster.leave('agent/a', 1);
  assert.deepEqual(cluster.handout('agent/b'), ['agent/a']);
});

test('one who has everything gets nobody', () => {
  const cluster = new Cluster();
  cluster.add('agent/a', true);
  cluster.add('agent/b', true);
  assert.deepEqual(cluster.handout('agent/a'), []);
});

test('degrees stay even', () => {
  const cluster = new Cluster();
  const counts = new Map<string, number>();
  for (let at = 0; at < 300; at += 1) cluster.add(`agent/a${at}`);
  for (let at = 0; at < 300; at += 1) for (const peer of cluster.handout(`agent/a${at}`, 10)) counts.set(peer, (counts.get(peer) ?? 0) + 1);
  const all = [...counts.values()];
  assert.equal(counts.size, 300);
  assert.ok(Math.max(...all) <= 13, `most ${Math.max(...all)}`);
  assert.ok(Math.min(...all) >= 5, `fewest ${Math.min(...all)}`);
});

test('a newcomer is not in every handout until it has caught up', () => {
  const cluster = new Cluster();
  for (let at = 0; at < 100; at += 1) cluster.add(`agent/a${at}`);
  for (let at = 0; at < 100; at += 1) cluster.handout(`agent/a${at}`, 10);
  cluster.add('agent/new');
  let named = 0;
  for (let at = 0; at < 100; at += 1) if (cluster.handout(`agent/a${at}`, 10).includes('agent/new')) named += 1;
  assert.ok(named < 40, `${named} of 100`);
});

test('complete peers and peers in progress are mixed', () => {
  const cluster = new Cluster();
  for (let at = 0; at < 50; at += 1) cluster.add(`agent/c${at}`, true);
  for (let at = 0; at < 50; at += 1) cluster.add(`agent/w${at}`);
  const peers = cluster.handout('agent/w0', 20);
  assert.equal(peers.filter((peer) => peer.startsWith('agent/c')).length, 10);
});

test('origins are named to the first, then seldom, and always to those with nobody else', () => {
  const cluster = new Cluster({ originFirstCount: 10, originEvery: 8 });
  cluster.add('origin/o', true);
  cluster.add('agent/first');
  assert.deepEqual(cluster.handout('agent/first'), ['origin/o']);
  for (let at = 0; at < 400; at += 1) cluster.add(`agent/a${at}`);
  let named = 0;
  for (let at = 0; at < 400; at += 1) if (cluster.handout(`agent/a${at}`, 10).includes('origin/o')) named += 1;
  assert.ok(named >= 40 && named <= 75, `${named} of 400`);
});

test('one that asks a third time and still has nothing is sent to an origin', () => {
  const cluster = new Cluster({ originFirstCount: 0, originEvery: 1_000_000 });
  cluster.add('origin/o', true);
  for (let at = 0; at < 50; at += 1) cluster.add(`agent/a${at}`);
  cluster.handout('agent/a0', 10);
  const named = Array.from({ length: 3 }, () => cluster.handout('agent/a1', 10).includes('origin/o'));
  assert.deepEqual(named, [false, false, true], 'everybody asks twice while a swarm gathers');
});

test('bounds are kept and named', () => {
  const cluster = new Cluster({ peersMax: 1, blobsPerPeerMax: 1 });
  cluster.add('agent/a');
  assert.throws(
    () => cluster.join('agent/b'),
    (error) => isAppError(error, 'resource-exhausted'),
  );
  const other = digestOf(Buffer.from('other'));
  assert.throws(
    () =>
      cluster.roster.apply({
        type: 'blob-announced',
        peer: parsePeerId('agent/a'),
        session: 1,
        digest: other,
        complete: true,
        haveCount: 1,
      }),
    (error) => isAppError(error, 'resource-exhausted'),
  );
  assert.equal(cluster.roster.membershipCount, 1);
});

test('operators see swarms and members page by page', () => {
  const cluster = new Cluster();
  cluster.add('origin/o', true);
  cluster.add('agent/c', true);
  cluster.add('agent/w');
  assert.deepEqual(cluster.roster.swarms(0, 10), [{ digest, completeCount: 1, wantingCount: 1, originCount: 1, handoutCount: 0 }]);
  assert.deepEqual(cluster.roster.swarms(1, 10), []);
  assert.deepEqual(
    cluster.roster.members(digest, 1, 1).map((member) => member.peer),
    ['agent/c'],
  );
});
