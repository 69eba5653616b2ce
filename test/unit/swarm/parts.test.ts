/** Properties of the engine's parts, each against a dumb second implementation. */
import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { AssertionError, Bitfield, isAppError, parsePeerId, SeededRng } from '#core';
import { swarmLimits, swarmOptions, TokenBucket } from '#swarm';
import { Pace } from '../../../services/lib/swarm/pace.ts';
import { PenaltyBook } from '../../../services/lib/swarm/penalty.ts';
import { PiecePicker, type PieceSource } from '../../../services/lib/swarm/piece-picker.ts';
import { RequestLedger } from '../../../services/lib/swarm/request-ledger.ts';
import { isInShare, seedShareOf } from '../../../services/lib/swarm/seed-share.ts';
import { offerOf, pieces } from './engine-harness.ts';

const pieceCount = 12;

/** What a picker should say, computed from scratch each time. */
class SlowPicker {
  readonly state = new Array<'open' | 'requested' | 'writing' | 'verified'>(pieceCount).fill('open');
  readonly sources: { have: Set<number>; counted: boolean }[] = [];

  rarity(piece: number): number {
    return this.sources.filter((source) => source.counted && source.have.has(piece)).length;
  }

  useful(at: number): number[] {
    return [...(this.sources[at]?.have ?? [])].filter((piece) => this.state[piece] === 'open');
  }

  rarest(at: number): number[] {
    const useful = this.useful(at);
    const least = Math.min(...useful.map((piece) => this.rarity(piece)));
    return useful.filter((piece) => this.rarity(piece) === least);
  }
}

const pickerCommand = fc.oneof(
  fc.record({ type: fc.constant('add' as const), have: fc.uniqueArray(fc.nat(pieceCount - 1)) }),
  fc.record({ type: fc.constant('remove' as const), at: fc.nat(9) }),
  fc.record({ type: fc.constant('gain' as const), at: fc.nat(9), piece: fc.nat(pieceCount - 1) }),
  fc.record({ type: fc.constant('lose' as const), at: fc.nat(9), piece: fc.nat(pieceCount - 1) }),
  fc.record({ type: fc.constant('pick' as const), at: fc.nat(9) }),
  fc.record({ type: fc.constant('advance' as const), piece: fc.nat(pieceCount - 1) }),
  fc.record({ type: fc.constant('reopen' as const), piece: fc.nat(pieceCount - 1) }),
);

function checkPicker(picker: PiecePicker, model: SlowPicker, sources: readonly PieceSource[]): void {
  assert.equal(picker.openCount, model.state.filter((state) => state === 'open').length);
  assert.equal(picker.missingCount, model.state.filter((state) => state !== 'verified').length);
  for (let piece = 0; piece < pieceCount; piece += 1) {
    assert.equal(picker.stateOf(piece), model.state[piece]);
    assert.equal(picker.rarityOf(piece), model.rarity(piece));
  }
  sources.forEach((source, at) => {
    assert.equal(picker.usefulCount(source), model.useful(at).length);
    const picked = picker.pick(source);
    if (picked < 0) assert.deepEqual(model.useful(at), []);
    else assert.ok(model.rarest(at).includes(picked));
  });
}

test('the picker always picks among the rarest open pieces of the source', () => {
  fc.assert(
    fc.property(fc.array(pickerCommand, { maxLength: 60 }), fc.nat(), (commands, seed) => {
      const picker = new PiecePicker(new Bitfield(pieceCount), 64, new SeededRng(seed));
      const model = new SlowPicker();
      const sources: PieceSource[] = [];
      for (const command of commands) {
        if (command.type === 'add') addSource(picker, model, sources, command.have);
        else if (command.type === 'advance') advance(picker, model, command.piece);
        else if (command.type === 'reopen') reopen(picker, model, command.piece);
        else applyToSource(picker, model, sources, command);
        checkPicker(picker, model, sources);
      }
    }),
    { numRuns: 150 },
  );
});

function addSource(picker: PiecePicker, model: SlowPicker, sources: PieceSource[], have: readonly number[]): void {
  if (sources.length >= 10) return;
  sources.push(picker.addSource(pieces(pieceCount, ...have)));
  model.sources.push({ have: new Set(have), counted: have.length < pieceCount });
}

function reopen(picker: PiecePicker, model: SlowPicker, piece: number): void {
  if (model.state[piece] !== 'requested' && model.state[piece] !== 'writing') return;
  picker.reopen(piece);
  model.state[piece] = 'open';
}

function advance(picker: PiecePicker, model: SlowPicker, piece: number): void {
  const state = model.state[piece];
  if (state === 'open') picker.request(piece);
  else if (state === 'requested') picker.received(piece);
  else if (state === 'writing') picker.verified(piece);
  model.state[piece] = state === 'open' ? 'requested' : state === 'requested' ? 'writing' : 'verified';
}

