/** What the engine does for those who download from it. */
import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { Bitfield, type Metainfo } from '#core';
import { blobOf } from '#test/support/swarm-blob';
import { asked, type EffectOf, Engine, of, offerOf, pieces } from './engine-harness.ts';

const pieceBytes = 256 * 1024;

function sent(engine: Engine, link: number, piece: number) {
  return engine.apply({ type: 'piece-sent', link, piece, sizeBytes: pieceBytes });
}

test('an idle seed has no deadline', () => {
  const engine = new Engine();
  assert.deepEqual(of(engine.seed(), 'announce')[0]?.complete, true);
  engine.inbound('agent/x');
  assert.equal(engine.swarm.nextDeadlineMs(), undefined);
});

test('a newcomer is accepted with what is there and asks for it', () => {
  const engine = new Engine();
  engine.seed();
  const { link, effects } = engine.inbound('agent/x');
  assert.equal(of(effects, 'accept')[0]?.have.count, 8);
  const [serve] = of(engine.apply({ type: 'pieces-requested', link, pieces: [5] }), 'serve-piece');
  assert.equal(serve?.piece, 5);
});

test('an unknown blob is refused with its reason', () => {
  const [refuse] = of(new Engine().inbound('agent/x').effects, 'refuse');
  assert.equal(refuse?.reason, 'unknown-blob');
});

test('beyond its slots a blob refuses with a hint when to come back', () => {
  const engine = new Engine({ inboundLinksPerBlob: 1 });
  engine.seed();
  engine.inbound('agent/x');
  const [refuse] = of(engine.inbound('agent/y').effects, 'refuse');
  assert.equal(refuse?.reason, 'busy');
  assert.ok((refuse?.retryAfterMs ?? 0) > 0);
});

test('the process has its own bound over all blobs', () => {
  const engine = new Engine({ inboundLinks: 1 });
  const other = blobOf('other', 4);
  engine.seed();
  engine.seed(other);
  engine.inbound('agent/x');
  assert.equal(of(engine.inbound('agent/y', other).effects, 'refuse')[0]?.reason, 'busy');
});

test('a link that asked for nothing for a while yields its slot to a newcomer', () => {
  const engine = new Engine({ inboundLinksPerBlob: 1, inboundIdleMs: 1000 });
  engine.seed();
  const idle = engine.inbound('agent/x');
  engine.nowMs += 1000;
  const { effects } = engine.inbound('agent/y');
  assert.deepEqual(of(effects, 'close'), [{ type: 'close', link: idle.link, reason: 'idle' }]);
  assert.equal(of(effects, 'accept').length, 1);
});

test('a peer that dials again replaces its old link', () => {
  const engine = new Engine({ inboundLinksPerBlob: 1 });
  engine.seed();
  const old = engine.inbound('agent/x');
  const { effects } = engine.inbound('agent/x');
  assert.equal(of(effects, 'close')[0]?.link, old.link);
  assert.equal(of(effects, 'accept').length, 1);
});

test('a piece that is not there is refused, also one outside the blob', () => {
  const engine = new Engine();
  engine.want(pieces(8, 1));
  const { link } = engine.inbound('agent/x');
  const effects = engine.apply({ type: 'pieces-requested', link, pieces: [1, 2, 99, -1] });
  assert.deepEqual(
    of(effects, 'refuse-piece').map(({ piece, reason }) => [piece, reason]),
    [
      [2, 'not-have'],
      [99, 'not-have'],
      [-1, 'not-have'],
    ],
  );
  assert.equal(of(effects, 'serve-piece').length, 1);
});

test('a full queue refuses further requests as busy', () => {
  const engine = new Engine({ requestQueuePerLink: 2, serveConcurrencyPerLink: 1 }, 8);
  engine.seed();
  const { link } = engine.inbound('agent/x');
  const effects = engine.apply({ type: 'pieces-requested', link, pieces: [0, 1, 2, 3] });
  assert.deepEqual(
    of(effects, 'refuse-piece').map(({ piece, reason }) => [piece, reason]),
    [
      [2, 'busy'],
      [3, 'busy'],
    ],
  );
});

