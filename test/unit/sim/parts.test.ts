/** The parts of the simulator: queue, bandwidth, bound, statistics. */
import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { EventQueue, endFlow, Flow, idealMs, Port, percentiles, pieceFactor, scenarioOf, scenarios, startFlow } from '#sim';

test('events come in order of time, equal ones in order of insertion, from the ring and the heap alike', () => {
  const queue = new EventQueue<number, never>(7);
  const expected: { time: number; at: number }[] = [];
  for (let at = 0; at < 6000; at += 1) {
    const delayed = at % 3 === 0;
    const time = delayed ? (at >> 3) + 7 : (at * 7919) % 997;
    if (delayed) queue.pushDelayed(at >> 3, 0, at);
    else queue.push(time, 1, at);
    expected.push({ time, at });
  }
  expected.sort((left, right) => left.time - right.time || left.at - right.at);
  for (const { time, at } of expected) {
    assert.equal(queue.nextMs, time);
    const { timeMs, subject, kind } = queue.next();
    assert.deepEqual([timeMs, subject, kind], [time, at, at % 3 === 0 ? 0 : 1]);
  }
  assert.equal(queue.size, 0);
  assert.equal(queue.nextMs, Number.POSITIVE_INFINITY);
});

test('no port ever carries more than it can, and a port with an idle other end is used in full', () => {
  const port = fc.integer({ min: 0, max: 4 });
  const step = fc.record({ up: port, down: port, sizeBytes: fc.integer({ min: 1, max: 1_000_000 }), end: fc.nat(3) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const ups = [1, 2, 3, 4, 50].map((mega) => new Port(mega * 1e6));
      const downs = [5, 4, 3, 2, 1].map((mega) => new Port(mega * 1e6));
      const flows: Flow[] = [];
      steps.forEach(({ up, down, sizeBytes, end }, nowMs) => {
        const [upPort, downPort] = [ups[up], downs[down]];
        assert.ok(upPort !== undefined && downPort !== undefined);
        const first = flows[0];
        if (end === 0 && first !== undefined) {
          endFlow(first, nowMs, () => undefined);
          flows.shift();
        }
        const flow = new Flow(upPort, downPort, sizeBytes, nowMs);
        startFlow(flow, nowMs, () => undefined);
        flows.push(flow);
        for (const each of [...ups, ...downs]) {
          const used = each.flows.reduce((total, { rate }) => total + rate, 0);
          assert.ok(used <= each.capacity * (1 + 1e-9), `${used} of ${each.capacity}`);
        }
        assert.ok(flow.rate > 0, 'a new flow starts');
      });
    }),
  );
});

test('two flows share an uplink, and the one that is left gets all of it', () => {
  const up = new Port(1000);
  const faster: Flow[] = [];
  const flows = [1, 2].map(() => new Flow(up, new Port(10_000), 100, 0));
  for (const flow of flows) startFlow(flow, 0, (each) => faster.push(each));
  assert.deepEqual(
    flows.map(({ finishMs }) => finishMs),
    [200, 200],
  );
  const [first, second] = flows;
  assert.ok(first !== undefined && second !== undefined);
  faster.length = 0;
  endFlow(first, 100, (each) => faster.push(each));
  assert.deepEqual(faster, [second]);
  assert.equal(second.finishMs, 150);
});

test('what a slow receiver leaves of an uplink goes to the others', () => {
  const up = new Port(1000);
  const slow = new Flow(up, new Port(100), 100, 0);
  const quick = new Flow(up, new Port(10_000), 100, 0);
  startFlow(slow, 0, () => undefined);
  startFlow(quick, 0, () => undefined);
  assert.ok(Math.abs(slow.rate - 0.1) < 1e-9, `${slow.rate}`);
  assert.ok(Math.abs(quick.rate - 0.9) < 1e-9, `${quick.rate}`);
});

test('the bound is the largest of one copy, one downlink and all uplinks', () => {
  const input = { hostCount: 100, sizeBytes: 1000, seedBytesPerSec: 100, upBytesPerSec: 10_000, downBytesPerSec: 100 };
  assert.equal(idealMs(input), 10_000);
  assert.equal(idealMs({ ...input, seedBytesPerSec: 50 }), 20_000, 'the seeder sends one copy');
  assert.equal(idealMs({ ...input, downBytesPerSec: 40 }), 25_000, 'the host receives one copy');
  assert.equal(idealMs({ ...input, upBytesPerSec: 900, seedBytesPerSec: 100 }), 100_000, 'all copies are sent');
  assert.equal(pieceFactor(1, 10), 1);
  assert.equal(pieceFactor(7, 10), 1.2);
  assert.equal(pieceFactor(8, 10), 1.3);
});

test('a percentile is a value that was measured', () => {
  const values = Array.from({ length: 1000 }, (_, at) => 1000 - at);
  assert.deepEqual(percentiles(values), { p50: 500, p99: 990, p999: 999, last: 1000 });
  assert.deepEqual(percentiles([3]), { p50: 3, p99: 3, p999: 3, last: 3 });
});

test('a scenario can be changed within bounds, and the proportions of its blobs stay', () => {
  const changed = scenarioOf('two-blobs', { hostCount: 5, sizeBytes: 2_020_000, seed: 9 });
  assert.deepEqual([changed.hostCount, changed.seed], [5, 9]);
  assert.deepEqual(
    changed.blobs.map(({ sizeBytes }) => sizeBytes),
    [2_000_000, 20_000],
  );
  assert.throws(() => scenarioOf('two-blobs', { hostCount: 0 }), /hosts must be/);
  assert.throws(() => scenarioOf('nothing'), /there are: .*kraken/);
  assert.ok(scenarios.size >= 12);
});
