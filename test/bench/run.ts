/** `make bench`: every benchmark program, one after another. `make bench ARGS=one-hop` runs one of them. */
import { spawnSync } from 'node:child_process';

const programs: Readonly<Record<string, string>> = {
  'one-hop': 'pieces between two processes against a raw mTLS socket',
  peer: 'a blob between two nodes with disks',
  cpu: 'where each CPU-second per GB goes',
  memory: 'RSS of agents that download and seed a 10 GB blob (needs 21 GB of disk)',
  storage: 'the blob store alone',
  events: 'what network events cost while nobody listens',
  tracker: 'announce streams of 3,000 agents on one tracker, and its recovery',
  'first-byte': 'from a GET of a cold 1 GB blob at an agent to its first byte',
  tiny: 'cold 10 KB blobs at an agent',
  registry: "push and pull beside Debian's docker-registry (needs root, docker.io and docker-registry)",
};

const chosen = process.argv.slice(2);
const unknown = chosen.filter((name) => !(name in programs));
if (unknown.length > 0) {
  process.stderr.write(`bench: no program ${unknown.join(', ')}; there are: ${Object.keys(programs).join(', ')}\n`);
  process.exit(2);
}
for (const [name, what] of Object.entries(programs)) {
  if (chosen.length > 0 && !chosen.includes(name)) continue;
  process.stdout.write(`\n== ${name}: ${what}\n`);
  const { status } = spawnSync(process.execPath, ['--import', 'tsx', `test/bench/${name}.ts`], { stdio: 'inherit' });
  if (status !== 0) process.exitCode = 1;
}