test('few pieces are in service at once: two for a lone receiver, one each for several', () => {
  const engine = new Engine({ serveConcurrency: 3, serveConcurrencyPerLink: 2 }, 16);
  engine.seed();
  const a = engine.inbound('agent/a');
  const b = engine.inbound('agent/b');
  const first = engine.apply({ type: 'pieces-requested', link: a.link, pieces: [0, 1, 2, 3] });
  const second = engine.apply({ type: 'pieces-requested', link: b.link, pieces: [4, 5, 6, 7] });
  assert.equal(of(first, 'serve-piece').length, 2);
  assert.equal(of(second, 'serve-piece').length, 1);
  assert.equal(of(sent(engine, a.link, 0), 'serve-piece').length, 0);
  assert.deepEqual(
    of(sent(engine, b.link, 4), 'serve-piece').map(({ link }) => link),
    [b.link],
  );
});

test('links take turns', () => {
  const engine = new Engine({ serveConcurrency: 1 }, 16);
  engine.seed();
  const links = ['agent/a', 'agent/b', 'agent/c'].map((name) => engine.inbound(name).link);
  const served: number[] = [];
  let effects = links.flatMap((link, at) => engine.apply({ type: 'pieces-requested', link, pieces: [at * 4, at * 4 + 1, at * 4 + 2] }));
  for (let turn = 0; turn < 6; turn += 1) {
    const [serve] = of(effects, 'serve-piece');
    served.push(serve?.link ?? -1);
    effects = sent(engine, serve?.link ?? -1, serve?.piece ?? -1);
  }
  for (const link of links) assert.equal(served.filter((each) => each === link).length, 2);
});

test('blobs of one size take turns', () => {
  const engine = new Engine({ serveConcurrency: 1 }, 8);
  const second = blobOf('second', 8);
  engine.seed();
  engine.seed(second);
  const one = engine.inbound('agent/a');
  engine.apply({ type: 'pieces-requested', link: one.link, pieces: [0, 1, 2, 3, 4, 5] });
  const other = engine.inbound('agent/b', second);
  assert.deepEqual(of(engine.apply({ type: 'pieces-requested', link: other.link, pieces: [0] }), 'serve-piece'), []);
  assert.equal(of(sent(engine, one.link, 0), 'serve-piece')[0]?.link, other.link);
});

test('a much smaller blob does not wait for the pieces of a large one, which then is served by single pieces and keeps its share', () => {
  const engine = new Engine({ serveConcurrency: 3, seedConcurrency: 3 }, 64);
  const small = blobOf('small', 4);
  engine.seed();
  engine.seed(small);
  const large = ['a', 'b', 'c'].map((name) => engine.inbound(`agent/${name}`).link);
  for (const round of [0, 3]) {
    large.forEach((link, at) => void engine.apply({ type: 'pieces-requested', link, pieces: [round + at] }));
  }
  const other = engine.inbound('agent/d', small);
  const effects = engine.apply({ type: 'pieces-requested', link: other.link, pieces: [0] });
  assert.equal(of(effects, 'serve-piece')[0]?.link, other.link, 'served beside what is under way');
  const next = large.map((link, piece) => of(sent(engine, link, piece), 'serve-piece').length);
  assert.deepEqual(next, [0, 0, 0], 'the large one waits while the small one is served');
  assert.equal(of(sent(engine, other.link, 0), 'serve-piece').length, 1, 'then it goes on by single pieces');
  assert.equal(of(engine.pass(900), 'serve-piece').length, 0, 'more of the small one may be asked for in a moment');
  assert.equal(of(engine.pass(100), 'serve-piece').length, 2, 'nobody asked');
});

