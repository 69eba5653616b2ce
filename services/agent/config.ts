/** The agent's config file. An example stands in deploy/config/agent.yaml. */
import { z } from 'zod';
import { gatewayParts } from '#access';
import { commonParts, members, networkEventsPart, originsPart, storePart, swarmPart } from '#runtime';

export const agentConfig = z.strictObject({
  ...commonParts,
  ...gatewayParts,
  store: storePart,
  swarm: swarmPart,
  networkEvents: networkEventsPart,
  origins: originsPart,
  trackers: members,
  buildIndexes: members,
});

export type AgentConfig = z.infer<typeof agentConfig>;
