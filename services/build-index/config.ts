/** The build-index's config file. An example stands in deploy/config/build-index.yaml. */
import { z } from 'zod';
import { commonParts, durationMs } from '#runtime';

const yearMs = 366 * 86_400_000;

const patterns = z.array(z.string().min(1).max(256)).max(100);

/** Which tags and untagged manifests may go. Tags go only by `keepLast` or `keepFor`; with both, one of them is enough to stay. */
const retentionRule = z.strictObject({
  /** Repositories it holds for; the first rule that matches a repository holds there. `*` is any text without a slash, `**` any text. */
  repositories: patterns.min(1),
  /** Tags that may go; the others stay. */
  tags: patterns.min(1).default(['**']),
  /** Of these, tags that stay all the same. */
  protect: patterns.default([]),
  /** So many of these tags stay, the latest set ones. */
  keepLast: z.number().int().min(0).max(100_000).optional(),
  /** Tags stay for this long after they were set. */
  keepFor: durationMs(0, 10 * yearMs).optional(),
  /** Manifests stay for this long after they lost their last tag or were last pushed; without it for ever. */
  untaggedFor: durationMs(0, 10 * yearMs).optional(),
});

export const buildIndexConfig = z.strictObject({
  ...commonParts,
  index: z.strictObject({
    /** Folder of the embedded database. */
    directory: z.string().min(1),
  }),
  gc: z
    .strictObject({
      /** Between two collections of garbage; 0 turns them off (`shoal gc` still works). */
      interval: durationMs(0, yearMs).default(6 * 3_600_000),
      /** What a push wanted within this time stays: an upload, a mount, or a question whether it is there. Longer than any push. */
      grace: durationMs(0, yearMs).default(86_400_000),
      /** What is kept of deleted tags goes after this time. */
      tombstones: durationMs(3_600_000, 10 * yearMs).default(30 * 86_400_000),
      retention: z.array(retentionRule).max(1000).default([]),
    })
    .prefault({}),
});

export type BuildIndexConfig = z.infer<typeof buildIndexConfig>;
