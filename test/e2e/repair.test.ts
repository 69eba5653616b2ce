/** Origins that lose their disks while the origins' disks are all there is: copies come back by themselves, so that the next loss costs nothing. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { Digest } from '#core';
import { Ring } from '#placement';
import { type RestartedNode, startCluster, type TestCluster } from '../support/cluster-process.ts';
import { end, until } from '../support/processes.ts';
import { pushBlob } from '../support/registry-client.ts';
import { tempDir } from '../support/temp.ts';

const originIds = ['origin-1', 'origin-2', 'origin-3'];
const ring = new Ring(originIds.map((id) => ({ id })));
const restarted = new Map<string, RestartedNode>();
let cluster: TestCluster;

before(async () => {
  const directory = tempDir('repair');
  const originConfig = join(directory, 'origin.yaml');
  // Half a minute is for restarts of services, not for tests. None comes by itself in time.
  writeFileSync(originConfig, 'backend: null\nrepair:\n  interval: 1h\n  downAfter: 1s\n');
  cluster = await startCluster({ directory, agents: 1, args: ['--replicas', '2', '--origin-config', originConfig] });
});

after(async () => {
  for (const node of restarted.values()) await node[Symbol.asyncDispose]();
  await cluster?.stop();
});

interface Pushed {
  readonly digest: Digest;
  /** The two owners, and the origin that has nothing. */
  readonly first: string;
  readonly second: string;
  readonly third: string;
}

/** A blob of which there are two copies, at its owners: its upload was at one of them. */
async function pushed(sizeBytes: number): Promise<Pushed> {
  for (let attempt = 1; attempt <= 10; attempt += 1) {
    const digest = (await pushBlob(cluster.registry('proxy-1'), 'demo/app', randomBytes(sizeBytes))) as Digest;
    const [first, second, third] = ring.order(digest).map(({ id }) => id);
    assert.ok(first !== undefined && second !== undefined && third !== undefined);
    await untilHeld(digest, first);
    await untilHeld(digest, second);
    if (!isHeld(digest, third)) return { digest, first, second, third };
  }
  assert.fail('every upload went to the third origin');
}

function isHeld(digest: Digest, id: string): boolean {
  return existsSync(join(cluster.directory, 'data', id, 'blobs', 'sha256', digest.slice(7, 9), digest.slice(7)));
}

async function untilHeld(digest: Digest, id: string): Promise<void> {
  await until(`${id} holds the blob`, async () => (isHeld(digest, id) ? true : undefined), 20_000);
}

/** As a disk dies: without a word to anybody. */
async function loseWithDisk(id: string): Promise<void> {
  const again = restarted.get(id);
  if (again === undefined) cluster.kill(id, 'SIGKILL');
  else await end(again.child, 'SIGKILL');
  rmSync(join(cluster.directory, 'data', id), { recursive: true, maxRetries: 10 });
}

async function startAgain(id: string): Promise<void> {
  restarted.set(id, await cluster.restart(id));
}

async function assertPulled(digest: Digest): Promise<void> {
  const response = await fetch(`http://${cluster.registry('agent-1')}/v2/demo/app/blobs/${digest}`);
  assert.equal(response.status, 200);
  const bytes = Buffer.from(await response.arrayBuffer());
  assert.equal(`sha256:${createHash('sha256').update(bytes).digest('hex')}`, digest);
}

test('an owner that comes back with an empty disk brings back what it owns, so the other owner can be lost too', async () => {
  const large = await pushed(9_000_000);
  const { first, second } = large;
  await loseWithDisk(first);
  await startAgain(first);
  await untilHeld(large.digest, first);
  await loseWithDisk(second);
  await assertPulled(large.digest);
  await startAgain(second);
  await untilHeld(large.digest, second);
});

test('the next origin in ring order takes the copy of an owner that stays away, so the other owner can be lost too', async () => {
  const { digest, first, second, third } = await pushed(3_000_000);
  await loseWithDisk(second);
  await untilHeld(digest, third);
  const { stdout } = await cluster.shoal('status', '--json');
  assert.match(stdout, /"name": "repair",\s*"healthy": true,\s*"message": "0 min ago: [1-9][0-9]* brought here/);
  await loseWithDisk(first);
  await assertPulled(digest);
});