/** Lets so many links of each blob ask without end, services end in their order, and sums up the bytes served by blob. */
function servedBytesOf(engine: Engine, linkCounts: ReadonlyMap<Metainfo, number>): Map<Metainfo, number> {
  const servedBytes = new Map<Metainfo, number>();
  const blobs = new Map<number, Metainfo>();
  const nextPieces = new Map<number, number>();
  const running: EffectOf<'serve-piece'>[] = [];
  const ask = (link: number): void => {
    const piece = nextPieces.get(link) ?? 0;
    nextPieces.set(link, piece + 1);
    const pieceCount = blobs.get(link)?.pieceCount ?? 1;
    running.push(...of(engine.apply({ type: 'pieces-requested', link, pieces: [piece % pieceCount] }), 'serve-piece'));
  };
  for (const [blob, count] of linkCounts) {
    engine.seed(blob);
    for (let at = 0; at < count; at += 1) {
      const { link } = engine.inbound(`agent/${blob.pieceCount}-${at}`, blob);
      blobs.set(link, blob);
      nextPieces.set(link, at * 64);
      ask(link);
      ask(link);
    }
  }
  for (let turn = 0; turn < 1200; turn += 1) {
    const ended = running.shift();
    assert.ok(ended !== undefined, 'the uplink has no pause');
    const blob = blobs.get(ended.link) ?? engine.blob;
    engine.nowMs += 1;
    servedBytes.set(blob, (servedBytes.get(blob) ?? 0) + blob.pieceLengthBytes);
    ask(ended.link);
    const { link, piece } = ended;
    running.push(...of(engine.apply({ type: 'piece-sent', link, piece, sizeBytes: blob.pieceLengthBytes }), 'serve-piece'));
  }
  return servedBytes;
}

test('a large blob that is not due waits for the next request for a much smaller one as long as a piece takes, and no longer', () => {
  const engine = new Engine({}, 64);
  const small = blobOf('small', 8);
  engine.seed();
  engine.seed(small);
  const [large, other] = [engine.inbound('agent/a').link, engine.inbound('agent/b', small).link];
  engine.inbound('agent/c', small);
  const askSmall = (piece: number) => engine.apply({ type: 'pieces-requested', link: other, pieces: [piece] });
  askSmall(0);
  engine.apply({ type: 'pieces-requested', link: large, pieces: [0, 1] });
  engine.nowMs += 100;
  sent(engine, large, 0);
  assert.equal(of(sent(engine, other, 0), 'serve-piece').length, 0, 'its piece would be in the way of the next small one');
  assert.equal(of(engine.pass(50), 'serve-piece').length, 0);
  assert.equal(of(askSmall(1), 'serve-piece').length, 1);
  engine.nowMs += 100;
  assert.equal(of(sent(engine, other, 1), 'serve-piece').length, 0);
  assert.equal(of(engine.pass(110), 'serve-piece')[0]?.link, large, 'nobody asked');
});

test('a large blob does not wait for the next request for a much smaller one for more than a second, however long its pieces take', () => {
  const engine = new Engine({}, 64);
  const small = blobOf('small', 8);
  engine.seed();
  engine.seed(small);
  const [large, other] = [engine.inbound('agent/a').link, engine.inbound('agent/b', small).link];
  engine.inbound('agent/c', small);
  engine.apply({ type: 'pieces-requested', link: other, pieces: [0] });
  engine.apply({ type: 'pieces-requested', link: large, pieces: [0, 1] });
  engine.nowMs += 1900;
  sent(engine, large, 0);
  sent(engine, other, 0);
  assert.equal(of(engine.pass(990), 'serve-piece').length, 0);
  assert.equal(of(engine.pass(10), 'serve-piece')[0]?.link, large);
});

test('beside a much smaller blob that is asked for without end, a large one has an eighth of the bytes, whatever the pieces', () => {
  const linkCount = fc.integer({ min: 1, max: 4 });
  fc.assert(
    fc.property(linkCount, linkCount, fc.constantFrom(1, 2, 4), (smallLinks, largeLinks, scale) => {
      const [small, large] = [blobOf('small', 300), blobOf('large', 2048 / scale, scale)];
      const servedBytes = servedBytesOf(
        new Engine({}, 1),
        new Map([
          [small, smallLinks],
          [large, largeLinks],
        ]),
      );
      const largeBytes = servedBytes.get(large) ?? 0;
      const share = largeBytes / (largeBytes + (servedBytes.get(small) ?? 0));
      assert.ok(share > 0.11 && share < 0.14, String(share));
    }),
    { numRuns: 30 },
  );
});

