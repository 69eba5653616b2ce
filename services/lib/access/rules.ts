/**
 * Who may do what: rules that grant, and nothing that takes away. What a subject may do is the union of all rules that name it, so their
 * order means nothing and no rule can undo another. Pure.
 */
import type { Right } from '#registry';
import { matchesRepository, matchesText } from './glob.ts';
import { principalOf, type Subject } from './subject.ts';

export interface Rule {
  /**
   * `anonymous` is everybody, with a login or without; `authenticated` everybody with one; `group:NAME`; and `user:NAME`, `certificate:NAME`,
   * `token:SUBJECT`, in which `*` is any part of the name.
   */
  readonly who: readonly string[];
  /** Patterns as in {@link matchesRepository}. */
  readonly repositories: readonly string[];
  readonly allow: readonly Right[];
}

/** The members of each group: user names, or `user:`, `certificate:` and `token:` names. */
export type Groups = Readonly<Record<string, readonly string[]>>;

/** The rules that name one subject. */
export interface Grants {
  has(right: Right, repository: string): boolean;
  /** Whether a right holds for every repository there can be. */
  hasEverywhere(right: Right): boolean;
  /** Whether a right holds for any repository at all. */
  hasSomewhere(right: Right): boolean;
}

/** What `subject` may do. */
export function grantsOf(rules: readonly Rule[], groups: Groups, subject: Subject): Grants {
  const mine = rules.filter(({ who }) => who.some((word) => names(word, subject, groups)));
  const giving = (right: Right): readonly string[] =>
    mine.filter(({ allow }) => allow.includes(right)).flatMap(({ repositories }) => repositories);
  const patterns = { pull: giving('pull'), push: giving('push'), delete: giving('delete') };
  return {
    has: (right, repository) => patterns[right].some((pattern) => matchesRepository(pattern, repository)),
    hasEverywhere: (right) => patterns[right].includes('**'),
    hasSomewhere: (right) => patterns[right].length > 0,
  };
}

function names(word: string, subject: Subject, groups: Groups): boolean {
  if (word === 'anonymous') return true;
  if (subject.kind === 'anonymous') return false;
  if (word === 'authenticated') return true;
  if (!word.startsWith('group:')) return matchesText(word, principalOf(subject));
  const group = word.slice('group:'.length);
  const members = Object.hasOwn(groups, group) ? (groups[group] ?? []) : [];
  const principal = principalOf(subject);
  return subject.groups.includes(group) || members.some((member) => (member.includes(':') ? member : `user:${member}`) === principal);
}
