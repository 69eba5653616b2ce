/** What the engine does with the sources of a blob it wants. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { Bitfield } from '#core';
import { type Effect, swarmOptions } from '#swarm';
import { blobOf } from '#test/support/swarm-blob';
import { asked, Engine, of, offerOf, pieces } from './engine-harness.ts';

const mebi = 1024 * 1024;

test('a wanted blob is announced and offered peers are dialled up to the number of outbound links', () => {
  const engine = new Engine({ outboundLinksPerBlob: 3 });
  const [announce] = of(engine.want(), 'announce');
  assert.equal(announce?.complete, false);
  assert.ok((announce?.peersWanted ?? 0) > 0);
  const effects = engine.offer(['agent/a', 'agent/b', 'agent/c', 'agent/d', 'agent/self']);
  assert.equal(of(effects, 'dial').length, 3);
});

test('an owner that lacks the blob is asked again soon, since it looks for it; another peer is not', () => {
  const engine = new Engine();
  engine.want();
  for (const { link } of of(engine.offer(['origin/o', 'agent/a']), 'dial'))
    engine.apply({ type: 'link-refused', link, reason: 'unknown-blob', retryAfterMs: 0 });
  assert.deepEqual(
    of(engine.pass(1000), 'dial').map(({ peer }) => peer),
    ['origin/o'],
  );
});

test('all links are opened at once where somebody has everything', () => {
  const engine = new Engine();
  engine.want();
  const peers = Array.from({ length: 30 }, (_, at) => offerOf(`agent/${at}`, at === 29));
  assert.equal(of(engine.apply({ type: 'peers-offered', digest: engine.blob.digest, peers }), 'dial').length, 20);
  assert.deepEqual(of(engine.pass(100), 'announce'), []);
});

test('inbound links take none of the outbound budget', () => {
  const engine = new Engine({ outboundLinksPerBlob: 2, inboundLinksPerBlob: 2 });
  engine.want();
  engine.inbound('agent/x');
  engine.inbound('agent/y');
  assert.equal(of(engine.offer(['agent/a', 'agent/b']), 'dial').length, 2);
});

test('an offer of oneself is not dialled', () => {
  const engine = new Engine();
  engine.want();
  assert.deepEqual(engine.offer(['agent/self']), []);
});

test('pieces flow until the blob is complete, then outbound links close and completion is announced', () => {
  const engine = new Engine({ inFlightBytesPerLink: 16 * mebi }, 4);
  engine.want();
  const { link, effects } = engine.connect('agent/a');
  const queue = asked(effects, link);
  let last = effects;
  for (let piece = queue.shift(); piece !== undefined; piece = queue.shift()) {
    engine.nowMs += 10;
    last = engine.deliver(link, piece);
    queue.push(...asked(last, link));
  }
  assert.deepEqual(of(last, 'complete').length, 1);
  assert.deepEqual(of(last, 'close'), [{ type: 'close', link, reason: 'complete' }]);
  assert.equal(of(last, 'announce')[0]?.complete, true);
  assert.equal(engine.swarm.nextDeadlineMs(), undefined);
  const [transfer] = engine.swarm.transfers();
  assert.equal(transfer?.sources[0]?.pieceCount, 4);
});

test('a blob that is wanted with all of its pieces is complete at once', () => {
  const engine = new Engine();
  assert.equal(of(engine.want(Bitfield.full(8)), 'complete').length, 1);
});

test('only missing pieces are requested when a partial blob resumes', () => {
  const engine = new Engine({ windowStartPieces: 16 });
  engine.want(pieces(8, 0, 1, 2, 3, 4, 5));
  assert.deepEqual(asked(engine.connect('agent/a').effects).sort(), [6, 7]);
});

test('the rarest piece is requested first', () => {
  const engine = new Engine({ windowStartPieces: 1 }, 4);
  engine.want();
  engine.connect('agent/a', pieces(4, 0));
  const busy = engine.connect('agent/b', pieces(4, 0, 1)).effects;
  assert.deepEqual(asked(busy), [1]);
  assert.notDeepEqual(asked(engine.connect('agent/c', pieces(4, 1, 2, 3)).effects), [1]);
});

test('equally rare pieces are taken at random, so that newcomers spread over a seeder', () => {
  const first = new Set<number>();
  for (let seed = 1; seed <= 20; seed += 1) {
    const engine = new Engine({ windowStartPieces: 1 }, 100, seed);
    engine.want();
    first.add(asked(engine.connect('agent/a').effects)[0] ?? -1);
  }
  assert.ok(first.size > 10, `${first.size} different first pieces`);
});

test('an origin is asked for what no agent has, and for more only while few owe pieces', () => {
  const engine = new Engine({ owingLinksPerBlob: 2 }, 4);
  engine.want();
  const agent = engine.connect('agent/a', pieces(4, 0, 1, 2));
  assert.equal(asked(agent.effects, agent.link).length, 1);
  const origin = engine.connect('origin/o');
  assert.deepEqual(asked(origin.effects, origin.link), [3], 'the piece that only the origin has');
  const [first = -1] = asked(agent.effects, agent.link);
  assert.deepEqual(asked(engine.deliver(origin.link, 3), origin.link), [], 'the agent has the others');
  engine.apply({ type: 'link-closed', link: agent.link, failed: false });
  assert.ok(asked(engine.pass(1000), origin.link).includes(first) || engine.swarm.links().some(({ inFlightCount }) => inFlightCount > 0));
});

test('a reader presses a source that would rather give something else when a piece could have come from another, not before', () => {
  const engine = new Engine({ windowStartPieces: 1, checkIntervalMs: 10 }, 100);
  engine.want();
  const { link, effects } = engine.connect('origin/o');
  const queue: number[] = [];
  const seen = new Set<number>();
  const take = (more: readonly Effect[]): void => {
    for (const piece of asked(more)) seen.add(piece);
    queue.push(...asked(more));
  };
  const deliver = (): void => take(engine.deliver(link, queue.shift() ?? -1));
  take(effects);
  for (let turn = 0; turn < 8; turn += 1) {
    engine.nowMs += 200;
    deliver();
  }
  const wanted = Array.from({ length: 100 }, (_, piece) => piece).find((piece) => !seen.has(piece)) ?? -1;
  take(engine.apply({ type: 'reader-moved', digest: engine.blob.digest, reader: 1, firstPiece: wanted, endPiece: wanted + 1 }));
  const askedMs: number[] = [];
  const movedMs = engine.nowMs;
  for (let turn = 0; turn < 12; turn += 1) {
    while (queue.includes(wanted)) {
      askedMs.push(engine.nowMs - movedMs);
      queue.splice(queue.indexOf(wanted), 1);
      take(engine.apply({ type: 'piece-refused', link, piece: wanted, reason: 'busy' }));
    }
    engine.nowMs += 100;
    if (turn % 2 === 0) deliver();
  }
  assert.ok(askedMs.length >= 2, String(askedMs));
  assert.ok((askedMs[1] ?? 0) >= 200, `pressed after ${askedMs[1]} ms, and a piece takes 200`);
});

test('readers have their pieces first, the nearest ones before the others, and may move', () => {
  const engine = new Engine({ windowStartPieces: 4 }, 100);
  engine.want();
  engine.apply({ type: 'reader-moved', digest: engine.blob.digest, reader: 1, firstPiece: 40, endPiece: 42 });
  engine.apply({ type: 'reader-moved', digest: engine.blob.digest, reader: 2, firstPiece: 70, endPiece: 71 });
  const { link, effects } = engine.connect('agent/a');
  assert.deepEqual(asked(effects).slice(0, 3), [40, 70, 41]);
  engine.apply({ type: 'reader-closed', digest: engine.blob.digest, reader: 2 });
  engine.apply({ type: 'reader-moved', digest: engine.blob.digest, reader: 1, firstPiece: 90, endPiece: 95 });
  engine.nowMs += 5;
  assert.equal(asked(engine.deliver(link, 40))[0], 90);
});

test('a reader that goes on and on does not starve another', () => {
  const engine = new Engine({ windowStartPieces: 1 }, 1000, 3);
  const move = (reader: number, firstPiece: number): Effect[] =>
    engine.apply({ type: 'reader-moved', digest: engine.blob.digest, reader, firstPiece, endPiece: firstPiece + 30 });
  engine.want();
  move(1, 0);
  const { link, effects } = engine.connect('agent/a');
  const inFlight = asked(effects);
  inFlight.push(...asked(move(2, 900)));
  const order: number[] = [];
  for (let step = 0; step < 60; step += 1) {
    engine.nowMs += 10;
    const piece = inFlight.shift();
    if (piece === undefined) break;
    order.push(piece);
    inFlight.push(...asked(engine.deliver(link, piece)));
    inFlight.push(...asked(move(piece < 900 ? 1 : 2, piece + 1)));
  }
  const ofSecond = order.filter((piece) => piece >= 900).length;
  assert.ok(ofSecond > 20 && ofSecond < 40, `${ofSecond} of ${order.length} pieces for the second reader: ${order}`);
});

test('a reader demands no more than its number of pieces at once', () => {
  const engine = new Engine({ windowStartPieces: 8, readerPieces: 2, inFlightBytesPerLink: 16 * mebi }, 1000, 3);
  engine.want();
  engine.apply({ type: 'reader-moved', digest: engine.blob.digest, reader: 1, firstPiece: 0, endPiece: 1000 });
  const requested = asked(engine.connect('agent/a').effects);
  assert.deepEqual(requested.slice(0, 2), [0, 1]);
  assert.notDeepEqual(requested.slice(2, 5), [2, 3, 4]);
});

test('the piece a reader waits for is asked from a second source when the first is slow', () => {
  const engine = new Engine({ windowStartPieces: 1 }, 100);
  engine.want();
  engine.apply({ type: 'reader-moved', digest: engine.blob.digest, reader: 1, firstPiece: 0, endPiece: 1 });
  const slow = engine.connect('agent/slow');
  assert.deepEqual(asked(slow.effects), [0]);
  const fast = engine.connect('agent/fast');
  let effects = fast.effects;
  let twice = false;
  for (let step = 0; step < 20 && !twice; step += 1) {
    engine.nowMs += 10;
    effects = asked(effects, fast.link).flatMap((piece) => engine.deliver(fast.link, piece));
    twice = asked(effects, fast.link).includes(0);
  }
  assert.ok(twice);
});

test('few pieces are asked for twice on behalf of a reader, however slow their sources are', () => {
  const engine = new Engine({ windowStartPieces: 1 }, 300);
  const { digest } = engine.blob;
  engine.want();
  const slow = engine.connect('agent/slow');
  let [owed = -1] = asked(slow.effects);
  const fast = engine.connect('agent/fast');
  let queue = asked(fast.effects, fast.link);
  let twiceCount = 0;
  for (let step = 0; step < 200; step += 1) {
    engine.nowMs += 10;
    const moved = engine.apply({ type: 'reader-moved', digest, reader: 1, firstPiece: owed, endPiece: owed + 1 });
    const effects = [...moved, ...queue.flatMap((piece) => engine.deliver(fast.link, piece))];
    queue = asked(effects, fast.link);
    if (queue.includes(owed)) twiceCount += 1;
    owed = asked(effects, slow.link).at(-1) ?? owed;
  }
  assert.ok(twiceCount >= 1 && twiceCount <= 5, `${twiceCount} pieces were asked for twice`);
});

test('a busy refusal is no failure: the peer is asked again later and gets no penalty', () => {
  const engine = new Engine();
  engine.want();
  const [dial] = of(engine.offer(['agent/a']), 'dial');
  engine.apply({ type: 'link-refused', link: dial?.link ?? -1, reason: 'busy', retryAfterMs: 400 });
  assert.deepEqual(engine.swarm.penalties(), []);
  assert.equal(of(engine.pass(150), 'dial').length, 0);
  assert.equal(of(engine.pass(500), 'dial').length, 1);
});

test('a failed dial backs off exponentially', () => {
  const engine = new Engine({ unreachablePenaltyMs: 1000 });
  engine.want();
  const [first] = of(engine.offer(['agent/a']), 'dial');
  engine.apply({ type: 'link-closed', link: first?.link ?? -1, failed: true });
  assert.equal(engine.swarm.penalties()[0]?.reason, 'unreachable');
  assert.equal(of(engine.pass(900), 'dial').length, 0);
  const [second] = of(engine.pass(200), 'dial');
  engine.apply({ type: 'link-closed', link: second?.link ?? -1, failed: true });
  assert.equal(of(engine.pass(1800), 'dial').length, 0);
  assert.equal(of(engine.pass(400), 'dial').length, 1);
});

test('a dial that is never answered is given up', () => {
  const engine = new Engine({ dialTimeoutMs: 1000 });
  engine.want();
  const [dial] = of(engine.offer(['agent/a']), 'dial');
  assert.deepEqual(of(engine.pass(1500), 'close')[0], { type: 'close', link: dial?.link, reason: 'useless' });
});

test('a refused piece is requested elsewhere', () => {
  const engine = new Engine({}, 1);
  engine.want();
  const a = engine.connect('agent/a');
  const b = engine.connect('agent/b');
  assert.deepEqual(asked(a.effects, a.link), [0]);
  const effects = engine.apply({ type: 'piece-refused', link: a.link, piece: 0, reason: 'not-have' });
  assert.deepEqual(asked(effects, b.link), [0]);
});

test('a piece refused as busy is spared while the source has others', () => {
  const engine = new Engine({ windowStartPieces: 1 }, 3);
  engine.want();
  const { link, effects } = engine.connect('agent/a');
  const refused = asked(effects)[0] ?? -1;
  const next = asked(engine.apply({ type: 'piece-refused', link, piece: refused, reason: 'busy' }))[0] ?? -1;
  assert.notEqual(next, refused);
  engine.nowMs += 5;
  const third = 3 - refused - next;
  assert.deepEqual(asked(engine.deliver(link, next)), [third, refused]);
});

test('the place of a link that delivered goes to any of the sources, not to the same ones for good', () => {
  const engine = new Engine({ owingLinksPerBlob: 2, windowStartPieces: 1, inFlightBytesPerLink: mebi }, 200);
  engine.want();
  const links = ['a', 'b', 'c', 'd', 'e', 'f'].map((name) => engine.connect(`agent/${name}`));
  const queue = links.flatMap(({ link, effects }) => asked(effects, link).map((piece) => ({ link, piece })));
  const served = new Map<number, number>();
  for (let step = 0; step < 120; step += 1) {
    const { link, piece } = queue.shift() ?? { link: -1, piece: -1 };
    served.set(link, (served.get(link) ?? 0) + 1);
    engine.nowMs += 10;
    const effects = engine.deliver(link, piece);
    for (const next of links) queue.push(...asked(effects, next.link).map((each) => ({ link: next.link, piece: each })));
    assert.ok(new Set(queue.map((request) => request.link)).size <= 2, 'no more links owe a piece than may');
  }
  assert.equal(served.size, links.length);
  for (const count of served.values()) assert.ok(count >= 5, `a source was asked ${count} times of 120`);
});

test('the window of a link starts small, grows with what it delivers and stays within its bytes', () => {
  const engine = new Engine({ inFlightBytesPerLink: 2 * mebi, windowStartPieces: 1 }, 1000);
  engine.want();
  const { link, effects } = engine.connect('agent/a');
  const queue = asked(effects, link);
  assert.equal(queue.length, 1);
  let peak = 0;
  for (let step = 0; step < 400; step += 1) {
    const piece = queue.shift() ?? -1;
    if (step % 4 === 0) engine.nowMs += 1;
    // A millisecond for four pieces after a delay of 50: far more than the cap fits into the pipe.
    if (step === 0) engine.nowMs += 50;
    queue.push(...asked(engine.deliver(link, piece), link));
    peak = Math.max(peak, queue.length);
  }
  assert.equal(peak, 8);
});

test('bytes in flight of the process are bounded and shared piece by piece among blobs', () => {
  const engine = new Engine({ inFlightBytes: 4 * mebi, windowStartPieces: 16, inFlightBytesPerLink: 16 * mebi }, 100);
  const other = blobOf('other', 50);
  engine.want();
  engine.want(new Bitfield(50), other);
  const large = engine.connect('agent/a');
  assert.equal(asked(large.effects).length, 16);
  const second = engine.connect('agent/b', Bitfield.full(50), other);
  assert.deepEqual(asked(second.effects), []);
  const freed = engine.receive(large.link, asked(large.effects)[0] ?? -1);
  assert.deepEqual(asked(freed), [], 'a received piece counts until it is written');
  const first = asked(engine.verify(asked(large.effects)[0] ?? -1));
  const further = asked(engine.deliver(large.link, asked(large.effects)[1] ?? -1));
  assert.equal(first.length + further.length, 2);
  assert.equal(engine.swarm.links().find((link) => link.link === second.link)?.inFlightCount, 1, 'the other blob has its turn');
});

test('a blob that waits for room comes before the one that has just freed some', () => {
  const engine = new Engine({ inFlightBytes: 4 * mebi, windowStartPieces: 16, inFlightBytesPerLink: 16 * mebi }, 100);
  const other = blobOf('other', 50);
  engine.want();
  engine.want(new Bitfield(50), other);
  const large = engine.connect('agent/a');
  const second = engine.connect('agent/b', Bitfield.full(50), other);
  const piece = asked(large.effects)[0] ?? -1;
  const effects = engine.apply({ type: 'piece-refused', link: large.link, piece, reason: 'busy' });
  assert.deepEqual(
    of(effects, 'request').map((request) => request.link),
    [second.link],
  );
});

test('the ingress limit delays requests until a deadline', () => {
  const engine = new Engine({ ingressBytesPerSec: mebi, windowStartPieces: 4 }, 10);
  engine.want();
  const { effects } = engine.connect('agent/a');
  assert.equal(asked(effects).length, 1);
  assert.ok((engine.swarm.nextDeadlineMs() ?? 0) <= 250);
  assert.equal(asked(engine.pass(260)).length, 1);
});

test('the last piece is asked from a faster source too and the loser is cancelled', () => {
  const engine = new Engine({ windowStartPieces: 1, slowAfterMs: 100_000 }, 3);
  engine.want();
  const slow = engine.connect('agent/slow');
  const late = asked(slow.effects)[0] ?? -1;
  const fast = engine.connect('agent/fast');
  let queue = asked(fast.effects, fast.link);
  while (queue.length > 0 && !queue.includes(late)) {
    engine.nowMs += 20;
    queue = queue.flatMap((piece) => asked(engine.deliver(fast.link, piece), fast.link));
  }
  if (queue.length === 0) queue = asked(engine.pass(1000), fast.link);
  assert.deepEqual(queue, [late]);
  const effects = engine.receive(fast.link, late);
  assert.deepEqual(of(effects, 'cancel'), [{ type: 'cancel', link: slow.link, pieces: [late] }]);
  assert.deepEqual(of(engine.receive(slow.link, late), 'drop-piece').length, 1);
  assert.equal(engine.swarm.penalties().length, 0);
  assert.equal(engine.swarm.transfers()[0]?.sources.find((source) => source.peer === 'agent/slow')?.duplicateCount, 1);
});

test('a link far below the pace of the others loses its requests to them', () => {
  const engine = new Engine({ windowStartPieces: 1, slowAfterMs: 500 }, 200);
  engine.want();
  const slow = engine.connect('agent/slow');
  const stuck = asked(slow.effects)[0] ?? -1;
  const fast = engine.connect('agent/fast');
  const queue = asked(fast.effects, fast.link);
  const seen: number[] = [];
  let cancelled = false;
  for (let step = 0; step < 150 && !seen.includes(stuck); step += 1) {
    const effects = engine.pass(10).concat(engine.deliver(fast.link, queue.shift() ?? -1));
    cancelled ||= of(effects, 'cancel').some((effect) => effect.link === slow.link);
    queue.push(...asked(effects, fast.link));
    seen.push(...asked(effects, fast.link));
  }
  assert.ok(cancelled);
});

test('a corrupt piece closes and penalises its source, more each time, and is asked elsewhere', () => {
  const engine = new Engine({ corruptPenaltyMs: 1000, windowStartPieces: 1 }, 1);
  engine.want();
  const bad = engine.connect('agent/bad');
  const good = engine.connect('agent/good');
  engine.receive(bad.link, 0);
  const event = { type: 'piece-corrupt', digest: engine.blob.digest, piece: 0, peer: offerOf('agent/bad').peer } as const;
  const effects = engine.apply(event);
  assert.deepEqual(of(effects, 'close'), [{ type: 'close', link: bad.link, reason: 'corrupt' }]);
  assert.deepEqual(asked(effects, good.link), [0]);
  const [first] = engine.swarm.penalties();
  assert.equal(first?.reason, 'corrupt');
  assert.equal((first?.untilMs ?? 0) - engine.nowMs, 1000);
  engine.apply({ type: 'link-closed', link: good.link, failed: false });
  const [again] = of(engine.pass(1300), 'dial').filter((dial) => dial.peer === 'agent/bad');
  const accepted = engine.apply({ type: 'link-accepted', link: again?.link ?? -1, have: Bitfield.full(1) });
  assert.deepEqual(asked(accepted, again?.link), [0]);
  engine.receive(again?.link ?? -1, 0);
  engine.apply(event);
  assert.equal((engine.swarm.penalties().find((each) => each.peer === 'agent/bad')?.untilMs ?? 0) - engine.nowMs, 2000);
});

test('a piece of the wrong size or that was never asked for is an offence', () => {
  const engine = new Engine({}, 4);
  engine.want();
  const a = engine.connect('agent/a');
  assert.equal(of(engine.receive(a.link, asked(a.effects)[0] ?? -1, 17), 'close')[0]?.reason, 'corrupt');
  const b = engine.connect('agent/b', pieces(4, 0));
  assert.equal(of(engine.receive(b.link, 3), 'close')[0]?.reason, 'corrupt');
});

test('a disk that refuses a piece blames nobody and pauses the download', () => {
  const engine = new Engine({ windowStartPieces: 4 }, 2);
  engine.want();
  const { link, effects } = engine.connect('agent/a');
  const piece = asked(effects)[0] ?? -1;
  engine.receive(link, piece);
  engine.apply({ type: 'piece-unwritable', digest: engine.blob.digest, piece });
  assert.deepEqual(engine.swarm.penalties(), []);
  assert.deepEqual(asked(engine.pass(900)), []);
  assert.ok(asked(engine.pass(400)).length > 0);
});

test('a source with nothing new for a while is exchanged for another candidate', () => {
  const engine = new Engine({ outboundLinksPerBlob: 2, uselessAfterMs: 1000, stallAfterMs: 100_000, slowAfterMs: 100_000 }, 8);
  engine.want();
  const useless = engine.connect('agent/useless', pieces(8));
  engine.connect('agent/source', pieces(8, 1));
  engine.offer(['agent/other'], false);
  const effects = engine.pass(1500);
  assert.deepEqual(of(effects, 'close'), [{ type: 'close', link: useless.link, reason: 'exchanged' }]);
  assert.deepEqual(of(effects, 'dial')[0]?.peer, 'agent/other');
});

test('a stall announces for more peers, drops the worst link and is reported', () => {
  const engine = new Engine({ stallAfterMs: 10_000, slowAfterMs: 100_000 }, 8);
  engine.want();
  const { link } = engine.connect('agent/a');
  engine.pass(9000);
  const effects = engine.pass(2000);
  assert.equal(of(effects, 'stalled').length, 1);
  assert.ok((of(effects, 'stalled')[0]?.idleMs ?? 0) >= 10_000);
  assert.deepEqual(of(effects, 'close')[0], { type: 'close', link, reason: 'slow' });
  assert.ok(of(effects, 'announce').length > 0);
});

test('origins are left to those who have no complete source, and to places nobody else can fill', () => {
  const peers = [offerOf('origin/o1'), offerOf('origin/o2'), offerOf('agent/a', false), offerOf('agent/b', false)];
  const dialled = (outboundLinksPerBlob: number): string[] => {
    const engine = new Engine({ outboundLinksPerBlob });
    engine.want();
    const effects = engine.apply({ type: 'peers-offered', digest: engine.blob.digest, peers });
    return of(effects, 'dial').map((dial) => dial.peer.slice(0, dial.peer.indexOf('/')));
  };
  assert.deepEqual(dialled(3), ['origin', 'agent', 'agent']);
  assert.deepEqual(dialled(4), ['origin', 'agent', 'agent', 'origin']);
});

test('the tracker is asked again when there is nobody left to dial, at growing intervals', () => {
  const engine = new Engine({ announceIntervalMs: 250, stallAfterMs: 600_000 });
  engine.want();
  const early = of(engine.pass(4000), 'announce').length;
  const late = of(engine.pass(4000), 'announce').length;
  assert.ok(early >= 2, `${early} announcements at first`);
  assert.ok(late < early, `${late} later`);
});

test('forgetting a blob closes everything and costs nothing afterwards', () => {
  const engine = new Engine();
  engine.want();
  const { link } = engine.connect('agent/a');
  const inbound = engine.inbound('agent/x');
  const closed = of(engine.apply({ type: 'blob-forgotten', digest: engine.blob.digest }), 'close').map((close) => close.link);
  assert.deepEqual(closed.sort(), [link, inbound.link].sort());
  assert.equal(engine.swarm.nextDeadlineMs(), undefined);
  assert.deepEqual(engine.swarm.links(), []);
});

test('options change while a transfer runs', () => {
  const engine = new Engine({ outboundLinksPerBlob: 1 });
  engine.want();
  assert.equal(of(engine.offer(['agent/a', 'agent/b', 'agent/c']), 'dial').length, 1);
  engine.swarm.setOptions(swarmOptions({ outboundLinksPerBlob: 3 }));
  assert.equal(of(engine.pass(300), 'dial').length, 2);
});

test('while the host reads no pieces, nobody is late, and afterwards everybody has its full time', () => {
  const engine = new Engine({ slowAfterMs: 1000, stallAfterMs: 2000 }, 8);
  engine.want();
  for (const name of ['agent/a', 'agent/b']) engine.connect(name);
  engine.apply({ type: 'reading-paused', paused: true });
  const paused = engine.pass(60_000);
  assert.deepEqual([...of(paused, 'close'), ...of(paused, 'cancel'), ...of(paused, 'stalled')], []);
  engine.apply({ type: 'reading-paused', paused: false });
  assert.deepEqual(of(engine.pass(500), 'cancel'), []);
  assert.deepEqual(engine.swarm.penalties(), []);
});

test('a crowded source is left for another at once, and asked again soon', () => {
  const engine = new Engine({ windowStartPieces: 1 }, 280);
  engine.want();
  const crowded = engine.connect('agent/crowded');
  const [piece = -1] = asked(crowded.effects);
  const refuse = () => engine.apply({ type: 'piece-refused', link: crowded.link, piece, reason: 'crowded' });
  assert.deepEqual(asked(refuse()), []);
  const effects = engine.pass(300);
  assert.equal(asked(effects, crowded.link).length, 1);
  const [next = -1] = asked(effects, crowded.link);
  const other = engine.connect('agent/other');
  assert.equal(asked(other.effects, other.link).length, 1);
  engine.deliver(other.link, asked(other.effects, other.link)[0] ?? -1);
  const after = engine.apply({ type: 'piece-refused', link: crowded.link, piece: next, reason: 'crowded' });
  assert.deepEqual(asked(after, crowded.link), []);
});

test('downloads share the links that may owe pieces, and small blobs and those of which nothing is here use fewer', () => {
  const owing = (pieceCount: number, further: number, have = pieces(pieceCount, 0)): number => {
    const engine = new Engine({ windowStartPieces: 1 }, pieceCount);
    engine.want(have);
    for (let at = 0; at < further; at += 1) engine.want(pieces(280), blobOf(`other${at}`, 280));
    return Array.from({ length: 20 }, (_, at) => asked(engine.connect(`agent/${at}`).effects).length).filter((count) => count > 0).length;
  };
  assert.equal(owing(1000, 0), 10);
  assert.equal(owing(1000, 1), 5);
  assert.equal(owing(80, 0), 3);
  assert.equal(owing(1000, 0, pieces(1000)), 2);
});

test('where nobody has everything yet, most of the links wait for a second answer of the tracker', () => {
  const namesOf = (from: string): string[] => Array.from({ length: 30 }, (_, at) => `agent/${from}${at}`);
  const engine = new Engine();
  engine.want();
  assert.equal(of(engine.offer(['origin/o', ...namesOf('early')], false), 'dial').length, 5);
  const meanwhile = engine.pass(59);
  assert.deepEqual([of(meanwhile, 'announce').length, of(meanwhile, 'dial').length], [0, 0]);
  const due = engine.pass(1);
  assert.deepEqual([of(due, 'announce').length, of(due, 'dial').length], [1, 0]);
  const dials = of(engine.offer(namesOf('late'), false), 'dial');
  assert.equal(dials.length, 15);
  assert.ok(
    dials.some(({ peer }) => peer.startsWith('agent/late')),
    'the second answer counts',
  );
  assert.deepEqual(of(engine.pass(100), 'announce'), [], 'the tracker is asked twice, not time and again');
});

test('most of the links do not wait for a tracker that has gone', () => {
  const engine = new Engine();
  engine.want();
  const dials = of(
    engine.offer(
      Array.from({ length: 30 }, (_, at) => `agent/${at}`),
      false,
    ),
    'dial',
  );
  for (const { link } of dials) engine.apply({ type: 'link-accepted', link, have: pieces(8) });
  assert.equal(of(engine.pass(400), 'dial').length, 15);
});

test('beside a much smaller blob a large one asks for a piece at a time and rests; but only until as many bytes have come beside it as it has', () => {
  const engine = new Engine({ windowStartPieces: 1, slowAfterMs: 60_000 }, 280);
  const { digest } = engine.blob;
  const small = blobOf('small', 4);
  engine.want();
  engine.want(new Bitfield(4), small);
  const queues = new Map<number, number[]>();
  const note = (effects: readonly Effect[]): void => {
    for (const { link, pieces: more } of of(effects, 'request')) queues.set(link, [...(queues.get(link) ?? []), ...more]);
  };
  for (let at = 0; at < 12; at += 1) note(engine.connect(`agent/${at}`).effects);
  note(engine.apply({ type: 'reader-moved', digest, reader: 1, firstPiece: 0, endPiece: 4 }));
  const owing = () => engine.swarm.links().filter((link) => link.digest === digest && link.inFlightCount > 0);
  const second = engine.connect('agent/small', Bitfield.full(4), small);
  assert.equal(asked(second.effects).length, 1, 'the small one asks');
  for (let count = 0; count < 4; count += 1) {
    assert.deepEqual(
      owing().map(({ inFlightCount }) => inFlightCount),
      [1],
      `${count} pieces came meanwhile, and a reader waits`,
    );
    const [{ link } = { link: -1 }] = owing();
    note(engine.pass(400));
    note(engine.deliver(link, queues.get(link)?.shift() ?? -1));
    if (count === 3) break;
    const sinceMs = engine.nowMs;
    while (owing().length === 0) note(engine.pass(10));
    const restedMs = engine.nowMs - sinceMs;
    assert.ok(restedMs >= 3 * 400 && restedMs <= 3 * 400 + 270, `rested ${restedMs} ms: three times as long as the piece took`);
  }
  note(engine.pass(500));
  assert.equal(owing().length, 5, 'its sources are slow: nobody waits for them any longer');
});

test('a much smaller blob of which nothing comes holds no larger one back', () => {
  const engine = new Engine({ windowStartPieces: 1, slowAfterMs: 3000 }, 280);
  engine.want();
  engine.want(new Bitfield(4), blobOf('small', 4));
  for (let at = 0; at < 12; at += 1) engine.connect(`agent/${at}`);
  const owing = () => engine.swarm.links().filter(({ inFlightCount }) => inFlightCount > 0).length;
  assert.equal(owing(), 1);
  engine.pass(2900);
  assert.equal(owing(), 1);
  engine.pass(400);
  assert.equal(owing(), 2, 'as many as at the start of any download');
});

test('a download that rests beside a smaller one does not blame its links', () => {
  const engine = new Engine({ windowStartPieces: 1, stallAfterMs: 3000, slowAfterMs: 60_000 }, 280);
  const small = blobOf('small', 60);
  engine.want();
  const { link, effects } = engine.connect('agent/0');
  engine.want(new Bitfield(60), small);
  engine.pass(2000);
  engine.deliver(link, asked(effects)[0] ?? -1);
  assert.deepEqual(
    of(engine.pass(5500), 'stalled')
      .map((stalled) => stalled.digest)
      .filter((digest) => digest === engine.blob.digest),
    [],
  );
});

test('a peer that fails every link of many downloads at once is dialled again after one penalty', () => {
  const engine = new Engine();
  const blobs = Array.from({ length: 8 }, (_, at) => blobOf(`blob ${at}`, 8));
  const links = blobs.map((blob) => {
    engine.want(new Bitfield(8), blob);
    return engine.connect('origin/a', Bitfield.full(8), blob).link;
  });
  for (const link of links) engine.apply({ type: 'link-closed', link, failed: true });
  assert.equal(of(engine.pass(900), 'dial').length, 0);
  assert.equal(of(engine.pass(600), 'dial').length, blobs.length);
});
