/** The proxy's config file. An example stands in deploy/config/proxy.yaml. */
import { z } from 'zod';
import { gatewayParts } from '#access';
import { commonParts, durationMs, members, networkEventsPart, originsPart, registryPart, storePart, swarmPart } from '#runtime';

export const proxyConfig = z.strictObject({
  ...commonParts,
  ...gatewayParts,
  registry: registryPart,
  store: storePart,
  uploads: z
    .strictObject({
      /** A session without a byte for this long is ended. */
      expiry: durationMs(60_000, 30 * 86_400_000).default(86_400_000),
      /** Open sessions at one time. */
      sessions: z.number().int().min(1).max(100_000).default(1000),
    })
    .prefault({}),
  /** Whether manifests, tags and blobs can be deleted through the registry. */
  deletes: z.boolean().default(true),
  swarm: swarmPart,
  networkEvents: networkEventsPart,
  origins: originsPart,
  /** Owners that must hold a blob on disk before a push is acknowledged; fewer when fewer are configured. */
  writeQuorum: z.number().int().min(1).max(9).default(2),
  trackers: members,
  buildIndexes: members,
});

export type ProxyConfig = z.infer<typeof proxyConfig>;