test('a seed steers a second taker to a piece nobody has, but gives in when asked again', () => {
  const engine = new Engine({}, 4);
  engine.seed();
  const a = engine.inbound('agent/a');
  const b = engine.inbound('agent/b');
  engine.apply({ type: 'pieces-requested', link: a.link, pieces: [2] });
  assert.deepEqual(of(engine.apply({ type: 'pieces-requested', link: b.link, pieces: [2] }), 'refuse-piece')[0]?.reason, 'busy');
  assert.deepEqual(of(engine.apply({ type: 'pieces-requested', link: b.link, pieces: [2] }), 'serve-piece')[0]?.piece, 2);
});

/** Whether a second peer that asks for a piece which went to another is steered away from it. */
function isSteered(engine: Engine): boolean {
  const [a, b] = ['agent/a', 'agent/b'].map((name) => engine.inbound(name).link);
  assert.ok(a !== undefined && b !== undefined);
  engine.apply({ type: 'pieces-requested', link: a, pieces: [2] });
  return of(engine.apply({ type: 'pieces-requested', link: b, pieces: [2] }), 'refuse-piece')[0]?.reason === 'busy';
}

test('an origin that has just got a blob is a seed of it, an agent is a peer like any other', () => {
  for (const self of ['origin/self', 'agent/self']) {
    const engine = new Engine({}, 4, 1, self);
    engine.want();
    engine.nowMs = 5;
    const { link, effects } = engine.connect('origin/other');
    const queue = asked(effects, link);
    for (let piece = queue.shift(); piece !== undefined; piece = queue.shift()) queue.push(...asked(engine.deliver(link, piece), link));
    assert.equal(engine.swarm.transfers()[0]?.complete, true);
    assert.equal(isSteered(engine), self === 'origin/self');
  }
});

test('an origin steers askers to its own share of the pieces first, and gives the rest when it has given that', () => {
  const engine = new Engine({}, 6, 1, 'origin/b');
  const owners = ['origin/a', 'origin/c'].map((name) => offerOf(name));
  engine.apply({ type: 'blob-seeded', metainfo: engine.blob, owners });
  const ask = (link: number, piece: number): string | undefined =>
    of(engine.apply({ type: 'pieces-requested', link, pieces: [piece] }), 'refuse-piece')[0]?.reason;
  const [one, two] = ['agent/one', 'agent/two'].map((name) => engine.inbound(name).link);
  assert.ok(one !== undefined && two !== undefined);
  assert.equal(ask(one, 0), 'busy', 'the share of another');
  assert.equal(ask(one, 1), undefined);
  sent(engine, one, 1);
  assert.equal(ask(one, 0), undefined, 'asked again, it gives in');
  assert.equal(ask(one, 4), undefined);
  for (const piece of [0, 4]) sent(engine, one, piece);
  assert.equal(ask(two, 5), undefined, 'its share is given away');
});

test('a slow receiver does not hold a slot for ever', () => {
  const engine = new Engine({ serveConcurrency: 1, serveStuckMs: 1000 }, 8);
  engine.seed();
  const slow = engine.inbound('agent/slow');
  engine.apply({ type: 'pieces-requested', link: slow.link, pieces: [0] });
  const fast = engine.inbound('agent/fast');
  assert.equal(of(engine.apply({ type: 'pieces-requested', link: fast.link, pieces: [1] }), 'serve-piece').length, 0);
  assert.equal(of(engine.pass(1100), 'serve-piece')[0]?.link, fast.link);
});

test('receivers that take nothing lose their links when nobody else can be served for them', () => {
  const engine = new Engine({ serveConcurrency: 1 }, 64);
  engine.seed();
  const frozen = Array.from({ length: 8 }, (_, at) => engine.inbound(`agent/frozen${at}`).link);
  for (const [at, link] of frozen.entries()) engine.apply({ type: 'pieces-requested', link, pieces: [at * 2, at * 2 + 1] });
  engine.pass(3000);
  const good = engine.inbound('agent/good').link;
  let waiting = engine.apply({ type: 'pieces-requested', link: good, pieces: [40, 41, 42, 43] });
  let goodCount = 0;
  const closed = new Set<number>();
  for (let step = 0; step < 150; step += 1) {
    const effects = waiting.concat(engine.pass(100));
    waiting = [];
    for (const { link } of of(effects, 'close')) closed.add(link);
    for (const { link, piece } of of(effects, 'serve-piece')) {
      if (link !== good) continue;
      goodCount += 1;
      waiting.push(...sent(engine, good, piece));
    }
    for (const { link, piece } of of(effects, 'refuse-piece')) {
      if (link === good) waiting.push(...engine.apply({ type: 'pieces-requested', link, pieces: [piece] }));
    }
  }
  assert.equal(goodCount, 4);
  assert.equal(closed.has(good), false);
  assert.ok(closed.size > 0 && closed.size <= 8, `${closed.size} links were closed`);
});