function applyToSource(
  picker: PiecePicker,
  model: SlowPicker,
  sources: PieceSource[],
  command: { type: 'remove' | 'gain' | 'lose' | 'pick'; at: number; piece?: number },
): void {
  const source = sources[command.at];
  const shadow = model.sources[command.at];
  if (source === undefined || shadow === undefined) return;
  const piece = command.piece ?? 0;
  if (command.type === 'remove') {
    picker.removeSource(source);
    sources.splice(command.at, 1);
    model.sources.splice(command.at, 1);
  } else if (command.type === 'gain') {
    picker.sourceGains(source, piece);
    shadow.have.add(piece);
  } else if (command.type === 'lose' && shadow.counted) {
    picker.sourceLoses(source, piece);
    shadow.have.delete(piece);
  } else if (command.type === 'pick') {
    const picked = picker.pick(source);
    if (picked >= 0) advance(picker, model, picked);
  }
}

test('ties of rarity are broken evenly', () => {
  const picker = new PiecePicker(new Bitfield(10), 4, new SeededRng(5));
  const source = picker.addSource(Bitfield.full(10));
  const counts = new Array<number>(10).fill(0);
  for (let round = 0; round < 2000; round += 1) {
    const piece = picker.pick(source);
    counts[piece] = (counts[piece] ?? 0) + 1;
  }
  assert.ok(Math.min(...counts) > 140, counts.join(' '));
});

test('the picker rejects a step that a piece cannot take', () => {
  const picker = new PiecePicker(new Bitfield(2), 4, new SeededRng(1));
  picker.request(0);
  assert.throws(() => picker.request(0), AssertionError);
  assert.throws(() => picker.verified(0), AssertionError);
  assert.throws(() => picker.reopen(1), AssertionError);
});

const ledgerCommand = fc.record({ type: fc.constantFrom('add', 'settle', 'settle-all'), link: fc.nat(3), piece: fc.nat(5) });

interface Entry {
  readonly link: number;
  readonly piece: number;
}

function addRequest(ledger: RequestLedger, model: Entry[], entry: Entry): void {
  const known = model.some((each) => each.link === entry.link && each.piece === entry.piece);
  const onLink = model.filter((each) => each.link === entry.link).length;
  const onPiece = model.filter((each) => each.piece === entry.piece).length;
  if (known || onLink >= 3 || onPiece >= 2) {
    assert.throws(() => ledger.add(entry.link, entry.piece, 10, 0), AssertionError);
    return;
  }
  ledger.add(entry.link, entry.piece, 10, 0);
  model.push(entry);
}

function checkLedger(ledger: RequestLedger, model: readonly Entry[]): void {
  assert.equal(ledger.totalBytes, model.length * 10);
  assert.equal(ledger.requestCount, model.length);
  assert.equal(ledger.owingLinkCount, new Set(model.map((entry) => entry.link)).size);
  for (let piece = 0; piece < 6; piece += 1) {
    const holders = model.filter((entry) => entry.piece === piece).map((entry) => entry.link);
    assert.deepEqual(ledger.requestersOf(piece, []).sort(), holders.sort());
  }
}

test('the ledger agrees with a list of requests and rejects what breaks its bounds', () => {
  fc.assert(
    fc.property(fc.array(ledgerCommand, { maxLength: 80 }), (commands) => {
      const ledger = new RequestLedger(6, { requestsPerLinkMax: 3, requestersPerPieceMax: 2 });
      let model: Entry[] = [];
      for (const { type, link, piece } of commands) {
        if (type === 'add') {
          addRequest(ledger, model, { link, piece });
        } else if (type === 'settle') {
          const known = model.some((each) => each.link === link && each.piece === piece);
          assert.equal(ledger.settle(link, piece)?.piece, known ? piece : undefined);
          model = model.filter((each) => each.link !== link || each.piece !== piece);
        } else {
          const onLink = model.filter((each) => each.link === link).map((each) => each.piece);
          assert.deepEqual(
            ledger.settleAll(link).map((request) => request.piece),
            onLink,
          );
          model = model.filter((each) => each.link !== link);
        }
        checkLedger(ledger, model);
      }
    }),
  );
});

const step = fc.record({ afterMs: fc.nat(400), sizeBytes: fc.integer({ min: 1, max: 4000 }) });

test('the token bucket never lets more through than rate and burst allow, and never waits longer than it must', () => {
  fc.assert(
    fc.property(fc.integer({ min: 100, max: 10_000 }), fc.array(step, { minLength: 1, maxLength: 60 }), (rate, steps) => {
      const bucket = new TokenBucket(rate);
      const passed: { atMs: number; sizeBytes: number }[] = [];
      let nowMs = 0;
      for (const { afterMs, sizeBytes } of steps) {
        nowMs += afterMs;
        const readyMs = bucket.readyAtMs(sizeBytes, nowMs);
        if (readyMs > nowMs) {
          assert.equal(bucket.tryTake(sizeBytes, nowMs), false);
          assert.equal(bucket.tryTake(sizeBytes, readyMs - 1), false);
          nowMs = readyMs;
        }
        assert.equal(bucket.tryTake(sizeBytes, nowMs), true);
        passed.push({ atMs: nowMs, sizeBytes });
      }
      for (let from = 0; from < passed.length; from += 1) {
        let total = 0;
        for (const { atMs, sizeBytes } of passed.slice(from)) {
          const spanMs = atMs - (passed[from]?.atMs ?? 0);
          // What was let through before this one is covered by the burst and the time since the first.
          assert.ok(total <= rate * 0.25 + (rate * spanMs) / 1000 + 1e-6);
          total += sizeBytes;
        }
      }
    }),
  );
});

