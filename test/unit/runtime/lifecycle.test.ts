import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger } from '#core';
import { Lifecycle } from '#runtime';

test('what was started last is stopped first, once', async () => {
  const lifecycle = new Lifecycle({ logger: silentLogger });
  const stopped: string[] = [];
  for (const name of ['store', 'peer', 'server']) lifecycle.onStop(name, async () => void stopped.push(name));
  await Promise.all([lifecycle.stop(), lifecycle.stop()]);
  assert.deepEqual(stopped, ['server', 'peer', 'store']);
});

test('a part that cannot stop does not keep the others running', async () => {
  const lifecycle = new Lifecycle({ logger: silentLogger });
  const stopped: string[] = [];
  lifecycle.onStop('store', async () => void stopped.push('store'));
  lifecycle.onStop('server', async () => {
    throw new Error('stuck');
  });
  await lifecycle.stop();
  assert.deepEqual(stopped, ['store']);
});

test('background work is aborted at the stop and waited for', async () => {
  const lifecycle = new Lifecycle({ logger: silentLogger });
  let ended = false;
  lifecycle.spawn('work', async ({ signal }) => {
    await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
    ended = true;
  });
  await lifecycle.stop();
  assert.equal(ended, true);
});

test('background work that fails stops the process with exit code 1', async () => {
  const lifecycle = new Lifecycle({ logger: silentLogger });
  lifecycle.spawn('work', async () => {
    throw new Error('broken');
  });
  assert.equal(await lifecycle.untilStopped({ graceMs: 1000 }), 1);
});
