/** What a simulation is about: hosts, blobs, rates, and what goes wrong when. */
import { AppError } from '#core';
import type { SwarmOptions } from '#swarm';

export interface ScenarioBlob {
  readonly name: string;
  readonly sizeBytes: number;
}

/** Counts are whole, times milliseconds, shares 0 to 1. */
export interface Scenario {
  readonly name: string;
  /** One line for people. */
  readonly description: string;
  readonly seed: number;
  /** Agents; every one wants every blob. */
  readonly hostCount: number;
  readonly blobs: readonly ScenarioBlob[];
  /** Of every host, origins included. */
  readonly upBytesPerSec: number;
  readonly downBytesPerSec: number;
  /** One way. */
  readonly latencyMs: number;
  readonly trackerCount: number;
  readonly originCount: number;
  /** Owners of each blob. */
  readonly replicas: number;
  /** Hosts come at random within this time, in shares of the bound; 0.002 of it at least. */
  readonly arrivalShare: number;
  /** Hosts come at so many moments instead, in equal groups; 0 for one by one. */
  readonly waveCount: number;
  /** The last so many hosts come at the end of that time. */
  readonly lateCount: number;
  /** This share of the hosts has a tenth of the rates. */
  readonly slowShare: number;
  /** This share of the hosts dies halfway. */
  readonly deadShare: number;
  /** The first so many hosts have a twentieth of the uplink. */
  readonly weakCount: number;
  /** So many further hosts say that they have everything and send nothing but corrupt pieces. */
  readonly liarCount: number;
  /** Every host reads its blobs from the start to the end while they come, as container runtimes do. */
  readonly reading: boolean;
  /** When the first tracker of the first blob dies, in shares of the bound; never when undefined. */
  readonly trackerLossAt: number | undefined;
  /** When all but one of the first blob's owners die, in shares of the bound; never when undefined. */
  readonly originLossAt: number | undefined;
  readonly swarm: Partial<SwarmOptions>;
}

/** What a caller may change about a named scenario. `sizeBytes` is that of all blobs together; their proportions stay. */
export interface ScenarioOverrides {
  readonly seed?: number | undefined;
  readonly hostCount?: number | undefined;
  readonly sizeBytes?: number | undefined;
  readonly upBytesPerSec?: number | undefined;
  readonly downBytesPerSec?: number | undefined;
  readonly swarm?: Partial<SwarmOptions> | undefined;
}

const mega = 1_000_000;
const mebi = 1024 * 1024;

const usual: Scenario = {
  name: 'usual',
  description: '',
  seed: 1,
  hostCount: 500,
  blobs: [{ name: 'layer', sizeBytes: 500 * mega }],
  upBytesPerSec: 100 * mega,
  downBytesPerSec: 100 * mega,
  latencyMs: 0.25,
  trackerCount: 3,
  originCount: 3,
  replicas: 3,
  arrivalShare: 0.01,
  waveCount: 0,
  lateCount: 0,
  slowShare: 0,
  deadShare: 0,
  weakCount: 0,
  liarCount: 0,
  reading: false,
  trackerLossAt: undefined,
  originLossAt: undefined,
  swarm: {},
};

const kraken: Partial<Scenario> = { upBytesPerSec: 300 * mega, downBytesPerSec: 300 * mega, trackerCount: 5, originCount: 5 };

