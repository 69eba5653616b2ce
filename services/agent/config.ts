/** The agent's config file. An example stands in deploy/config/agent.yaml. */
import { z } from 'zod';
import { commonParts, members, originsPart, registryPart, storePart, swarmPart } from '#runtime';

export const agentConfig = z.strictObject({
  ...commonParts,
  registry: registryPart,
  store: storePart,
  swarm: swarmPart,
  origins: originsPart,
  trackers: members,
  buildIndexes: members,
});

export type AgentConfig = z.infer<typeof agentConfig>;
