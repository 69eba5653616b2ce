/** Decides who a caller is from its credentials, and gives out tokens: the registry's access control, on rules, passwords and tokens. */
import { decodeJwt } from 'jose';
import type { AccessControl, Challenge, Evidence, Identity, IssuedToken, Right, TokenIssuer, TokenRequest } from '#registry';
import { ClaimedCaller, RuledCaller } from './callers.ts';
import type { ExternalTokens } from './external-tokens.ts';
import { type OwnTokens, ownIssuer } from './own-tokens.ts';
import type { Passwords } from './passwords.ts';
import { type Groups, grantsOf, type Rule } from './rules.ts';
import { parseScope, type ScopeGrant } from './scopes.ts';
import { anonymous, type Subject } from './subject.ts';

/** A token with a thousand entries is about 100 KiB; the head of a request has a limit of its own. */
const authorizationLengthMax = 256 * 1024;

export interface RuledAccessOptions {
  readonly rules: readonly Rule[];
  readonly groups: Groups;
  /** What the gateways call themselves in challenges and tokens. */
  readonly service: string;
  /** Scheme, host and port under which clients reach the gateways; taken from each request when absent. */
  readonly publicUrl: string | undefined;
  /** The token endpoint of an external issuer; the own one when absent. */
  readonly realm: string | undefined;
}

export interface RuledAccessDeps {
  readonly passwords: Pick<Passwords, 'check'> | undefined;
  /** Absent when clients get their tokens from an external issuer. */
  readonly ownTokens: OwnTokens | undefined;
  readonly externalTokens: readonly ExternalTokens[];
}

export class RuledAccess implements AccessControl {
  readonly tokens: TokenIssuer | undefined;
  readonly #options: RuledAccessOptions;
  readonly #deps: RuledAccessDeps;

  constructor(options: RuledAccessOptions, deps: RuledAccessDeps) {
    this.#options = options;
    this.#deps = deps;
    const { ownTokens } = deps;
    this.tokens = ownTokens === undefined ? undefined : { issue: (request) => this.#issue(request, ownTokens) };
  }

  async identify({ authorization, certificateName, address }: Evidence): Promise<Identity> {
    if (authorization !== undefined) {
      const [, scheme = '', value = ''] = /^([A-Za-z0-9-]{1,20}) +(\S+) *$/.exec(authorization.slice(0, authorizationLengthMax)) ?? [];
      switch (scheme.toLowerCase()) {
        case 'basic':
          return this.#byPassword(value, address);
        case 'bearer':
          return this.#byToken(value);
        default:
          return { kind: 'refused', message: 'the Authorization header is neither Basic nor Bearer', hadToken: false };
      }
    }
    return this.#ruled(certificateName === undefined ? anonymous : { kind: 'certificate', name: certificateName, groups: [] });
  }

  isOpenFor(rights: readonly Right[]): boolean {
    const grants = grantsOf(this.#options.rules, this.#options.groups, anonymous);
    return rights.every((right) => grants.hasEverywhere(right));
  }

  challenge({ origin, scope, error }: Challenge): string {
    const { service, publicUrl, realm } = this.#options;
    const parts = [
      ['realm', realm ?? `${publicUrl ?? origin}/v2/token`],
      ['service', service],
      ...(scope === undefined ? [] : [['scope', scope]]),
      ...(error === undefined ? [] : [['error', error]]),
    ];
    return `Bearer ${parts.map(([name, value]) => `${name}="${value}"`).join(',')}`;
  }

  async #byPassword(value: string, address: string | undefined): Promise<Identity> {
    const text = Buffer.from(value, 'base64').toString('utf8');
    const colon = text.indexOf(':');
    const [user, password] = [text.slice(0, colon), text.slice(colon + 1)];
    // Docker sends an empty pair when it has no credentials.
    if (text === ':') return this.#ruled(anonymous);
    const isRight = colon > 0 && (await this.#deps.passwords?.check(user, password, address)) === true;
    if (isRight) return this.#ruled({ kind: 'user', name: user, groups: [] });
    return { kind: 'refused', message: 'wrong user name or password', hadToken: false };
  }

  async #byToken(token: string): Promise<Identity> {
    const issuer = issuerOf(token);
    const own = issuer === ownIssuer ? await this.#deps.ownTokens?.verify(token) : undefined;
    if (own !== undefined) return this.#ruled(own.subject, { claim: own.access });
    const external = await this.#deps.externalTokens.find((tokens) => tokens.issuer === issuer)?.verify(token);
    if (external === undefined) {
      return { kind: 'refused', message: 'the token is not valid, or no longer; get a new one', hadToken: true };
    }
    if (external.access === undefined) return this.#ruled(external.subject, { claim: undefined });
    return { kind: 'caller', caller: new ClaimedCaller(external.subject, external.access) };
  }

  #ruled(subject: Subject, token?: { readonly claim: readonly ScopeGrant[] | undefined }): Identity {
    const grants = grantsOf(this.#options.rules, this.#options.groups, subject);
    return { kind: 'caller', caller: new RuledCaller(subject, grants, token) };
  }

  async #issue({ caller, scopes }: TokenRequest, tokens: OwnTokens): Promise<IssuedToken> {
    const subject = caller instanceof RuledCaller ? caller.subject : anonymous;
    const access = scopes.flatMap((text): ScopeGrant[] => {
      const scope = parseScope(text);
      if (scope === undefined) return [];
      if (scope.kind === 'catalog') {
        return caller.judgeCatalog() === 'allowed' ? [{ type: 'registry', name: 'catalog', actions: ['*'] }] : [];
      }
      const actions = scope.rights.filter((right) => caller.judge(right, scope.repository) === 'allowed');
      return actions.length === 0 ? [] : [{ type: 'repository', name: scope.repository, actions }];
    });
    return tokens.issue({ subject, access });
  }
}

/** Which keys to try; what the token says of itself is not believed for more than that. */
function issuerOf(token: string): string | undefined {
  try {
    return decodeJwt(token).iss;
  } catch {
    return undefined;
  }
}
