import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { HybridClock, wallMsOf } from '../../../services/build-index/hlc.ts';

const wall = fc.integer({ min: 0, max: 2 ** 47 });

describe('the hybrid logical clock', () => {
  it('gives versions that only grow, whatever the wall clock and other clusters do', () => {
    const steps = fc.array(
      fc.oneof(
        wall.map((wallMs) => ({ wallMs })),
        fc.bigInt(0n, 2n ** 63n).map((seen) => ({ seen })),
      ),
      { maxLength: 50 },
    );
    fc.assert(
      fc.property(steps, (list) => {
        const clock = new HybridClock();
        let last = 0n;
        for (const step of list) {
          if ('seen' in step) {
            clock.observe(step.seen);
            if (step.seen > last) last = step.seen;
          } else {
            const version = clock.next(step.wallMs);
            assert.ok(version > last);
            last = version;
          }
        }
      }),
    );
  });

  it('follows wall time when that goes on', () => {
    fc.assert(
      fc.property(wall, fc.integer({ min: 1, max: 1_000_000 }), (startMs, stepMs) => {
        const clock = new HybridClock();
        clock.next(startMs);
        assert.equal(wallMsOf(clock.next(startMs + stepMs)), startMs + stepMs);
      }),
    );
  });

  it('tells apart 65,536 versions of one millisecond before it borrows from the next', () => {
    const clock = new HybridClock();
    let version = clock.next(1000);
    for (let i = 0; i < 65_535; i += 1) version = clock.next(1000);
    assert.equal(wallMsOf(version), 1000);
    assert.equal(wallMsOf(clock.next(1000)), 1001);
  });

  it('goes on above the version it was started with', () => {
    const known = new HybridClock().next(5000);
    assert.ok(new HybridClock(known).next(4000) > known);
  });
});
