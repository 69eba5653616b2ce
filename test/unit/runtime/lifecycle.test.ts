import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger } from '#core';
import { Lifecycle } from '#runtime';
import { ManualClock } from '../../support/manual-clock.ts';
import { run } from '../../support/processes.ts';

test('what was started last is stopped first, once', async () => {
  const lifecycle = new Lifecycle({ graceMs: 1000 }, { logger: silentLogger, clock: new ManualClock() });
  const stopped: string[] = [];
  for (const name of ['store', 'peer', 'server']) lifecycle.onStop(name, async () => void stopped.push(name));
  await Promise.all([lifecycle.stop(), lifecycle.stop()]);
  assert.deepEqual(stopped, ['server', 'peer', 'store']);
});

test('a part that cannot stop does not keep the others running', async () => {
  const lifecycle = new Lifecycle({ graceMs: 1000 }, { logger: silentLogger, clock: new ManualClock() });
  const stopped: string[] = [];
  lifecycle.onStop('store', async () => void stopped.push('store'));
  lifecycle.onStop('server', async () => {
    throw new Error('stuck');
  });
  await lifecycle.stop();
  assert.deepEqual(stopped, ['store']);
});

test('background work is aborted at the stop and waited for', async () => {
  const lifecycle = new Lifecycle({ graceMs: 1000 }, { logger: silentLogger, clock: new ManualClock() });
  let ended = false;
  lifecycle.spawn('work', async ({ signal }) => {
    await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
    ended = true;
  });
  await lifecycle.stop();
  assert.equal(ended, true);
});

test('background work that fails stops the process with exit code 1', async () => {
  const lifecycle = new Lifecycle({ graceMs: 1000 }, { logger: silentLogger, clock: new ManualClock() });
  lifecycle.spawn('work', async () => {
    throw new Error('broken');
  });
  assert.equal(await lifecycle.untilStopped(), 1);
});

function hasty(graceMs: number) {
  const clock = new ManualClock();
  const exits: number[] = [];
  return { clock, exits, lifecycle: new Lifecycle({ graceMs }, { logger: silentLogger, clock, exit: (code) => void exits.push(code) }) };
}

for (const how of ['stop', 'fail'] as const) {
  test(`a part that never stops is left behind 15 s after the grace (${how})`, () => {
    const { clock, exits, lifecycle } = hasty(2000);
    lifecycle.onStop('stuck', async () => new Promise(() => undefined));
    void lifecycle[how]();
    clock.advance(16_999);
    assert.deepEqual(exits, []);
    clock.advance(1);
    assert.deepEqual(exits, [1]);
  });
}

test('a stop in time does not end the process later', async () => {
  const { clock, exits, lifecycle } = hasty(2000);
  await lifecycle.stop();
  clock.advance(100_000);
  assert.deepEqual(exits, []);
});

test('the parts share one grace, of which each gets at least a second', async () => {
  const { clock, lifecycle } = hasty(10_000);
  const given: number[] = [];
  for (const tookMs of [0, 5000, 4000]) {
    lifecycle.onStop('part', async ({ graceMs }) => {
      given.push(graceMs);
      clock.advance(tookMs);
    });
  }
  await lifecycle.stop();
  assert.deepEqual(given, [10_000, 6000, 1000]);
});

test('what cannot be told the grace is waited for only so long', async () => {
  const { clock, lifecycle } = hasty(3000);
  lifecycle.onDrain('endless', async () => new Promise(() => undefined));
  const stopped = lifecycle.stop();
  clock.advance(3000);
  await stopped;
});

test('what nobody catches is logged and stops the process with exit code 1', async () => {
  for (const fault of ['setTimeout(() => { throw new Error("lost") })', 'Promise.reject(new Error("lost"))']) {
    const script = `
      import { Lifecycle, SystemClock } from '#runtime';
      import { stopOnFault } from './services/lib/runtime/faults.ts';
      import { silentLogger } from '#core';
      const logger = { ...silentLogger, error: (message, { origin, error }) => console.log(message, origin, error) };
      const lifecycle = new Lifecycle({ graceMs: 1000 }, { logger, clock: new SystemClock() });
      stopOnFault({ lifecycle, logger });
      lifecycle.onStop('part', async () => console.log('stopped in order'));
      ${fault};
      process.exitCode = await lifecycle.untilStopped();`;
    const { code, stdout } = await run(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', script]);
    assert.equal(code, 1);
    assert.match(stdout, /^unexpected fault; stopping \w+ lost\nstopped in order\n$/);
  }
});
