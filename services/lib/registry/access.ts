/** Who sends a request and what they may do: the port to whatever decides it, and the refusals that follow from its answer. */
import type { CallOptions, RepositoryName } from '#core';
import { RegistryError } from './errors.ts';

/** What can be allowed on a repository. Pushing does not imply deleting. */
export type Right = 'pull' | 'push' | 'delete';

/** What an operation asks for; `none` is open to everybody who has logged in where a login is needed. */
export type Access = 'none' | 'catalog' | Right;

/** What a request shows of who sends it. */
export interface Evidence {
  /** The Authorization header. */
  readonly authorization: string | undefined;
  /** The common name of a client certificate that the TLS layer has verified. */
  readonly certificateName: string | undefined;
  /** The address the connection comes from. */
  readonly address: string | undefined;
}

/** `unproven`: the token leaves it out, but its owner may have it, so a new token helps. */
export type Judgement = 'allowed' | 'denied' | 'unproven';

/** Whoever sends a request, nobody in particular included. */
export interface Caller {
  /** `user:alice`, `certificate:builder`, `token:<subject>` or `anonymous`. Never a secret. */
  readonly principal: string;
  readonly isAnonymous: boolean;
  /** Whether a bearer token was shown; a challenge may then say what is wrong with it. */
  readonly hasToken: boolean;
  judge(right: Right, repository: RepositoryName): Judgement;
  /** Whether the catalog may be asked for at all. */
  judgeCatalog(): Judgement;
  /** Whether the catalog shows a repository. */
  mayList(repository: RepositoryName): boolean;
  /** Whether every repository may be pulled, those to come included. */
  readonly mayPullAll: boolean;
  /** Whether rules of this registry stand behind what is unproven, so that a new token surely allows it. Nobody here knows what others issue. */
  readonly isRuledHere: boolean;
}

/** What the evidence amounts to. Wrong credentials are no caller at all, also where nobody in particular would be let in. */
export type Identity =
  | { readonly kind: 'caller'; readonly caller: Caller }
  | { readonly kind: 'refused'; readonly message: string; readonly hadToken: boolean };

/** What a challenge says. */
export interface Challenge {
  /** `https://host:port` of this registry as the client knows it. */
  readonly origin: string;
  /** `repository:<name>:<actions>`, several with blanks between; absent for the ping. */
  readonly scope?: string;
  readonly error?: 'invalid_token' | 'insufficient_scope';
}

/** What a client asks of the token endpoint. */
export interface TokenRequest {
  readonly caller: Caller;
  /** Scopes as sent, in any number; what is not understood is ignored. */
  readonly scopes: readonly string[];
}

export interface IssuedToken {
  readonly token: string;
  readonly expiresInSec: number;
  /** Unix time in milliseconds. */
  readonly issuedAtMs: number;
}

/** The own token endpoint. */
export interface TokenIssuer {
  /** Grants the part of the scopes that the caller may have, possibly nothing. */
  issue(request: TokenRequest, options: CallOptions): Promise<IssuedToken>;
}

/** Decides on access. */
export interface AccessControl {
  /** Throws `unavailable` or `resource-exhausted` when it cannot be told now. */
  identify(evidence: Evidence, options: CallOptions): Promise<Identity>;
  /** Whether everybody has `rights` on every repository, so that nobody needs to log in. */
  isOpenFor(rights: readonly Right[]): boolean;
  /** The value of `WWW-Authenticate`. */
  challenge(challenge: Challenge): string;
  /** Absent when clients get their tokens elsewhere, or need none. */
  readonly tokens: TokenIssuer | undefined;
}

/** Everybody may do everything. A client certificate still gives a name to the audit log and the limits. */
export const openAccess: AccessControl = {
  identify: async ({ certificateName }) => ({
    kind: 'caller',
    caller: {
      principal: certificateName === undefined ? 'anonymous' : `certificate:${certificateName}`,
      isAnonymous: certificateName === undefined,
      hasToken: false,
      judge: () => 'allowed',
      judgeCatalog: () => 'allowed',
      mayList: () => true,
      mayPullAll: true,
      isRuledHere: true,
    },
  }),
  isOpenFor: () => true,
  challenge: () => 'Basic realm="shoal"',
  tokens: undefined,
};

/** One request's access, as far as it is known before its operation is. */
export interface AccessState {
  readonly control: AccessControl;
  readonly identity: Identity;
  readonly origin: string;
}

/** What an operation needs. */
export interface Demand {
  readonly access: Access;
  readonly repository: RepositoryName | undefined;
  /** The repository that a mount takes its blob from. The mount is only a wish: who may not pull there uploads instead. */
  readonly source?: RepositoryName | undefined;
  readonly isReadOnly: boolean;
}

/** Returns the caller. Throws `unauthorized` or `denied` unless the operation is allowed. */
export function authorise(state: AccessState, demand: Demand): Caller {
  const { identity } = state;
  const { access, source } = demand;
  if (identity.kind === 'refused') {
    throw unauthorized(state, scopeOf(demand), identity.hadToken ? 'invalid_token' : undefined, identity.message);
  }
  const { caller } = identity;
  const judgement = judge(state, caller, demand);
  if (judgement === 'allowed' && !(source !== undefined && isWorthAsking(caller, source))) return caller;
  if (judgement === 'denied' && !caller.isAnonymous) {
    throw new RegistryError('denied', 'requested access to the resource is denied; ask the operator of the registry for it');
  }
  const error = caller.hasToken && access !== 'none' ? 'insufficient_scope' : undefined;
  throw unauthorized(state, scopeOf(demand), error, 'authentication required; log in and try again');
}

/** Whether another token would surely mount from `source` and this one does not. Clients that learn from challenges never ask for it before. */
function isWorthAsking(caller: Caller, source: RepositoryName): boolean {
  return caller.isRuledHere && !caller.mayPullAll && caller.judge('pull', source) === 'unproven';
}

/** The refusal of a request without the right credentials, with the challenge that tells how to get them. */
export function unauthorized(
  { control, origin }: AccessState,
  scope: string | undefined,
  error: Challenge['error'],
  message: string,
): RegistryError {
  const challenge = { origin, ...(scope === undefined ? {} : { scope }), ...(error === undefined ? {} : { error }) };
  return new RegistryError('unauthorized', message, { headers: { 'www-authenticate': control.challenge(challenge) } });
}

function judge({ control }: AccessState, caller: Caller, { access, repository, isReadOnly }: Demand): Judgement {
  if (access === 'catalog') {
    // A client learns from the refusal that logging in may show it more.
    return caller.isAnonymous && !caller.hasToken && !control.isOpenFor(['pull']) ? 'denied' : caller.judgeCatalog();
  }
  if (access === 'none') {
    // Docker and skopeo learn only here that there is something to log in for. A token of nobody is as good as any.
    const isOpen = control.isOpenFor(isReadOnly ? ['pull'] : ['pull', 'push', 'delete']);
    return isOpen || !caller.isAnonymous || caller.hasToken ? 'allowed' : 'denied';
  }
  return repository === undefined ? 'denied' : caller.judge(access, repository);
}

/** The scopes a client should ask its token for, with blanks between. */
function scopeOf({ access, repository, source }: Demand): string | undefined {
  switch (access) {
    case 'none':
      return undefined;
    case 'catalog':
      return 'registry:catalog:*';
    default: {
      if (repository === undefined) return undefined;
      const own = `repository:${repository}:${access === 'push' ? 'pull,push' : access}`;
      return source === undefined || source === repository ? own : `${own} repository:${source}:pull`;
    }
  }
}
