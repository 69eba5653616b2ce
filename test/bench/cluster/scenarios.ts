/** What `make bench-cluster` runs: scenarios of the simulator, small enough for one machine, and the figures they should reach. */
import { AppError } from '#core';
import { type Scenario, scenarioOf } from '#sim';

export interface BenchOptions {
  /** Of the scenarios with one blob; the others have their own. */
  readonly hostCount: number | undefined;
  readonly sizeBytes: number | undefined;
  readonly rateBytesPerSec: number | undefined;
}

/** 24 hosts at 1.25 MB/s: a byte costs more CPU the smaller the portions in which it comes, and two cores must stay idle for a part of the time. */
const rateDefault = 1_250_000;
const mega = 1_000_000;

const descriptions = {
  swarm: '24 hosts, 200 MB',
  kill: 'as swarm; 30 % of the hosts are killed halfway',
  liar: 'as swarm; one peer more sends corrupt pieces to everybody',
  weak: "as swarm; one host has a twentieth of the others' uplink",
  small: '10 hosts, 20 MB',
  'two-blobs': '10 hosts, 2 GB and 20 MB at the same time',
  plain: 'as swarm, from one docker-registry with the uplink of one origin',
} as const;

export type ScenarioName = keyof typeof descriptions;

export const scenarioNames = Object.keys(descriptions) as readonly ScenarioName[];

/** Throws `not-found` for an unknown name. */
export function parseScenarioName(text: string): ScenarioName {
  const found = scenarioNames.find((name) => name === text);
  if (found === undefined) throw new AppError('not-found', `no scenario is called ${text}; there are: ${scenarioNames.join(', ')}`);
  return found;
}

/** The blobs whose arrival is measured: the large one of two is only in the way of the small one, and its rest is not waited for. */
export function measuredBlobs({ name, blobs }: Scenario): Scenario['blobs'] {
  return name === 'two-blobs' ? blobs.filter((blob) => blob.name === 'small') : blobs;
}

/** As the simulator takes it. */
export function benchScenario(name: ScenarioName, { hostCount, sizeBytes, rateBytesPerSec }: BenchOptions): Scenario {
  const usual = scenarioOf('cluster', {
    hostCount,
    sizeBytes,
    upBytesPerSec: rateBytesPerSec ?? rateDefault,
    downBytesPerSec: rateBytesPerSec ?? rateDefault,
  });
  const own = { ...usual, name, description: descriptions[name], arrivalShare: 0 };
  const fast = { upBytesPerSec: rateBytesPerSec ?? 10 * mega, downBytesPerSec: rateBytesPerSec ?? 10 * mega, hostCount: 10 };
  const small = { name: 'small', sizeBytes: 20 * mega };
  switch (name) {
    case 'swarm':
    case 'plain':
      return own;
    case 'kill':
      return { ...own, deadShare: 0.3 };
    case 'liar':
      return { ...own, liarCount: 1 };
    case 'weak':
      return { ...own, weakCount: 1 };
    case 'small':
      return { ...own, ...fast, blobs: [small] };
    case 'two-blobs':
      return { ...own, ...fast, blobs: [{ name: 'large', sizeBytes: 2000 * mega }, small] };
    default:
      return name satisfies never;
  }
}
