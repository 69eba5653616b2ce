/** Whole simulations, small. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { SimNetwork, type SimResult, Simulation, scenarioOf, scenarios, simBlob } from '#sim';

const small = { hostCount: 12, sizeBytes: 20_000_000, upBytesPerSec: 10_000_000, downBytesPerSec: 10_000_000 };

function run(name: string, overrides: object = {}): SimResult {
  return new Simulation(scenarioOf(name, { ...small, ...overrides })).run();
}

test('the same seed gives the same result, another seed another', () => {
  assert.deepEqual(run('cluster'), run('cluster'));
  assert.notDeepEqual(run('cluster').samples, run('cluster', { seed: 2 }).samples);
});

for (const name of scenarios.keys()) {
  test(`${name}, small: everybody who lives finishes and no rule is broken`, () => {
    const result = run(name);
    assert.deepEqual(result.violations, []);
    assert.equal(result.finishedCount, result.hostCount);
    assert.ok(result.ratio.p50 >= 1 && result.ratio.last < 4, JSON.stringify(result.ratio));
    assert.ok(result.samples.length > 50 && result.frames.length > 5);
    assert.ok(result.originCopies >= 0.99, `${result.originCopies} copies`);
  });
}

test('a third of the hosts dies and is not waited for', () => {
  assert.equal(run('loss').hostCount, 8);
});

test('a rolling update comes in groups, each as fast as if it were alone', () => {
  const { ratio, samples } = run('rolling-update', { hostCount: 20 });
  assert.ok(ratio.last < 1.3, JSON.stringify(ratio));
  const halfway = samples.find(({ hostsShare }) => hostsShare >= 0.5);
  assert.ok((halfway?.timeMs ?? 0) > 0.4 * (samples.at(-1)?.timeMs ?? 0));
});

test('who comes late to a huge blob finds slots and takes no longer than the others', () => {
  const result = new Simulation(scenarioOf('late-joiner', { sizeBytes: 2_000_000_000 })).run();
  assert.deepEqual(result.violations, []);
  assert.ok(result.ratio.last < 1.2, JSON.stringify(result.ratio));
});

test('400 hosts that want more links than there are slots: none starves', () => {
  const { finishedCount, ratio, violations } = new Simulation(scenarioOf('starve', { sizeBytes: 20_000_000 })).run();
  assert.deepEqual(violations, []);
  assert.equal(finishedCount, 400);
  assert.ok(ratio.last < 1.5 * ratio.p50, JSON.stringify(ratio));
});

test('a small blob that comes together with a large one takes hardly longer than alone, and the large one loses nothing', () => {
  const scenario = { ...scenarioOf('two-blobs', { upBytesPerSec: 1e7, downBytesPerSec: 1e7 }), reading: true, arrivalShare: 0 };
  const small = { name: 'small', sizeBytes: 20e6 };
  const finishOf = (blobs: readonly { readonly name: string; readonly sizeBytes: number }[]) => {
    const { blobs: results, ratio } = new Simulation({ ...scenario, blobs }).run();
    return { lastMs: results.find(({ name }) => name === 'small')?.finishMs.last ?? Number.POSITIVE_INFINITY, ratio };
  };
  const alone = finishOf([small]);
  const together = finishOf([{ name: 'large', sizeBytes: 300e6 }, small]);
  assert.ok(together.lastMs < 1.4 * alone.lastMs, `${together.lastMs} ms instead of ${alone.lastMs} ms`);
  assert.ok(together.ratio.last < 1.1, JSON.stringify(together.ratio));
});

test('origins that share a blob send hardly more than one copy of it to hosts that read', () => {
  const copies = [1, 2, 3].map((seed) => run('cluster', { hostCount: 24, sizeBytes: 50_000_000, seed }).originCopies);
  const mean = copies.reduce((sum, each) => sum + each, 0) / copies.length;
  assert.ok(mean < 1.4, copies.join(', '));
});

test('a crowd that comes for a layer at once is one swarm soon, not a chain in the order of arrival', () => {
  const { ratio } = new Simulation(scenarioOf('layer', { hostCount: 150 })).run();
  assert.ok(ratio.p99 < 1.31, JSON.stringify(ratio));
});

test('slow hosts are measured by their own bound', () => {
  const result = run('slow-tenth', { hostCount: 20 });
  assert.ok(result.ratio.last < 2, JSON.stringify(result.ratio));
});

test('a peer that sends corrupt pieces to everybody, and a host with a weak uplink, hold nobody up for long', () => {
  const usual = scenarioOf('cluster', small);
  const undisturbed = new Simulation(usual).run();
  for (const disturbed of [
    { ...usual, liarCount: 1 },
    { ...usual, weakCount: 1 },
  ]) {
    const result = new Simulation(disturbed).run();
    assert.equal(result.finishedCount, small.hostCount);
    assert.ok(result.ratio.p99 < 1.2 * undisturbed.ratio.p99, `${result.ratio.p99} instead of ${undisturbed.ratio.p99}`);
  }
});

test('hosts that read ask for the beginning first', () => {
  const blob = simBlob('blob', 50e6);
  for (const reading of [true, false]) {
    const network = new SimNetwork({ seed: 1, latencyMs: 1, reading });
    network.seed(network.addHost({ name: 'origin/seeder', upBytesPerSec: 1e7, downBytesPerSec: 1e7 }), blob);
    const host = network.addHost({ name: 'agent/host', upBytesPerSec: 1e7, downBytesPerSec: 1e7 });
    network.trackers.announced(network.hosts[0]?.peer ?? host.peer, blob.digest, true, 0);
    network.want(host, blob, 1);
    network.run(2000);
    const counts = host.verifiedCounts.get(blob.digest) ?? new Uint8Array(0);
    const verifiedCount = counts.reduce((sum, count) => sum + count, 0);
    assert.ok(verifiedCount > 20, `${verifiedCount} pieces`);
    assert.equal(
      counts.subarray(0, 20).every((count) => count === 1),
      reading,
    );
  }
});

test('a host that cannot finish is reported', () => {
  const network = new SimNetwork({ seed: 1, latencyMs: 1 });
  const host = network.addHost({ name: 'agent/alone', upBytesPerSec: 1e6, downBytesPerSec: 1e6 });
  network.want(host, simBlob('nowhere', 1e6));
  network.run(30_000);
  network.checks.finished(host, 1);
  assert.deepEqual(network.checks.violations, [{ rule: 'every host that lives finishes', example: 'agent/alone', count: 1 }]);
});

test('the loss of a tracker is followed by announcements to the next', () => {
  const blob = simBlob('blob', 5e6);
  const network = new SimNetwork({ seed: 1, latencyMs: 1, trackerCount: 3 });
  const seeder = network.addHost({ name: 'origin/seeder', upBytesPerSec: 1e6, downBytesPerSec: 1e6 });
  network.seed(seeder, blob);
  network.run(100);
  network.killTracker(blob.digest);
  const late = network.addHost({ name: 'agent/late', upBytesPerSec: 1e6, downBytesPerSec: 1e6 });
  network.want(late, blob, 3000);
  network.run(60_000);
  assert.ok(late.completedMs.has(blob.digest));
});
