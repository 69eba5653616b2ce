/** The proxy's config file. An example stands in deploy/config/proxy.yaml. */
import { z } from 'zod';
import { gatewayParts } from '#access';
import { commonParts, members, networkEventsPart, originsPart, storePart, swarmPart } from '#runtime';

export const proxyConfig = z.strictObject({
  ...commonParts,
  ...gatewayParts,
  store: storePart,
  /** Whether manifests, tags and blobs can be deleted through the registry. */
  deletes: z.boolean().default(true),
  /** Whether a manifest may be pushed without what it refers to. Nobody is told then that a push forgot a layer. */
  sparseManifests: z.boolean().default(false),
  swarm: swarmPart,
  networkEvents: networkEventsPart,
  origins: originsPart,
  /** Owners that must hold a manifest on disk before its push is acknowledged; the same as at the origins. */
  writeQuorum: z.number().int().min(1).max(9).default(2),
  trackers: members,
  buildIndexes: members,
});

export type ProxyConfig = z.infer<typeof proxyConfig>;
