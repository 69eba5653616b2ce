/** The tracker's config file. An example stands in deploy/config/tracker.yaml. */
import { z } from 'zod';
import { commonParts, originsPart } from '#runtime';

export const trackerConfig = z.strictObject({
  ...commonParts,
  origins: originsPart,
});

export type TrackerConfig = z.infer<typeof trackerConfig>;
