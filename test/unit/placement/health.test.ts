import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type CheckResult, defaultHealthThresholds, MemberHealth } from '#placement';

describe('member health', () => {
  it('starts as up', () => {
    assert.equal(new MemberHealth().state, 'up');
  });

  it('survives one failure and goes down with the second in a row', () => {
    const health = new MemberHealth();
    assert.equal(health.record('fail'), false);
    assert.equal(health.record('pass'), false);
    assert.equal(health.record('fail'), false);
    assert.equal(health.record('fail'), true);
    assert.equal(health.state, 'down');
  });

  it('comes back with the first pass', () => {
    const health = new MemberHealth();
    health.record('fail');
    health.record('fail');
    assert.equal(health.record('pass'), true);
    assert.equal(health.state, 'up');
  });

  it('changes exactly when the last results in a row reach the threshold', () => {
    const results = fc.array(fc.constantFrom<CheckResult>('pass', 'fail'), { maxLength: 60 });
    const thresholds = fc.record({ failuresUntilDown: fc.integer({ min: 1, max: 5 }), passesUntilUp: fc.integer({ min: 1, max: 5 }) });
    fc.assert(
      fc.property(results, thresholds, (list, limits) => {
        const health = new MemberHealth(limits);
        list.forEach((result, i) => {
          const before = health.state;
          const changed = health.record(result);
          assert.equal(changed, before !== health.state);
          const needed = result === 'fail' ? limits.failuresUntilDown : limits.passesUntilUp;
          const streak = list.slice(Math.max(0, i + 1 - needed), i + 1);
          const reached = streak.length === needed && streak.every((one) => one === result);
          if (reached) assert.equal(health.state, result === 'fail' ? 'down' : 'up');
          else assert.equal(changed, false);
        });
      }),
    );
  });

  it('rejects thresholds below one', () => {
    assert.throws(() => new MemberHealth({ ...defaultHealthThresholds, passesUntilUp: 0 }), /threshold/);
  });
});
