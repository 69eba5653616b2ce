/** The `access` claim of Docker's tokens and the scopes that ask for it. Pure. */
import { isRepositoryName, type RepositoryName } from '#core';
import type { Right } from '#registry';

/** One entry of the claim. */
export interface ScopeGrant {
  readonly type: string;
  readonly name: string;
  readonly actions: readonly string[];
}

export type Scope =
  | { readonly kind: 'repository'; readonly repository: RepositoryName; readonly rights: readonly Right[] }
  | { readonly kind: 'catalog' };

const rights: readonly Right[] = ['pull', 'push', 'delete'];

/** Entries and actions beyond these make a claim that nobody issues in good faith. */
const entriesMax = 1000;

/** Parses `repository:<name>:<actions>` and `registry:catalog:*`; undefined for what cannot be granted here. `*` is every action. */
export function parseScope(text: string): Scope | undefined {
  const first = text.indexOf(':');
  const last = text.lastIndexOf(':');
  if (first < 0 || last === first) return undefined;
  const [type, name, actions] = [text.slice(0, first), text.slice(first + 1, last), text.slice(last + 1).split(',')];
  if (type === 'registry' && name === 'catalog') return actions.includes('*') ? { kind: 'catalog' } : undefined;
  // Docker also writes repository(plugin) for what is a repository here as well.
  if (!/^repository(?:\([a-z0-9]+\))?$/.test(type) || !isRepositoryName(name)) return undefined;
  return { kind: 'repository', repository: name, rights: rights.filter((right) => actions.includes(right) || actions.includes('*')) };
}

/** The claim of a token as a list; undefined when the claim is absent, empty for what is no such claim. */
export function parseAccessClaim(claim: unknown): readonly ScopeGrant[] | undefined {
  if (claim === undefined) return undefined;
  if (!Array.isArray(claim) || claim.length > entriesMax) return [];
  return claim.flatMap((entry: unknown): ScopeGrant[] => {
    if (typeof entry !== 'object' || entry === null) return [];
    const { type, name, actions } = entry as Readonly<Record<string, unknown>>;
    if (typeof type !== 'string' || typeof name !== 'string' || !Array.isArray(actions)) return [];
    return [{ type, name, actions: actions.filter((action): action is string => typeof action === 'string') }];
  });
}

/** Whether a claim gives a right on a repository. Names are compared whole: a claim has no patterns. */
export function claimGrants(claim: readonly ScopeGrant[], right: Right, repository: string): boolean {
  return claim.some(
    ({ type, name, actions }) => type === 'repository' && name === repository && (actions.includes(right) || actions.includes('*')),
  );
}

/** Whether a claim opens the catalog. */
export function claimGrantsCatalog(claim: readonly ScopeGrant[]): boolean {
  return claim.some(({ type, name, actions }) => type === 'registry' && name === 'catalog' && actions.includes('*'));
}
