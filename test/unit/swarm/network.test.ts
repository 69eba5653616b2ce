/** Whole swarms of engines in virtual time. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { Bitfield, type Metainfo } from '#core';
import { type NetworkOptions, type SimHost, SimNetwork } from '#sim';
import { blobOf } from '#test/support/swarm-blob';

const rate = 12_500_000;
const seeds = [1, 2, 3];

function swarmOf(count: number, blob: Metainfo, options: Partial<NetworkOptions> & { readonly seed: number }) {
  const network = new SimNetwork({ latencyMs: 0.5, ...options });
  const seeder = network.addHost({ name: 'origin/seeder', upBytesPerSec: rate, downBytesPerSec: rate });
  network.seed(seeder, blob);
  const hosts = Array.from({ length: count }, (_, at) =>
    network.addHost({ name: `agent/h${at}`, upBytesPerSec: rate, downBytesPerSec: rate }),
  );
  for (const host of hosts) network.want(host, blob, 1 + (host.index % 20));
  return { network, seeder, hosts, idealMs: (blob.sizeBytes / rate) * 1000 };
}

function assertComplete(hosts: readonly SimHost[], blob: Metainfo): void {
  for (const host of hosts) {
    assert.ok(host.completedMs.has(blob.digest), `${host.peer} is complete`);
    for (const count of host.verifiedCounts.get(blob.digest) ?? []) assert.equal(count, 1, 'a piece is verified once');
  }
}

for (const seed of seeds) {
  test(`one seeder feeds twenty hosts, sends few copies and nobody breaks a bound (seed ${seed})`, () => {
    const blob = blobOf('blob', 200);
    const { network, seeder, hosts, idealMs } = swarmOf(20, blob, { seed });
    network.run(idealMs * 10, () => hosts.every((host) => host.completedMs.has(blob.digest)));
    assertComplete(hosts, blob);
    assert.ok(seeder.sentBytes < 3 * blob.sizeBytes, `${seeder.sentBytes / blob.sizeBytes} copies`);
    const last = Math.max(...hosts.map((host) => host.completedMs.get(blob.digest) ?? 0));
    assert.ok(last < 1.6 * idealMs, `${last / idealMs} of the bound`);
    for (const host of hosts) {
      assert.ok(host.outboundPeak <= 20);
      assert.ok(host.inFlightBytesPeak <= 96 * 1024 * 1024);
      assert.ok(host.droppedBytes <= 0.05 * blob.sizeBytes, `${host.droppedBytes / blob.sizeBytes} received twice`);
    }
  });
}

test('the same seed gives the same run', () => {
  const runs = [1, 1].map((seed) => {
    const blob = blobOf('blob', 60);
    const { network, hosts, idealMs } = swarmOf(12, blob, { seed });
    network.run(idealMs * 10);
    return [network.eventCount, ...hosts.map((host) => host.completedMs.get(blob.digest))];
  });
  assert.deepEqual(runs[0], runs[1]);
});

test('a finished swarm goes quiet', () => {
  const blob = blobOf('blob', 40);
  const { network, hosts } = swarmOf(5, blob, { seed: 1 });
  network.run(60_000);
  assertComplete(hosts, blob);
  const before = network.eventCount;
  network.run(6_000_000);
  assert.equal(network.eventCount, before);
});

test('a corrupt peer is found out and the others finish', () => {
  const blob = blobOf('blob', 100);
  const { network, hosts, idealMs } = swarmOf(10, blob, { seed: 4 });
  const liar = network.addHost({ name: 'agent/liar', upBytesPerSec: rate, downBytesPerSec: rate, corrupt: true });
  network.seed(liar, blob);
  network.run(idealMs * 10);
  assertComplete(hosts, blob);
  const corrupt = hosts.reduce((sum, host) => sum + host.corruptCount, 0);
  assert.ok(corrupt >= 1 && corrupt <= 60, `${corrupt} corrupt pieces`);
});

test('dead peers in the handout delay nobody', () => {
  const blob = blobOf('blob', 100);
  const { network, hosts, idealMs } = swarmOf(10, blob, { seed: 5 });
  const dead = Array.from({ length: 10 }, (_, at) =>
    network.addHost({ name: `agent/dead${at}`, upBytesPerSec: rate, downBytesPerSec: rate }),
  );
  for (const host of dead) {
    network
      .roster(blob.digest)
      .apply({ type: 'blob-announced', peer: host.peer, session: 1, digest: blob.digest, complete: true, haveCount: 100 });
    host.alive = false;
  }
  network.run(idealMs * 10);
  assertComplete(hosts, blob);
  assert.ok(Math.max(...hosts.map((host) => host.completedMs.get(blob.digest) ?? 0)) < 2.5 * idealMs);
});

test('the swarm finishes without its seeder once one copy is out', () => {
  const blob = blobOf('blob', 100);
  const { network, seeder, hosts, idealMs } = swarmOf(12, blob, { seed: 6 });
  const isOut = (): boolean => {
    const seen = new Set<number>();
    for (const host of hosts)
      host.verifiedCounts.get(blob.digest)?.forEach((count, piece) => {
        if (count > 0) seen.add(piece);
      });
    return seen.size === blob.pieceCount;
  };
  network.run(idealMs * 10, isOut);
  assert.ok(seeder.sentBytes < 1.6 * blob.sizeBytes, `one copy is out after ${seeder.sentBytes / blob.sizeBytes}`);
  assert.ok(hosts.some((host) => !host.completedMs.has(blob.digest)));
  network.kill(seeder);
  network.run(idealMs * 20);
  assertComplete(hosts, blob);
});

test('hosts that fall silent take nobody with them', () => {
  const blob = blobOf('blob', 100);
  const { network, hosts, idealMs } = swarmOf(12, blob, { seed: 7 });
  network.at(idealMs / 2, () => {
    for (const host of hosts.slice(0, 4)) network.kill(host, { silent: true });
  });
  network.run(120_000);
  assertComplete(hosts.slice(4), blob);
});

test('a slow source holds nobody back', () => {
  const blob = blobOf('blob', 100);
  const { network, hosts, idealMs } = swarmOf(10, blob, { seed: 8 });
  const slow = network.addHost({ name: 'agent/slow', upBytesPerSec: rate / 100, downBytesPerSec: rate });
  network.seed(slow, blob);
  network.run(120_000);
  assertComplete(hosts, blob);
  const last = Math.max(...hosts.map((host) => host.completedMs.get(blob.digest) ?? 0));
  assert.ok(last < 3.5 * idealMs, `${last / idealMs} of the bound`);
});

test('two blobs share the hosts and a small one is not stuck behind a large one', () => {
  const large = blobOf('large', 400);
  const small = blobOf('small', 8);
  const { network, seeder, hosts, idealMs } = swarmOf(10, large, { seed: 9 });
  network.seed(seeder, small);
  for (const host of hosts) network.want(host, small, idealMs / 4);
  network.run(idealMs * 10);
  assertComplete(hosts, large);
  assertComplete(hosts, small);
  for (const host of hosts) {
    const tookMs = (host.completedMs.get(small.digest) ?? 0) - idealMs / 4;
    assert.ok(tookMs < idealMs / 2, `${host.peer} waited ${tookMs} ms for the small blob`);
  }
});

test('a late joiner of a large blob finds slots and finishes at full speed', () => {
  const blob = blobOf('blob', 300);
  const { network, hosts, idealMs } = swarmOf(30, blob, { seed: 10 });
  const late = network.addHost({ name: 'agent/late', upBytesPerSec: rate, downBytesPerSec: rate });
  network.want(late, blob, idealMs / 2);
  network.run(idealMs * 10);
  assertComplete(hosts, blob);
  assertComplete([late], blob);
  assert.ok((late.completedMs.get(blob.digest) ?? 0) < 2.5 * idealMs);
});

test('a host that resumes with half of the pieces fetches the other half', () => {
  const blob = blobOf('blob', 100);
  const { network, idealMs } = swarmOf(3, blob, { seed: 11 });
  const have = new Bitfield(100);
  for (let piece = 0; piece < 100; piece += 2) have.add(piece);
  const half = network.addHost({ name: 'agent/half', upBytesPerSec: rate, downBytesPerSec: rate });
  network.want(half, blob, 0, have);
  network.run(idealMs * 10);
  assert.ok(half.completedMs.has(blob.digest));
  assert.ok(half.receivedBytes <= 0.6 * blob.sizeBytes);
});
