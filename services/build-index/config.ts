/** The build-index's config file. An example stands in deploy/config/build-index.yaml. */
import { z } from 'zod';
import { commonParts } from '#runtime';

export const buildIndexConfig = z.strictObject({
  ...commonParts,
  index: z.strictObject({
    /** Folder of the embedded database. */
    directory: z.string().min(1),
  }),
});

export type BuildIndexConfig = z.infer<typeof buildIndexConfig>;