test('a piece larger than a second of the rate passes, refunds count, and zero is unlimited', () => {
  const bucket = new TokenBucket(1000);
  assert.equal(bucket.tryTake(5000, 0), true);
  assert.equal(bucket.readyAtMs(250, 0), 5000);
  bucket.refund(5000);
  assert.equal(bucket.readyAtMs(250, 0), 0);
  assert.equal(new TokenBucket(0).tryTake(1e12, 0), true);
});

test('the clock of a request starts when the piece before it arrived', () => {
  const pace = new Pace(1000);
  pace.asked(true, 0);
  pace.asked(false, 50);
  pace.arrived(1000, 0, 100);
  assert.equal(pace.clockMs, 100);
  pace.arrived(1000, 50, 200);
  assert.equal(pace.rateBytesPerSec, 10_000);
});

test('a late link has its window halved and recovers with the next piece', () => {
  const options = swarmOptions();
  const pace = new Pace(1000);
  pace.asked(true, 0);
  pace.arrived(1000, 0, 100);
  const before = pace.windowBytes(options);
  pace.late(5000);
  assert.ok(pace.windowBytes(options) < before);
});

test('penalties double, are bounded, and only corruption outlives a good piece', () => {
  const options = swarmOptions({ unreachablePenaltyMs: 1000, penaltyMsMax: 4000, corruptPenaltyMs: 3000 });
  const book = new PenaltyBook();
  const peer = parsePeerId('agent/a');
  assert.equal(book.strike(peer, 'unreachable', 0, options), 1000);
  assert.equal(book.strike(peer, 'unreachable', 1000, options), 3000);
  assert.equal(book.strike(peer, 'unreachable', 3000, options), 7000);
  assert.equal(book.strike(peer, 'unreachable', 7000, options), 11_000);
  book.absolve(peer);
  assert.equal(book.untilMs(peer, 7000), 0);
  book.strike(peer, 'corrupt', 7000, options);
  book.absolve(peer);
  assert.equal(book.untilMs(peer, 7000), 10_000);
  assert.deepEqual(book.snapshot(7000), [{ peer, reason: 'corrupt', strikeCount: 1, untilMs: 10_000 }]);
  assert.deepEqual(book.snapshot(10_000), []);
});

test('an outage that many links meet counts once, and a peer that was away for long is tried again soon', () => {
  const options = swarmOptions({ unreachablePenaltyMs: 1000, corruptPenaltyMs: 3000 });
  const book = new PenaltyBook();
  const peer = parsePeerId('origin/a');
  for (let link = 0; link < 12; link += 1) assert.equal(book.strike(peer, 'unreachable', link, options), 1000);
  assert.equal(book.strike(peer, 'slow', 500, options), 1000);
  assert.equal(book.strike(peer, 'corrupt', 600, options), 6600, 'corrupt bytes always count');
  assert.equal(book.strike(peer, 'corrupt', 700, options), 12_700);
  let nowMs = 100_000;
  for (let dial = 0; dial < 20; dial += 1) nowMs = book.strike(peer, 'unreachable', nowMs, options);
  assert.equal(book.strike(peer, 'unreachable', nowMs, options), nowMs + 32_000);
});

test('the book of penalties is bounded', () => {
  const options = swarmOptions({ penalisedPeers: 16 });
  const book = new PenaltyBook();
  for (let at = 0; at < 100; at += 1) book.strike(parsePeerId(`agent/a${at}`), 'corrupt', at, options);
  assert.equal(book.snapshot(100).length, 16);
});

test('every option has a default inside its bounds and a reason, and a value outside is refused by name', () => {
  for (const [name, limit] of Object.entries(swarmLimits)) {
    assert.ok(limit.min <= limit.default && limit.default <= limit.max, name);
    assert.ok(limit.reason.length > 0, name);
  }
  assert.throws(
    () => swarmOptions({ outboundLinksPerBlob: 65 }),
    (error) => isAppError(error, 'invalid-argument') && /outboundLinksPerBlob/.test(error.message),
  );
});

test('every piece is in the share of exactly one owner, whether or not owners count themselves', () => {
  const ids = fc.uniqueArray(fc.integer({ min: 0, max: 99 }), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(ids, fc.nat(10_000), fc.boolean(), (numbers, piece, withSelf) => {
      const names = numbers.map((number) => `origin/${number}`);
      const holders = names.filter((name) => {
        const others = names.filter((other) => withSelf || other !== name).map((other) => offerOf(other));
        return isInShare(seedShareOf(parsePeerId(name), others), piece);
      });
      assert.equal(holders.length, 1);
    }),
  );
  assert.equal(seedShareOf(parsePeerId('agent/a'), [offerOf('origin/a'), offerOf('origin/b')]), undefined);
});
