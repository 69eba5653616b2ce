import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { type Channels, HealthMonitor, type HealthMonitorOptions } from '#cluster';
import { SeededRng, silentLogger } from '#core';
import { ManualClock } from '../../support/manual-clock.ts';

const members = ['o1', 'o2', 'o3'].map((id) => ({ id, endpoint: `${id}:1` }));

function monitorOf(options: Partial<HealthMonitorOptions> = {}) {
  const clock = new ManualClock();
  const down = new Set<string>();
  const checks: string[] = [];
  const held: (() => void)[] = [];
  let hold = false;
  const channels: Channels = {
    client: () => assert.fail('health checks need no client'),
    health: async ({ id = '' }) => {
      checks.push(id);
      if (hold) await new Promise<void>((resolve) => held.push(resolve));
      return !down.has(id);
    },
  };
  const monitor = new HealthMonitor(
    { members, role: 'origin', intervalMs: 1000, recheckMs: 100, ...options },
    { channels, clock, rng: new SeededRng(1), logger: silentLogger },
  );
  const changes: string[] = [];
  monitor.onChange((id, state) => changes.push(`${id} ${state}`));
  const pass = async (ms: number): Promise<void> => {
    for (let at = 0; at < ms; at += 50) {
      clock.advance(50);
      await turn();
    }
  };
  return { monitor, clock, down, checks, changes, pass, held, setHold: (value: boolean) => (hold = value) };
}

describe('the health monitor', () => {
  it('believes in everybody at first', () => {
    const { monitor } = monitorOf();
    assert.ok(members.every(({ id }) => monitor.isHealthy(id)));
  });

  it('marks a member down after two failed checks, and up with the first that passes', async () => {
    const { monitor, down, changes, pass } = monitorOf();
    down.add('o2');
    await pass(2500);
    assert.deepEqual(changes, ['o2 down']);
    assert.equal(monitor.isHealthy('o2'), false);
    down.clear();
    await pass(1500);
    assert.deepEqual(changes, ['o2 down', 'o2 up']);
  });

  it('takes a report as a failure and checks at once', async () => {
    const { monitor, down, checks, changes } = monitorOf({ probe: 'suspects' });
    down.add('o1');
    monitor.reportFailure('o1');
    await turn();
    assert.deepEqual(checks, ['o1']);
    assert.deepEqual(changes, ['o1 down']);
  });

  it('does not let many reports of one hiccup outvote the check they brought about', async () => {
    const { monitor, changes } = monitorOf({ probe: 'suspects' });
    for (let i = 0; i < 10; i += 1) monitor.reportFailure('o1');
    await turn();
    assert.deepEqual(changes, []);
  });

  it('leaves members alone that nobody suspects, when told to', async () => {
    const { monitor, checks, pass, down } = monitorOf({ probe: 'suspects' });
    await pass(5000);
    assert.deepEqual(checks, []);
    down.add('o3');
    monitor.reportFailure('o3');
    await pass(1000);
    const whileDown = checks.length;
    assert.ok(whileDown > 1, 'a suspect is checked again and again');
    down.clear();
    await pass(5000);
    assert.equal(monitor.isHealthy('o3'), true);
    const whenUp = checks.length;
    await pass(5000);
    assert.equal(checks.length, whenUp, 'and left alone once it answers');
  });

  it('runs no more checks at a time than allowed', async () => {
    const { checks, held, setHold, pass } = monitorOf({ concurrency: 2 });
    setHold(true);
    await pass(3000);
    assert.equal(checks.length, 2);
    setHold(false);
    for (const release of held) release();
    await pass(100);
    assert.ok(new Set(checks).has('o1') && new Set(checks).has('o2') && new Set(checks).has('o3'));
  });

  it('is quiet after it was disposed', async () => {
    const { monitor, clock, checks, pass } = monitorOf();
    await monitor[Symbol.asyncDispose]();
    assert.equal(clock.pendingCount, 0);
    monitor.reportFailure('o1');
    await pass(3000);
    assert.deepEqual(checks, []);
  });
});