/** The named scenarios, by name. */
export const scenarios: ReadonlyMap<string, Scenario> = new Map(
  [
    scenario('kraken', "Kraken's benchmark: 2600 hosts, 2 blobs of 1.5 GB, 300 MB/s", {
      ...kraken,
      hostCount: 2600,
      blobs: [
        { name: 'first', sizeBytes: 1500 * mega },
        { name: 'second', sizeBytes: 1500 * mega },
      ],
    }),
    scenario('large', '15,000 hosts, 1.5 GB, 300 MB/s', {
      ...kraken,
      hostCount: 15_000,
      blobs: [{ name: 'layer', sizeBytes: 1500 * mega }],
    }),
    scenario('flash-crowd', '1000 hosts at the same moment, 500 MB', { hostCount: 1000, arrivalShare: 0 }),
    scenario('staggered', '500 hosts, one after another over three times the bound', { arrivalShare: 3 }),
    scenario('rolling-update', '500 hosts in ten groups over five times the bound', { arrivalShare: 5, waveCount: 10 }),
    scenario('layer', 'a layer of 20 MiB to 1000 hosts at 12.5 MB/s', {
      hostCount: 1000,
      blobs: [{ name: 'layer', sizeBytes: 20 * mebi }],
      upBytesPerSec: 12.5 * mega,
      downBytesPerSec: 12.5 * mega,
    }),
    scenario('late-joiner', 'a blob of 100 GB to 8 hosts at 1 GB/s; the last comes when the others have half of it', {
      hostCount: 8,
      blobs: [{ name: 'huge', sizeBytes: 100_000 * mega }],
      upBytesPerSec: 1000 * mega,
      downBytesPerSec: 1000 * mega,
      arrivalShare: 0.5,
      lateCount: 1,
    }),
    scenario('slow-tenth', '500 hosts of which a tenth is ten times slower', { slowShare: 0.1 }),
    scenario('loss', '500 hosts of which 30 % die halfway', { deadShare: 0.3 }),
    scenario('tracker-loss', '300 hosts; the tracker in charge dies early', { hostCount: 300, trackerLossAt: 0.1 }),
    scenario('origin-loss', '300 hosts; two of the three owners die early', { hostCount: 300, originLossAt: 0.3 }),
    scenario('two-blobs', 'a blob of 2 GB and one of 20 MB to 10 hosts', {
      hostCount: 10,
      blobs: [
        { name: 'large', sizeBytes: 2000 * mega },
        { name: 'small', sizeBytes: 20 * mega },
      ],
    }),
    scenario('starve', '400 hosts that want more links than there are slots', {
      hostCount: 400,
      swarm: { outboundLinksPerBlob: 20, inboundLinksPerBlob: 12 },
    }),
    scenario('cluster', '24 hosts at 10 MB/s, 200 MB: small enough to be run for real', {
      hostCount: 24,
      blobs: [{ name: 'layer', sizeBytes: 200 * mega }],
      upBytesPerSec: 10 * mega,
      downBytesPerSec: 10 * mega,
      trackerCount: 1,
      reading: true,
    }),
  ].map((each) => [each.name, each]),
);

/** A named scenario with overrides. Throws `not-found` for an unknown name, `invalid-argument` for a value out of bounds. */
export function scenarioOf(name: string, overrides: ScenarioOverrides = {}): Scenario {
  const named = scenarios.get(name);
  if (named === undefined) {
    throw new AppError('not-found', `no scenario is called ${name}; there are: ${Array.from(scenarios.keys()).join(', ')}`);
  }
  const { seed = named.seed, hostCount = named.hostCount, upBytesPerSec = named.upBytesPerSec } = overrides;
  const { downBytesPerSec = named.downBytesPerSec, sizeBytes } = overrides;
  const allBytes = named.blobs.reduce((sum, blob) => sum + blob.sizeBytes, 0);
  const scale = sizeBytes === undefined ? 1 : sizeBytes / allBytes;
  bounded('hosts', hostCount, 1, 19_000);
  bounded('size', sizeBytes ?? allBytes, 1, 2 ** 40);
  bounded('up', upBytesPerSec, 1000, 2 ** 40);
  bounded('down', downBytesPerSec, 1000, 2 ** 40);
  bounded('seed', seed, 0, 2 ** 31);
  return {
    ...named,
    seed,
    hostCount,
    upBytesPerSec,
    downBytesPerSec,
    blobs: named.blobs.map((blob) => ({ ...blob, sizeBytes: Math.max(1, Math.round(blob.sizeBytes * scale)) })),
    swarm: { ...named.swarm, ...overrides.swarm },
  };
}

function scenario(name: string, description: string, parts: Partial<Scenario>): Scenario {
  return { ...usual, ...parts, name, description };
}

function bounded(name: string, value: number, min: number, max: number): void {
  if (Number.isFinite(value) && value >= min && value <= max) return;
  throw new AppError('invalid-argument', `${name} must be from ${min} to ${max}`, { data: { name, value } });
}