test('a stuck link is left alone while nobody waits for its place', () => {
  const engine = new Engine({ serveConcurrency: 1, serveConcurrencyPerLink: 4 }, 16);
  engine.seed();
  const { link } = engine.inbound('agent/slow');
  engine.apply({ type: 'pieces-requested', link, pieces: [0, 1, 2, 3] });
  assert.deepEqual(of(engine.pass(60_000), 'close'), []);
});

test('the egress limit delays services until a deadline', () => {
  const engine = new Engine({ egressBytesPerSec: 1024 * 1024 }, 8);
  engine.seed();
  const { link } = engine.inbound('agent/x');
  assert.equal(of(engine.apply({ type: 'pieces-requested', link, pieces: [0, 1] }), 'serve-piece').length, 1);
  assert.equal(engine.swarm.nextDeadlineMs(), 250);
  assert.equal(of(engine.pass(250), 'serve-piece').length, 1);
});

test('a cancelled request is not served', () => {
  const engine = new Engine({ serveConcurrency: 1 }, 8);
  engine.seed();
  const { link } = engine.inbound('agent/x');
  engine.apply({ type: 'pieces-requested', link, pieces: [0, 1, 2] });
  engine.apply({ type: 'pieces-cancelled', link, pieces: [1] });
  assert.equal(of(sent(engine, link, 0), 'serve-piece')[0]?.piece, 2);
});

test('a closed link frees its slot and its services', () => {
  const engine = new Engine({ serveConcurrency: 1 }, 8);
  engine.seed();
  const gone = engine.inbound('agent/x');
  const waiting = engine.inbound('agent/y');
  engine.apply({ type: 'pieces-requested', link: gone.link, pieces: [0, 1] });
  engine.apply({ type: 'pieces-requested', link: waiting.link, pieces: [2] });
  const effects = engine.apply({ type: 'link-closed', link: gone.link, failed: true });
  assert.equal(of(effects, 'serve-piece')[0]?.link, waiting.link);
});

test('a piece that cannot be read is refused', () => {
  const engine = new Engine();
  engine.seed();
  const { link } = engine.inbound('agent/x');
  engine.apply({ type: 'pieces-requested', link, pieces: [3] });
  const effects = engine.apply({ type: 'piece-unreadable', link, piece: 3 });
  assert.deepEqual(effects, [{ type: 'refuse-piece', link, piece: 3, reason: 'not-have' }]);
});

test('a verified piece is told to those who download the blob, unless they are known to have it', () => {
  const engine = new Engine({}, 8);
  engine.want();
  const x = engine.inbound('agent/x');
  engine.inbound('agent/y');
  const y = engine.connect('agent/y');
  const piece = asked(y.effects)[0] ?? -1;
  engine.receive(y.link, piece);
  assert.deepEqual(of(engine.verify(piece), 'tell-have'), [{ type: 'tell-have', link: x.link, pieces: [piece] }]);
});

test('inbound links go on when the download completes', () => {
  const engine = new Engine({}, 1);
  engine.want();
  const x = engine.inbound('agent/x');
  const source = engine.connect('agent/a');
  const effects = engine.deliver(source.link, 0);
  assert.deepEqual(
    of(effects, 'close').map((close) => close.link),
    [source.link],
  );
  assert.equal(of(engine.apply({ type: 'pieces-requested', link: x.link, pieces: [0] }), 'serve-piece').length, 1);
});

