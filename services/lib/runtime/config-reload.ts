/** Reads the config file again while the process runs: applies what can be applied, and says what needs a restart. */
import { isDeepStrictEqual } from 'node:util';
import type { z } from 'zod';

/** A value that is different now. */
export interface ConfigChange {
  /** With dots: `swarm.egressPerSecond`. */
  readonly key: string;
  readonly before: unknown;
  readonly after: unknown;
}

export interface ReloadOutcome {
  readonly changes: readonly ConfigChange[];
  /** Keys that are different in the file and take effect with a restart only. */
  readonly restartKeys: readonly string[];
}

/** A top-level key of the config that can be changed at any time. */
export interface LivePart<T> {
  readonly schema: z.ZodType<T>;
  /** What holds now, which may differ from what was configured. */
  readonly current: () => T;
  /** Takes over all of it. */
  readonly apply: (value: T) => void;
}

type Config = Readonly<Record<string, unknown>>;

export class ConfigReload {
  readonly #started: Config;
  readonly #read: () => Config;
  readonly #parts = new Map<string, { readonly current: () => unknown; readonly apply: (value: unknown) => void }>();

  /** `read` loads and validates the file, and throws `invalid-argument` or `not-found`. */
  constructor(started: object, read: () => object) {
    this.#started = { ...started };
    this.#read = () => ({ ...read() });
  }

  /** From now on a reload applies changes of this key instead of asking for a restart. */
  part<T>(key: string, { schema, current, apply }: LivePart<T>): void {
    this.#parts.set(key, { current, apply: (value) => apply(schema.parse(value)) });
  }

  /** Throws what reading the file throws; nothing is changed then. */
  reload(): ReloadOutcome {
    const config = this.#read();
    const changes: ConfigChange[] = [];
    const restartKeys: string[] = [];
    for (const key of new Set([...Object.keys(this.#started), ...Object.keys(config)])) {
      const part = this.#parts.get(key);
      const found = differences(key, part === undefined ? this.#started[key] : part.current(), config[key]);
      if (found.length === 0) continue;
      if (part === undefined) {
        restartKeys.push(...found.map((change) => change.key));
      } else {
        part.apply(config[key]);
        changes.push(...found);
      }
    }
    return { changes, restartKeys };
  }
}

/** The leaves that differ; a list is a leaf. */
function differences(key: string, before: unknown, after: unknown): ConfigChange[] {
  if (!isRecord(before) || !isRecord(after)) return isDeepStrictEqual(before, after) ? [] : [{ key, before, after }];
  const keys = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...keys].flatMap((name) => differences(`${key}.${name}`, before[name], after[name]));
}

function isRecord(value: unknown): value is Config {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
