/** The same pull from one plain registry: Debian's docker-registry on a host with the uplink of one origin. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AppError } from '#core';
import { percentiles, type Scenario } from '#sim';
import { pushStream, randomBlob } from './blobs.ts';
import { BenchNetwork } from './namespaces.ts';
import { type HostProcess, preparePull, startOn, stopProcess } from './nodes.ts';
import { idealOf } from './run.ts';
import { usageOf } from './usage.ts';

const port = 5000;
const repository = 'bench/blobs';
const settleMs = 1000;
const startAttemptsMax = 200;

export interface PlainRun {
  readonly scenario: Scenario;
  /** T* of the swarm with the same hosts, for comparison. */
  readonly idealMs: number;
  readonly finishMs: ReturnType<typeof percentiles>;
  readonly cpuSeconds: number;
  readonly peakRssBytes: number;
}

/** Throws `failed-precondition` when docker-registry is not installed. */
export async function runPlain(scenario: Scenario, directory: string): Promise<PlainRun> {
  await mkdir(directory, { recursive: true });
  await using network = await BenchNetwork.open();
  const server = await network.addHost('registry');
  const registry = `${server.address}:${port}`;
  const config = join(directory, 'config.json');
  const storage = { filesystem: { rootdirectory: join(directory, 'data') } };
  const quiet = { level: 'error', accesslog: { disabled: true } };
  await writeFile(config, JSON.stringify({ version: 0.1, log: quiet, storage, http: { addr: registry } }));
  const running = await startOn(server, ['docker-registry', 'serve', config], join(directory, 'registry.log'));
  try {
    await untilAnswers(registry, running);
    const [blob] = scenario.blobs.map(randomBlob);
    if (blob === undefined) throw new AppError('invalid-argument', 'the scenario has no blob');
    await pushStream(registry, repository, blob);
    for (let index = 1; index <= scenario.hostCount; index += 1) await network.addHost(`host-${index}`);
    for (const host of network.hosts.values()) await network.limit(host, scenario);
    const hosts = Array.from(network.hosts.values()).filter(({ name }) => name !== server.name);
    const pulls = hosts.map((host) => preparePull(host, `http://${registry}/v2/${repository}/blobs/${blob.digest}`, blob.sizeBytes));
    await sleep(settleMs);
    const before = usageOf(running.child.pid ?? 0)?.cpuSeconds ?? 0;
    for (const pull of pulls) pull.go();
    const tookMs = await Promise.all(pulls.map(({ tookMs: took }) => took));
    const usage = usageOf(running.child.pid ?? 0);
    return {
      scenario,
      idealMs: idealOf(scenario),
      finishMs: percentiles(tookMs),
      cpuSeconds: (usage?.cpuSeconds ?? 0) - before,
      peakRssBytes: usage?.peakRssBytes ?? 0,
    };
  } finally {
    await stopProcess(running);
    await rm(directory, { recursive: true, force: true });
  }
}

async function untilAnswers(registry: string, { exited }: HostProcess): Promise<void> {
  let ended: string | undefined;
  void exited.then((how) => {
    ended = how;
  });
  for (let attempt = 0; attempt < startAttemptsMax; attempt += 1) {
    if (ended !== undefined) {
      throw new AppError('failed-precondition', `docker-registry ended (${ended}): is Debian's docker-registry installed?`);
    }
    const answered = await fetch(`http://${registry}/v2/`).then(
      ({ ok }) => ok,
      () => false,
    );
    if (answered) return;
    await sleep(50);
  }
  throw new AppError('deadline-exceeded', 'docker-registry does not answer');
}