test('draining refuses newcomers, finishes what is being sent and then is done', () => {
  const engine = new Engine({ serveConcurrency: 1 }, 8);
  engine.seed();
  const { link } = engine.inbound('agent/x');
  engine.apply({ type: 'pieces-requested', link, pieces: [0, 1] });
  const effects = engine.apply({ type: 'drain' });
  assert.deepEqual(
    of(effects, 'refuse-piece').map(({ piece, reason }) => [piece, reason]),
    [[1, 'draining']],
  );
  assert.equal(of(engine.inbound('agent/y').effects, 'refuse')[0]?.reason, 'draining');
  assert.equal(engine.swarm.isDrained, false);
  assert.deepEqual(of(sent(engine, link, 0), 'close'), [{ type: 'close', link, reason: 'draining' }]);
  assert.equal(engine.swarm.isDrained, true);
});

test('draining lets requested pieces arrive and asks for no more', () => {
  const engine = new Engine({ windowStartPieces: 1 }, 8);
  engine.want();
  const { link, effects } = engine.connect('agent/a');
  assert.deepEqual(engine.apply({ type: 'drain' }), []);
  const last = engine.receive(link, asked(effects)[0] ?? -1);
  assert.equal(of(last, 'write-piece').length, 1);
  assert.deepEqual(asked(last), []);
  assert.equal(of(last, 'close')[0]?.reason, 'draining');
});

test('a blob that turns up on disk ends its download and is told', () => {
  const engine = new Engine({}, 4);
  engine.want(pieces(4, 0));
  const x = engine.inbound('agent/x');
  const source = engine.connect('agent/a', Bitfield.full(4));
  const effects = engine.seed();
  assert.deepEqual(of(effects, 'tell-have'), [{ type: 'tell-have', link: x.link, pieces: [1, 2, 3] }]);
  assert.equal(of(effects, 'close')[0]?.link, source.link);
  assert.equal(of(effects, 'complete').length, 1);
});

test('a busy process tells of a new piece later, but within the wait, and gathers what there is to tell', () => {
  const engine = new Engine({ tellWaitMs: 400, serveConcurrency: 1, serveConcurrencyPerLink: 1, windowStartPieces: 4 }, 32);
  engine.want(pieces(32, ...Array.from({ length: 16 }, (_, at) => at)));
  const busy = engine.inbound('agent/busy');
  const other = engine.inbound('agent/other');
  for (const { link } of [busy, engine.inbound('agent/third')]) {
    engine.apply({ type: 'pieces-requested', link, pieces: Array.from({ length: 16 }, (_, at) => at) });
  }
  const source = engine.connect('agent/source');
  const [first = -1, second = -1] = asked(source.effects);
  assert.deepEqual(of(engine.deliver(source.link, first), 'tell-have'), []);
  engine.nowMs += 100;
  assert.deepEqual(of(engine.deliver(source.link, second), 'tell-have'), []);
  const told = of(engine.pass(310), 'tell-have').filter((tell) => tell.link === other.link);
  assert.deepEqual(
    told.map((tell) => tell.pieces),
    [[first, second]],
  );
});

test('a crowded blob sends those who ask to other sources, but nobody time and again', () => {
  const engine = new Engine({ serveConcurrency: 4 }, 280);
  engine.seed();
  const links = Array.from({ length: 12 }, (_, at) => engine.inbound(`agent/${at}`).link);
  const [last = -1] = links.slice(-1);
  const answers = links.map((link, at) => engine.apply({ type: 'pieces-requested', link, pieces: [at] }));
  const refusals = answers.flatMap((effects) => of(effects, 'refuse-piece'));
  assert.deepEqual(new Set(refusals.map(({ reason }) => reason)), new Set(['crowded']));
  assert.equal(refusals.length, 8, 'three are served and one waits');
  const again = Array.from({ length: 4 }, () => engine.apply({ type: 'pieces-requested', link: last, pieces: [100] }));
  assert.deepEqual(
    again.map((effects) => of(effects, 'refuse-piece').length),
    [1, 1, 1, 0],
  );
});

test('few links queue what they like: they may have nobody else to ask', () => {
  const engine = new Engine({ serveConcurrency: 4 }, 280);
  engine.seed();
  const links = Array.from({ length: 6 }, (_, at) => engine.inbound(`agent/${at}`).link);
  const effects = links.flatMap((link, at) => engine.apply({ type: 'pieces-requested', link, pieces: [at * 3, at * 3 + 1, at * 3 + 2] }));
  assert.deepEqual(of(effects, 'refuse-piece'), []);
});

