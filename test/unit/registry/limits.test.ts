import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ManualClock } from '#test/support/manual-clock';
import { Clients, clientKeyOf } from '../../../services/lib/registry/clients.ts';
import { RegistryError } from '../../../services/lib/registry/errors.ts';
import { settingsOf } from '../../../services/lib/registry/options.ts';
import { Pace } from '../../../services/lib/registry/pace.ts';

const limits = { requestsPerSec: 10, requestBurst: 5, requestsPerClient: 3, uploadsPerClient: 1, clientsTracked: 100 };
const isTooMany = (error: unknown): boolean => error instanceof RegistryError && error.problem === 'tooManyRequests';

test('the pace counts bytes over the time of waiting, window by window', () => {
  const pace = new Pace({ bytesPerSecMin: 100, windowMs: 1000 });
  assert.equal(pace.leftMs(0), 1000);
  pace.add(99, 400);
  assert.equal(pace.leftMs(100), 500);
  assert.equal(pace.endWindow(600), false);
  assert.equal(pace.leftMs(600), 1000, 'the next window begins with the rest of the wait');
  pace.add(100, 900);
  assert.equal(pace.leftMs(0), 700);
  assert.equal(pace.endWindow(700), true);
});

test('without a floor there is no window', () => {
  assert.equal(new Pace({ bytesPerSecMin: 0, windowMs: 1000 }).leftMs(1e9), Number.POSITIVE_INFINITY);
});

test('a client that always brings enough is never too slow, whatever the pattern of its chunks', () => {
  const chunk = fc.record({ waitedMs: fc.integer({ min: 1, max: 900 }), extra: fc.integer({ min: 0, max: 1000 }) });
  fc.assert(
    fc.property(fc.array(chunk, { minLength: 1, maxLength: 50 }), (chunks) => {
      const pace = new Pace({ bytesPerSecMin: 1000, windowMs: 1000 });
      for (const { waitedMs, extra } of chunks) {
        // Twice the floor, so that a chunk that arrives just after the end of a window does not matter.
        if (pace.leftMs(waitedMs) <= 0) assert.ok(pace.endWindow(0));
        pace.add(2 * waitedMs + extra + 900, waitedMs);
      }
    }),
  );
});

test('requests beyond the burst wait for tokens, and are told how long', () => {
  const clock = new ManualClock();
  const clients = new Clients({ ...limits, requestsPerSec: 1 }, { clock });
  for (let index = 0; index < 5; index += 1) clients.enter('a', false)();
  assert.throws(
    () => clients.enter('a', false),
    (error) => isTooMany(error) && (error as RegistryError).headers['retry-after'] === '1',
  );
  clients.enter('b', false)();
  clock.advance(1000);
  clients.enter('a', false)();
  assert.throws(() => clients.enter('a', false), isTooMany);
});

test('never more than burst and rate allow, and all of that', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 500 }), { minLength: 1, maxLength: 100 }), (pauses) => {
      const clock = new ManualClock();
      const clients = new Clients({ ...limits, requestsPerClient: 1000 }, { clock });
      let count = 0;
      for (const pauseMs of pauses) {
        clock.advance(pauseMs);
        for (let asked = 0; asked < 20; asked += 1) {
          try {
            clients.enter('a', false)();
            count += 1;
          } catch (error) {
            assert.ok(isTooMany(error));
          }
        }
      }
      const secs = pauses.reduce((sum, pauseMs) => sum + pauseMs, 0) / 1000;
      assert.ok(count <= limits.requestBurst + limits.requestsPerSec * secs + 1e-6, `${count} in ${secs} s`);
    }),
  );
});

test('requests and uploads at one time are counted until they leave', () => {
  const clients = new Clients({ ...limits, requestBurst: 1000 }, { clock: new ManualClock() });
  const leave = clients.enter('a', true);
  assert.throws(() => clients.enter('a', true), isTooMany);
  clients.enter('a', false);
  clients.enter('a', false);
  assert.throws(() => clients.enter('a', false), isTooMany);
  clients.enter('b', true);
  leave();
  clients.enter('a', true);
});

test('clients that are tracked are bounded, and one with a request under way is not forgotten', () => {
  const clients = new Clients({ ...limits, requestBurst: 2 }, { clock: new ManualClock() });
  clients.enter('busy', true);
  for (let index = 0; index < 1000; index += 1) clients.enter(`client ${index}`, false)();
  assert.ok(clients.trackedCount <= 100, String(clients.trackedCount));
  assert.throws(() => clients.enter('busy', true), isTooMany);
});

test('a client is a login together with an address, or with the network of an IPv6 host', () => {
  const keyOf = (address: string): string => clientKeyOf(undefined, address);
  assert.equal(keyOf('10.0.0.1'), 'anonymous 10.0.0.1');
  assert.notEqual(keyOf('10.0.0.1'), keyOf('10.0.0.2'));
  assert.equal(keyOf('2001:db8:1:2:aaaa::1'), keyOf('2001:db8:1:2::ffff'));
  assert.notEqual(keyOf('2001:db8:1:2::1'), keyOf('2001:db8:1:3::1'));
  assert.equal(keyOf('::1'), 'anonymous 0:0:0:0');
  assert.equal(keyOf('fe80::1%eth0'), 'anonymous fe80:0:0:0');
});

test('limits out of their bounds are refused by name', () => {
  assert.throws(() => settingsOf({ limits: { requestBurst: 0 } }), /requestBurst to a whole number from 1/);
});
