/** Retention rules: which tags and untagged manifests of a repository may go. Without a rule every manifest stays. */
import { globMatcher } from '#core';

/** As it stands in the config. */
export interface RetentionConfig {
  readonly repositories: readonly string[];
  readonly tags: readonly string[];
  readonly protect: readonly string[];
  readonly keepLast?: number | undefined;
  readonly keepFor?: number | undefined;
  readonly untaggedFor?: number | undefined;
}

/** What holds in one repository. */
export interface RetentionRule {
  /** Whether the rule's limits apply to a tag. */
  readonly mayExpire: (tag: string) => boolean;
  /** So many of these tags stay, the latest set ones; undefined when their number does not matter. */
  readonly keepLast: number | undefined;
  /** They stay for this long after they were set; undefined when their age does not matter. */
  readonly keepForMs: number | undefined;
  /** A manifest stays for this long after it lost its last tag or was last pushed; undefined: for ever. */
  readonly untaggedForMs: number | undefined;
}

/** Everything stays. */
export const keepAll: RetentionRule = { mayExpire: () => false, keepLast: undefined, keepForMs: undefined, untaggedForMs: undefined };

/** The rule of a repository: the first whose patterns match. Throws `invalid-argument` for a malformed pattern, when it is built. */
export function retentionRules(configs: readonly RetentionConfig[]): (repository: string) => RetentionRule {
  const rules = configs.map((config) => {
    const isCovered = globMatcher(config.tags);
    const isProtected = globMatcher(config.protect);
    const limited = config.keepLast !== undefined || config.keepFor !== undefined;
    return {
      holdsFor: globMatcher(config.repositories),
      rule: {
        mayExpire: (tag: string) => limited && isCovered(tag) && !isProtected(tag),
        keepLast: config.keepLast,
        keepForMs: config.keepFor,
        untaggedForMs: config.untaggedFor,
      },
    };
  });
  return (repository) => rules.find(({ holdsFor }) => holdsFor(repository))?.rule ?? keepAll;
}
