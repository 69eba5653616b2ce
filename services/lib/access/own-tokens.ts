/** The tokens that the gateways give out themselves: signed with a key that all of them share, so that each takes those of the others. */
import { hkdfSync } from 'node:crypto';
import { errors, type JWTPayload, jwtVerify, SignJWT } from 'jose';
import { AppError, assert, type Clock } from '#core';
import type { IssuedToken } from '#registry';
import { parseAccessClaim, type ScopeGrant } from './scopes.ts';
import { principalOf, type Subject, subjectOf } from './subject.ts';
import type { WatchedFile } from './watched-file.ts';

/** The `iss` claim of these tokens. */
export const ownIssuer = 'shoal';

/** Clocks of gateways may differ by this much, in seconds. */
const clockToleranceSec = 30;

export const keyFileBytesMax = 64 * 1024;
const secretLengthMin = 32;
const secretsMax = 10;

/** The keys of a key file, the signing one first. */
export type SigningKeys = readonly Uint8Array[];

/** One secret a line. Throws `invalid-argument` when there is none, or one is short. */
export function parseKeyFile(text: string): SigningKeys {
  const secrets = text
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
  if (secrets.length === 0 || secrets.length > secretsMax || secrets.some((secret) => secret.length < secretLengthMin)) {
    throw new AppError(
      'invalid-argument',
      `a token key file has 1 to ${secretsMax} lines of at least ${secretLengthMin} characters: make one with openssl rand -hex 32`,
    );
  }
  return secrets.map(keyOf);
}

/** The secret is never used as it stands, so that the same text in another place signs nothing here. */
export function keyOf(secret: string | Uint8Array): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', secret, 'shoal', 'registry tokens v1', 32));
}

export interface OwnTokenOptions {
  /** The `aud` claim: what the gateways call themselves towards clients. */
  readonly service: string;
  readonly lifetimeMs: number;
}

/** What a valid token says. */
export interface OwnToken {
  readonly subject: Subject;
  readonly access: readonly ScopeGrant[];
}

export interface OwnTokenDeps {
  readonly clock: Pick<Clock, 'wallMs'>;
  readonly keys: Pick<WatchedFile<SigningKeys>, 'current'>;
}

export class OwnTokens {
  readonly #options: OwnTokenOptions;
  readonly #deps: OwnTokenDeps;

  constructor(options: OwnTokenOptions, deps: OwnTokenDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  async issue({ subject, access }: OwnToken): Promise<IssuedToken> {
    const { service, lifetimeMs } = this.#options;
    const [key] = await this.#deps.keys.current();
    assert(key !== undefined, 'a key file has a key');
    const issuedAtMs = this.#deps.clock.wallMs();
    const issuedAtSec = Math.floor(issuedAtMs / 1000);
    const expiresInSec = Math.floor(lifetimeMs / 1000);
    const token = await new SignJWT({ access })
      .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
      .setIssuer(ownIssuer)
      .setAudience(service)
      .setSubject(principalOf(subject))
      .setIssuedAt(issuedAtSec)
      .setNotBefore(issuedAtSec)
      .setExpirationTime(issuedAtSec + expiresInSec)
      .sign(key);
    return { token, expiresInSec, issuedAtMs };
  }

  /** Undefined for a token that is not one of these, or no longer valid. */
  async verify(token: string): Promise<OwnToken | undefined> {
    for (const key of await this.#deps.keys.current()) {
      const claims = await this.#claims(token, key);
      const subject = claims?.sub === undefined ? undefined : subjectOf(claims.sub);
      if (subject !== undefined) return { subject, access: parseAccessClaim(claims?.['access']) ?? [] };
    }
    return undefined;
  }

  async #claims(token: string, key: Uint8Array): Promise<JWTPayload | undefined> {
    try {
      const { payload } = await jwtVerify(token, key, {
        algorithms: ['HS256'],
        issuer: ownIssuer,
        audience: this.#options.service,
        requiredClaims: ['exp', 'sub'],
        clockTolerance: clockToleranceSec,
        currentDate: new Date(this.#deps.clock.wallMs()),
      });
      return payload;
    } catch (error) {
      if (error instanceof errors.JOSEError) return undefined;
      throw error;
    }
  }
}
