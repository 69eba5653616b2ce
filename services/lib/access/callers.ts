/** Subjects as callers of the registry: what their rules and the claim of their token allow together. Pure. */
import type { RepositoryName } from '#core';
import type { Caller, Judgement, Right } from '#registry';
import type { Grants } from './rules.ts';
import { claimGrants, claimGrantsCatalog, type ScopeGrant } from './scopes.ts';
import { principalOf, type Subject } from './subject.ts';

/** The subject of an own token and of basic authentication must be in the token's claim and in the rules that hold now. */
export class RuledCaller implements Caller {
  readonly subject: Subject;
  readonly hasToken: boolean;
  readonly #grants: Grants;
  readonly #claim: readonly ScopeGrant[] | undefined;

  /** Without a claim the rules decide alone. */
  constructor(subject: Subject, grants: Grants, token: { readonly claim: readonly ScopeGrant[] | undefined } | undefined) {
    this.subject = subject;
    this.#grants = grants;
    this.hasToken = token !== undefined;
    this.#claim = token?.claim;
  }

  get principal(): string {
    return principalOf(this.subject);
  }

  get isAnonymous(): boolean {
    return this.subject.kind === 'anonymous';
  }

  get mayPullAll(): boolean {
    return this.#grants.hasEverywhere('pull');
  }

  get isRuledHere(): boolean {
    return true;
  }

  judge(right: Right, repository: RepositoryName): Judgement {
    if (!this.#grants.has(right, repository)) return 'denied';
    return this.#claim === undefined || claimGrants(this.#claim, right, repository) ? 'allowed' : 'unproven';
  }

  judgeCatalog(): Judgement {
    if (!this.#grants.hasSomewhere('pull')) return 'denied';
    return this.#claim === undefined || claimGrantsCatalog(this.#claim) ? 'allowed' : 'unproven';
  }

  mayList(repository: RepositoryName): boolean {
    return this.#grants.has('pull', repository);
  }
}

/** The subject of an external token whose issuer decides: its claim is all there is. What is not in it may be in the next token. */
export class ClaimedCaller implements Caller {
  readonly principal: string;
  readonly isAnonymous = false;
  readonly hasToken = true;
  readonly #claim: readonly ScopeGrant[];

  constructor(subject: Subject, claim: readonly ScopeGrant[]) {
    this.principal = principalOf(subject);
    this.#claim = claim;
  }

  /** A claim names each repository, so it never covers those to come. */
  get mayPullAll(): boolean {
    return false;
  }

  get isRuledHere(): boolean {
    return false;
  }

  judge(right: Right, repository: RepositoryName): Judgement {
    return claimGrants(this.#claim, right, repository) ? 'allowed' : 'unproven';
  }

  judgeCatalog(): Judgement {
    return claimGrantsCatalog(this.#claim) ? 'allowed' : 'unproven';
  }

  /** Whoever the issuer lets see the catalog sees all of it. */
  mayList(): boolean {
    return true;
  }
}
