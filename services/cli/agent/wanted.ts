/** What is to stand in one configuration file of a runtime. */
import type { Runtime } from './settings.ts';

export interface WantedFile {
  readonly runtime: Runtime;
  /** On the host, absolute. */
  readonly path: string;
  /** The file with ours in it; `base` is the file without, undefined when there is none. Throws `failed-precondition` when they cannot live together. */
  readonly add: (base: string | undefined) => string;
}

/** Everything one runtime needs. */
export interface RuntimePlan {
  readonly files: readonly WantedFile[];
  /** What a person should know or do besides. */
  readonly notes: readonly string[];
}