test('sends that wait for slow receivers crowd nobody out', () => {
  const engine = new Engine({ serveConcurrency: 4 }, 280);
  engine.seed();
  const links = Array.from({ length: 12 }, (_, at) => engine.inbound(`agent/${at}`).link);
  const ask = (link: number, piece: number) => of(engine.apply({ type: 'pieces-requested', link, pieces: [piece] }), 'refuse-piece').length;
  links.slice(0, 10).forEach(ask);
  const [one = -1, other = -1] = links.slice(10);
  assert.equal(ask(one, 100), 1);
  engine.pass(5000);
  assert.equal(ask(other, 101), 0);
});

test('a process that has sent little serves few pieces at once, so that each is passed on soon', () => {
  const engine = new Engine({ serveConcurrencyPerLink: 1 }, 280);
  engine.want(pieces(280, ...Array.from({ length: 200 }, (_, at) => at)));
  const links = Array.from({ length: 8 }, (_, at) => engine.inbound(`agent/${at}`).link);
  const atOnce: number[] = [];
  for (let round = 0; round < 12; round += 1) {
    let serving = links.flatMap((link, at) =>
      of(engine.apply({ type: 'pieces-requested', link, pieces: [8 * round + at] }), 'serve-piece'),
    );
    atOnce.push(serving.length);
    while (serving.length > 0) serving = serving.flatMap(({ link, piece }) => of(sent(engine, link, piece), 'serve-piece'));
  }
  assert.deepEqual([atOnce[0], atOnce.at(-1)], [3, 8]);
});

test('a seed with fresh pieces counts a piece as under way until the receiver has it', () => {
  const engine = new Engine({ seedConcurrency: 1 });
  engine.seed();
  const links = [engine.inbound('agent/x').link, engine.inbound('agent/y').link];
  const first = of(engine.apply({ type: 'pieces-requested', link: links[0] ?? 0, pieces: [0] }), 'serve-piece');
  assert.deepEqual(
    first.map(({ untilArrived }) => untilArrived),
    [true],
  );
  assert.equal(of(engine.apply({ type: 'pieces-requested', link: links[1] ?? 0, pieces: [1] }), 'serve-piece').length, 0);
  // The times are those of a network whose cables are the limit.
  engine.nowMs += 100;
  const second = of(sent(engine, links[0] ?? 0, 0), 'serve-piece');
  assert.deepEqual(
    second.map(({ piece, untilArrived }) => [piece, untilArrived]),
    [[1, true]],
  );
});

test('a lone receiver is served ahead: nobody waits for what it is given', () => {
  const engine = new Engine();
  engine.seed();
  const { link } = engine.inbound('agent/x');
  const [serve] = of(engine.apply({ type: 'pieces-requested', link, pieces: [5] }), 'serve-piece');
  assert.equal(serve?.untilArrived, false);
});

test('while a blob is new here its pieces are told at once, later they gather while others are served', () => {
  const engine = new Engine({ serveConcurrency: 1, serveConcurrencyPerLink: 1, windowStartPieces: 4 }, 280);
  engine.want(pieces(280, ...Array.from({ length: 200 }, (_, at) => at)));
  const busy = engine.inbound('agent/busy');
  engine.inbound('agent/other');
  const source = engine.connect('agent/source');
  const ask = (first: number) =>
    engine.apply({ type: 'pieces-requested', link: busy.link, pieces: Array.from({ length: 20 }, (_, at) => first + at) });
  let serving = of(ask(0), 'serve-piece');
  const [first = -1] = asked(source.effects);
  const early = engine.deliver(source.link, first);
  assert.ok(of(early, 'tell-have').length > 0);
  for (let sentCount = 0; sentCount < 120; sentCount += 1) {
    engine.nowMs += 10;
    if (sentCount % 10 === 9) ask(20 + sentCount);
    const [{ link, piece } = { link: -1, piece: -1 }] = serving;
    serving = of(sent(engine, link, piece), 'serve-piece');
  }
  const late = engine.deliver(source.link, asked(early, source.link)[0] ?? -1);
  assert.deepEqual(of(late, 'tell-have'), []);
});
