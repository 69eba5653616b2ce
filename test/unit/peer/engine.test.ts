import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Effect, SwarmEvent } from '#swarm';
import { ManualClock } from '#test/support/manual-clock';
import { type DrivenSwarm, Engine } from '../../../services/lib/peer/engine.ts';

const close = (link: number): Effect => ({ type: 'close', link, reason: 'idle' });
const closed = (link: number): SwarmEvent => ({ type: 'link-closed', link, failed: false });

/** Answers each `link-closed` with what `answers` says, in one array that is reused, as the real engine does. */
class FakeSwarm implements DrivenSwarm {
  readonly log: string[] = [];
  deadlineMs: number | undefined;
  readonly #answers: Readonly<Record<number, readonly Effect[]>>;
  readonly #effects: Effect[] = [];

  constructor(answers: Readonly<Record<number, readonly Effect[]>> = {}) {
    this.#answers = answers;
  }

  newLink(): number {
    return 1;
  }

  nextDeadlineMs(): number | undefined {
    return this.deadlineMs;
  }

  setOptions(): void {
    this.log.push('options');
  }

  apply(event: SwarmEvent, nowMs: number): readonly Effect[] {
    this.log.push(event.type === 'link-closed' ? `closed ${event.link}` : `${event.type} at ${nowMs}`);
    this.#effects.length = 0;
    if (event.type === 'tick') this.deadlineMs = undefined;
    if (event.type === 'link-closed') this.#effects.push(...(this.#answers[event.link] ?? []));
    return this.#effects;
  }
}

test('events raised while effects are carried out wait until all effects of the event have been', () => {
  const swarm = new FakeSwarm({ 1: [close(10), close(11)], 10: [close(20)] });
  const engine: Engine = new Engine({
    swarm,
    clock: new ManualClock(),
    carryOut: (effect) => {
      assert.ok(effect.type === 'close');
      swarm.log.push(`close ${effect.link}`);
      if (effect.link < 20) engine.post(closed(effect.link));
    },
  });
  engine.post(closed(1), () => swarm.log.push('applied'));
  assert.deepEqual(swarm.log, ['closed 1', 'close 10', 'close 11', 'applied', 'closed 10', 'close 20', 'closed 11']);
});

test('one timer ticks at the deadline, also when the deadline moves', () => {
  const clock = new ManualClock();
  const swarm = new FakeSwarm();
  const engine = new Engine({ swarm, clock, carryOut: () => undefined });
  swarm.deadlineMs = 100;
  engine.post(closed(1));
  swarm.deadlineMs = 50;
  engine.post(closed(2));
  assert.equal(clock.pendingCount, 1);
  clock.advance(49);
  assert.equal(swarm.log.length, 2);
  swarm.deadlineMs = 70;
  clock.advance(1);
  assert.equal(swarm.log.length, 2, 'an early timer does not tick');
  swarm.deadlineMs = undefined;
  clock.advance(100);
  assert.equal(swarm.log.length, 2);
  swarm.deadlineMs = 160;
  engine.post(closed(3));
  clock.advance(10);
  assert.equal(swarm.log.at(-1), 'tick at 160');
});

test('a deadline in the past ticks at once', () => {
  const clock = new ManualClock({ nowMs: 500 });
  const swarm = new FakeSwarm();
  const engine = new Engine({ swarm, clock, carryOut: () => undefined });
  swarm.deadlineMs = 400;
  engine.post(closed(1));
  clock.advance(0);
  assert.equal(swarm.log.at(-1), 'tick at 500');
  engine.stop();
});

test('a stopped engine applies nothing and leaves no timer', () => {
  const clock = new ManualClock();
  const swarm = new FakeSwarm();
  const engine = new Engine({ swarm, clock, carryOut: () => undefined });
  swarm.deadlineMs = 10;
  engine.post(closed(1));
  engine.stop();
  engine.post(closed(2));
  assert.deepEqual([swarm.log, clock.pendingCount], [['closed 1'], 0]);
});
