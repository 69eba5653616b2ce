/** Tokens of an external issuer, checked with its public keys. */
import { errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from 'jose';
import type { Clock } from '#core';
import { isMissingKey, type KeySource } from './key-sets.ts';
import { parseAccessClaim, type ScopeGrant } from './scopes.ts';
import type { Subject } from './subject.ts';

/** Signatures that a public key verifies. Secrets shared with an issuer (HS256) are not among them, nor is `none`. */
export const algorithms = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'] as const;

/** Clocks may differ by this much, in seconds. */
const clockToleranceSec = 30;
const subjectPattern = /^[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?$/;
const groupsMax = 200;

export interface ExternalIssuerOptions {
  /** The `iss` claim. */
  readonly issuer: string;
  /** The `aud` claim, or one of several. */
  readonly audience: string;
  readonly algorithms: readonly (typeof algorithms)[number][];
  /** Whether the token's `access` claim says what is allowed, or the rules do, by its subject. */
  readonly grants: 'claim' | 'rules';
  /** The claim that lists the subject's groups. */
  readonly groupsClaim: string | undefined;
}

export interface ExternalToken {
  readonly subject: Subject;
  /** Undefined when the rules decide. */
  readonly access: readonly ScopeGrant[] | undefined;
}

export interface ExternalTokenDeps {
  readonly clock: Pick<Clock, 'wallMs'>;
  readonly keys: KeySource;
}

export class ExternalTokens {
  readonly #options: ExternalIssuerOptions;
  readonly #deps: ExternalTokenDeps;

  constructor(options: ExternalIssuerOptions, deps: ExternalTokenDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  get issuer(): string {
    return this.#options.issuer;
  }

  /** Undefined for a token that is not valid. Throws `unavailable` while the issuer's keys cannot be had. */
  async verify(token: string): Promise<ExternalToken | undefined> {
    const claims = await this.#claims(token);
    if (claims?.sub === undefined || !subjectPattern.test(claims.sub)) return undefined;
    const { grants, groupsClaim } = this.#options;
    const groups = groupsClaim === undefined ? [] : groupsOf(claims[groupsClaim]);
    return {
      subject: { kind: 'token', name: claims.sub, groups },
      access: grants === 'claim' ? (parseAccessClaim(claims['access']) ?? []) : undefined,
    };
  }

  async #claims(token: string): Promise<JWTPayload | undefined> {
    try {
      return await this.#verify(token, await this.#deps.keys.current());
    } catch (error) {
      if (!isMissingKey(error)) return refused(error);
    }
    const keys = await this.#deps.keys.renewed();
    return keys === undefined ? undefined : this.#verify(token, keys).catch(refused);
  }

  async #verify(token: string, keys: JWTVerifyGetKey): Promise<JWTPayload> {
    const { payload } = await jwtVerify(token, keys, {
      algorithms: [...this.#options.algorithms],
      issuer: this.#options.issuer,
      audience: this.#options.audience,
      requiredClaims: ['exp', 'sub'],
      clockTolerance: clockToleranceSec,
      currentDate: new Date(this.#deps.clock.wallMs()),
    });
    return payload;
  }
}

function refused(error: unknown): undefined {
  if (error instanceof errors.JOSEError) return undefined;
  throw error;
}

function groupsOf(claim: unknown): readonly string[] {
  return Array.isArray(claim) ? claim.filter((group): group is string => typeof group === 'string').slice(0, groupsMax) : [];
}
