/** Bearer tokens of other registries: one request for each scope and credential, kept while they are valid, bounded in number. */
import { AppError, type Clock } from '#core';
import { BoundedMap } from './bounded-map.ts';
import type { Challenge } from './challenge.ts';
import { authorizationOf, type Credentials, credentialKey } from './credentials.ts';
import type { HttpClient, HttpReply } from './http.ts';
import { refusalMs, tokenLifetimeMsDefault, tokenLifetimeMsMax, tokenReplyBytesMax, tokensMax } from './limits.ts';
import { readUpTo } from './read-up-to.ts';
import { SingleFlight } from './single-flight.ts';

export type BearerChallenge = Extract<Challenge, { readonly scheme: 'bearer' }>;

export interface TokenRequest {
  readonly challenge: BearerChallenge;
  /** What the token must allow, e.g. `repository:library/alpine:pull`. */
  readonly scope: string;
  readonly credentials: Credentials;
  /** The registry that asks: an https one is not followed to an http realm. */
  readonly registry: URL;
}

type Entry =
  | { readonly type: 'token'; readonly token: string; readonly endMs: number }
  | { readonly type: 'refused'; readonly error: AppError; readonly endMs: number };

export class TokenCache {
  readonly #http: Pick<HttpClient, 'send'>;
  readonly #clock: Clock;
  readonly #entries = new BoundedMap<Entry>({ entriesMax: tokensMax });
  readonly #flights = new SingleFlight<string>();

  constructor(deps: { readonly http: Pick<HttpClient, 'send'>; readonly clock: Clock }) {
    this.#http = deps.http;
    this.#clock = deps.clock;
  }

  /** A token that is still valid; undefined when there is none. */
  known(scope: string, credentials: Credentials): string | undefined {
    const entry = this.#entries.get(keyOf(scope, credentials));
    return entry?.type === 'token' && entry.endMs > this.#clock.nowMs() ? entry.token : undefined;
  }

  /** The registry did not accept it after all. */
  forget(scope: string, credentials: Credentials): void {
    this.#entries.delete(keyOf(scope, credentials));
  }

  /** Throws `permission-denied` (kind `upstream`) when the issuer refuses the credentials, `unavailable` when it does not answer. */
  async get(request: TokenRequest, options: { readonly signal: AbortSignal }): Promise<string> {
    const key = keyOf(request.scope, request.credentials);
    const entry = this.#entries.get(key);
    if (entry !== undefined && entry.endMs > this.#clock.nowMs()) {
      if (entry.type === 'refused') throw entry.error;
      return entry.token;
    }
    return this.#flights.run(key, async () => this.#fetch(key, request), options);
  }

  async #fetch(key: string, request: TokenRequest): Promise<string> {
    const url = tokenUrl(request);
    const authorization = authorizationOf(request.credentials);
    const reply = await this.#http.send({
      method: 'GET',
      url,
      headers: { accept: 'application/json', ...(authorization === undefined ? {} : { authorization }) },
      // Others may wait for the same token, so that only the limits of the client end it.
      signal: new AbortController().signal,
    });
    if (reply.status === 200) {
      const { token, lifetimeMs } = await tokenOf(reply, url);
      this.#entries.set(key, { type: 'token', token, endMs: this.#clock.nowMs() + lifetimeMs });
      return token;
    }
    reply.drop();
    const error = failureOf(reply.status, url);
    if (error.code === 'permission-denied') this.#entries.set(key, { type: 'refused', error, endMs: this.#clock.nowMs() + refusalMs });
    throw error;
  }
}

function keyOf(scope: string, credentials: Credentials): string {
  return `${credentialKey(credentials)} ${scope}`;
}

function tokenUrl({ challenge, scope, credentials, registry }: TokenRequest): URL {
  const url = URL.canParse(challenge.realm) ? new URL(challenge.realm) : undefined;
  if (url === undefined || !(url.protocol === 'https:' || (url.protocol === 'http:' && registry.protocol === 'http:'))) {
    throw new AppError('unavailable', `the upstream ${registry.host} names no usable place for tokens`, { data: { kind: 'upstream' } });
  }
  if (challenge.service !== undefined) url.searchParams.set('service', challenge.service);
  url.searchParams.set('scope', scope);
  if (credentials.type === 'basic') url.searchParams.set('account', credentials.username);
  return url;
}

async function tokenOf(reply: HttpReply, url: URL): Promise<{ readonly token: string; readonly lifetimeMs: number }> {
  const unusable = (): AppError => new AppError('unavailable', `${url.host} answered without a token`, { data: { kind: 'upstream' } });
  let json: unknown;
  try {
    json = JSON.parse((await readUpTo(reply.body(), tokenReplyBytesMax)).toString('utf8'));
  } catch {
    throw unusable();
  }
  const fields = new Map(Object.entries(typeof json === 'object' && json !== null ? json : {}));
  const token = fields.get('token') ?? fields.get('access_token');
  // It becomes a header.
  if (typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) throw unusable();
  const seconds = fields.get('expires_in');
  const statedMs = typeof seconds === 'number' && seconds > 0 ? seconds * 1000 : tokenLifetimeMsDefault;
  const lifetimeMs = Math.min(statedMs, tokenLifetimeMsMax);
  // A token that ends while its request is on the way is refused.
  return { token, lifetimeMs: lifetimeMs - Math.min(lifetimeMs / 10, 30_000) };
}

function failureOf(status: number, url: URL): AppError {
  const data = { kind: 'upstream', status };
  if (status === 401 || status === 403) {
    return new AppError('permission-denied', `${url.host} refuses the credentials for the upstream; correct them`, { data });
  }
  if (status === 429) return new AppError('resource-exhausted', `${url.host} asks to be asked less often`, { data, retryAfterMs: 10_000 });
  return new AppError('unavailable', `${url.host} gave no token (status ${status}); check the upstream`, { data, retryAfterMs: 2000 });
}
