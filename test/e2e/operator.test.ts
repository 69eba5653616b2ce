/** What an operator sees and changes on running nodes by the shoal command. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startCluster, type TestCluster } from '../support/cluster-process.ts';
import { until } from '../support/processes.ts';
import { pushBlob } from '../support/registry-client.ts';
import { tempDir } from '../support/temp.ts';

const root = tempDir('operator');
const mebi = 1024 * 1024;
let cluster: TestCluster;

before(async () => {
  cluster = await startCluster({ directory: join(root, 'cluster'), agents: 2, origins: 1 });
});

after(async () => cluster?.stop());

async function shoal(...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await cluster.shoal(...args);
  assert.equal(code, 0, stderr);
  return stdout;
}

test('a running download is seen as links and events, and obeys a limit that is changed meanwhile', async () => {
  const bytes = randomBytes(24 * mebi);
  const digest = await pushBlob(cluster.registry('proxy-1'), 'demo/operated', bytes);
  assert.match(await shoal('links', 'agent-1'), /no open link/);
  assert.match(await shoal('penalties', 'agent-1'), /avoids nobody/);
  assert.match(await shoal('limits', 'agent-1', '--set', 'ingress=1MiB/s', 'inboundLinks=7'), /ingressPerSecond\s+unlimited\s+1\.0 MiB\/s/);
  assert.match(await shoal('limits', 'agent-1'), /inboundLinks\s+7\s+20\s+1 to 1000/);

  const watching = shoal('events', 'agent-1', '--blob', digest, '--kind', 'piece-received', 'blob-complete', '--count', '97', '--json');
  // The watch is up before the download begins: its command has connected.
  await until('the watcher is connected', async () => ((await isWatched('agent-1')) ? true : undefined));
  const response = await fetch(`http://${cluster.registry('agent-1')}/v2/demo/operated/blobs/${digest}`);
  const links = JSON.parse(await shoal('links', 'agent-1', '--json')) as readonly { peer: string; direction: string; digest: string }[];
  assert.deepEqual(
    links.map((link) => [link.peer, link.direction, link.digest]),
    [['origin/origin-1', 'outbound', digest]],
  );
  const startedMs = performance.now();
  await shoal('limits', 'agent-1', '--set', 'ingress=0');
  assert.deepEqual(Buffer.from(await response.arrayBuffer()), bytes);
  assert.ok(performance.now() - startedMs < 15_000, 'at 1 MiB/s it would have taken more than 20 s');
  const events = (await watching)
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { type: string; digest: string });
  assert.equal(events.filter(({ type }) => type === 'piece-received').length, 96);
  assert.deepEqual([events.at(-1)?.type, events.at(-1)?.digest], ['blob-complete', digest]);
});

test('a reload applies the limits of the changed file and names what needs a restart; a faulty file changes nothing', async () => {
  const file = join(cluster.directory, 'config/agent-2.yaml');
  const text = readFileSync(file, 'utf8');
  assert.match(await shoal('reload', 'agent-2'), /Nothing is different/);
  writeFileSync(file, text.replace(/level: .*/, 'level: debug').replace(/ingressPerSecond: .*/, 'ingressPerSecond: 30MiB'));
  const answer = await shoal('reload', 'agent-2');
  assert.match(answer, /swarm\.ingressPerSecond\s+0\s+31457280/);
  assert.match(answer, /after a restart: log\.level/);
  assert.match(await shoal('limits', 'agent-2'), /ingressPerSecond\s+30\.0 MiB\/s/);

  writeFileSync(file, text.replace(/ingressPerSecond: .*/, 'ingressPerSecond: 40MiB'));
  cluster.kill('agent-2', 'SIGHUP');
  await until('the signal is obeyed', async () => (/40\.0 MiB\/s/.test(await shoal('limits', 'agent-2')) ? true : undefined));

  writeFileSync(file, text.replace(/ingressPerSecond: .*/, 'ingresPerSecond: 1'));
  const { code, stderr } = await cluster.shoal('reload', 'agent-2');
  assert.equal(code, 1);
  assert.match(stderr, /did you mean swarm\.ingressPerSecond/);
  assert.match(await shoal('limits', 'agent-2'), /ingressPerSecond\s+40\.0 MiB\/s/);
});

/** Whether a stream of events is open at the node: the one of the command that was started. */
async function isWatched(agent: string): Promise<boolean> {
  return cluster.log(agent).includes('network events are watched');
}
