/** The origin's config file. An example stands in deploy/config/origin.yaml. */
import { z } from 'zod';
import { commonParts, durationMs, members, networkEventsPart, originsPart, storePart, swarmPart } from '#runtime';

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
});

export type OriginConfig = z.infer<typeof originConfig>;
