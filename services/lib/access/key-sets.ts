/** The public keys of an external issuer: from a file, or from a URL that is asked again now and then and when a key is missing. */
import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose';
import { AppError, type Clock, type Logger, toAppError } from '#core';

/** How old keys may be before they are fetched again, in milliseconds. They stay in use meanwhile, and when the issuer is down. */
const freshMs = 600_000;
/** Tokens with invented key ids cause at most one request to the issuer in this time. */
const cooldownMs = 30_000;
const fetchTimeoutMs = 5000;
/** Key sets are a few kilobytes. */
export const keySetBytesMax = 512 * 1024;

/** Throws `invalid-argument` for what is no key set. */
export function parseKeySet(text: string): JWTVerifyGetKey {
  try {
    return createLocalJWKSet(JSON.parse(text) as JSONWebKeySet);
  } catch (cause) {
    throw new AppError('invalid-argument', 'not a JSON Web Key Set: it must be {"keys": [...]}', { cause });
  }
}

export interface KeySource {
  /** The keys in use. Throws `unavailable` when there never were any. */
  current(): Promise<JWTVerifyGetKey>;
  /** Newer keys after one was missing; undefined when it is too early to ask again, or there are none. */
  renewed(): Promise<JWTVerifyGetKey | undefined>;
}

export interface RemoteKeyDeps {
  readonly clock: Pick<Clock, 'nowMs'>;
  readonly logger: Logger;
  /** `fetch` of the platform by default. */
  readonly fetch?: typeof fetch;
}

/** Keys from a URL. Requests at the same time share one fetch. */
export class RemoteKeys implements KeySource {
  readonly #url: string;
  readonly #deps: RemoteKeyDeps;
  #keys: { readonly value: JWTVerifyGetKey; readonly fetchedMs: number } | undefined;
  #fetching: Promise<JWTVerifyGetKey> | undefined;
  #triedMs = Number.NEGATIVE_INFINITY;

  constructor(url: string, deps: RemoteKeyDeps) {
    this.#url = url;
    this.#deps = deps;
  }

  async current(): Promise<JWTVerifyGetKey> {
    const keys = this.#keys;
    if (keys === undefined) return (await this.#tryFetch()) ?? this.#unavailable();
    const isOld = this.#deps.clock.nowMs() - keys.fetchedMs > freshMs;
    if (isOld) void this.#tryFetch();
    return keys.value;
  }

  async renewed(): Promise<JWTVerifyGetKey | undefined> {
    return this.#tryFetch();
  }

  /** Undefined when it failed, or the last try was a moment ago. */
  async #tryFetch(): Promise<JWTVerifyGetKey | undefined> {
    const { clock, logger } = this.#deps;
    if (this.#fetching === undefined) {
      if (clock.nowMs() - this.#triedMs < cooldownMs) return undefined;
      this.#triedMs = clock.nowMs();
      this.#fetching = this.#fetch().finally(() => {
        this.#fetching = undefined;
      });
    }
    try {
      return await this.#fetching;
    } catch (error) {
      logger.warn('keys of the token issuer not fetched', { url: this.#url, error: toAppError(error).message });
      return undefined;
    }
  }

  async #fetch(): Promise<JWTVerifyGetKey> {
    const response = await (this.#deps.fetch ?? fetch)(this.#url, {
      redirect: 'error',
      headers: { accept: 'application/json' },
      signal: AbortSignal.timeout(fetchTimeoutMs),
    });
    if (!response.ok || response.body === null) throw new AppError('unavailable', `the issuer answered ${response.status}`);
    const chunks: Uint8Array[] = [];
    let sizeBytes = 0;
    for await (const chunk of response.body) {
      sizeBytes += chunk.byteLength;
      if (sizeBytes > keySetBytesMax) throw new AppError('invalid-argument', `the key set is larger than ${keySetBytesMax} bytes`);
      chunks.push(chunk);
    }
    const value = parseKeySet(Buffer.concat(chunks).toString('utf8'));
    this.#keys = { value, fetchedMs: this.#deps.clock.nowMs() };
    return value;
  }

  #unavailable(): never {
    throw new AppError('unavailable', 'the keys of the token issuer cannot be had now; try again', { retryAfterMs: 5000 });
  }
}

/** True when a token names a key that the set does not have. */
export function isMissingKey(error: unknown): boolean {
  return error instanceof errors.JWKSNoMatchingKey;
}
