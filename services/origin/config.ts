/** The origin's config file. An example stands in deploy/config/origin.yaml. */
import { z } from 'zod';
import { commonParts, durationMs, members, networkEventsPart, originsPart, sizeBytes, storePart, swarmPart } from '#runtime';
import { upstreamsPart } from './upstream/config.ts';

const fileBackend = z.strictObject({
  type: z.literal('file'),
  /** A folder on durable storage that every origin mounts. */
  directory: z.string().min(1),
});

export const originConfig = z.strictObject({
  ...commonParts,
  store: storePart,
  swarm: swarmPart,
  networkEvents: networkEventsPart,
  origins: originsPart,
  trackers: members,
  /** Who says which blobs are still wanted; without one no garbage is collected here. Needed for upstreams. */
  buildIndexes: members.optional(),
  gc: z
    .strictObject({
      /** Between two collections of garbage; 0 turns them off (`shoal gc` still works). */
      interval: durationMs(0, 366 * 86_400_000).default(6 * 3_600_000),
      /** How long a blob must have been without a repository before its bytes go. The build-index has kept its link for its own grace before. */
      grace: durationMs(0, 366 * 86_400_000).default(3_600_000),
    })
    .prefault({}),
  /** Other registries that images are pulled through from; the same on every origin. */
  upstreams: upstreamsPart,
  uploads: z
    .strictObject({
      /** A session without a byte for this long is ended. */
      expiry: durationMs(60_000, 30 * 86_400_000).default(86_400_000),
      /** Open sessions at one time. */
      sessions: z.number().int().min(1).max(100_000).default(1000),
    })
    .prefault({}),
  /** Owners that must hold a blob on disk before a push is acknowledged; fewer when fewer are configured. */
  writeQuorum: z.number().int().min(1).max(9).default(2),
  /** Durable storage behind the origins; without one the origins' disks are all there is. */
  backend: z.discriminatedUnion('type', [fileBackend]).optional(),
  writeBack: z
    .strictObject({
      /** Blobs written to storage at the same time. */
      concurrency: z.number().int().min(1).max(64).default(4),
      /** How much longer each further owner of a blob waits before it writes, in case those before it are lost. */
      stagger: durationMs(0, 86_400_000).default(60_000),
      /** The longest pause between two attempts at one blob. */
      retryMax: durationMs(1000, 86_400_000).default(300_000),
    })
    .prefault({}),
  /** Bringing back blobs that this origin should hold and lacks, after a disk or another origin was lost. */
  repair: z
    .strictObject({
      /** Between two rounds; others come when origins start, come back or stay away. 0: only these. */
      interval: durationMs(0, 366 * 86_400_000).default(600_000),
      /** How long an origin must be down before the next in ring order takes copies in its place: longer than a restart. */
      downAfter: durationMs(0, 366 * 86_400_000).default(30_000),
      /** Bytes per second that repairs take from other origins, on average over blobs; 0 is unlimited. */
      ingressPerSecond: sizeBytes(0, 2 ** 40).default(64 * 2 ** 20),
    })
    .prefault({}),
});

export type OriginConfig = z.infer<typeof originConfig>;
