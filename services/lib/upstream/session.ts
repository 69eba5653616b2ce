/** One upstream registry: requests with whatever authorization it asks for, tried again while it fails. */
import { AppError, type Clock, isAppError, type Rng } from '#core';
import { formatChallenge, parseChallenges } from './challenge.ts';
import { authorizationOf, type Credentials } from './credentials.ts';
import type { HttpClient, HttpReply } from './http.ts';
import { attemptsMax, backoffMs, retryAfterWaitMsMax } from './limits.ts';
import { TokenCache } from './tokens.ts';

export interface SessionOptions {
  /** Scheme, host and port; a path comes before `/v2/`. */
  readonly url: URL;
  /** The credentials are those of callers: what the upstream asks them for is passed on. Otherwise a refusal is a matter of the config. */
  readonly forCallers: boolean;
}

export interface SessionDeps {
  readonly http: Pick<HttpClient, 'send'>;
  readonly clock: Clock;
  readonly rng: Rng;
}

export interface SessionRequest {
  readonly method: 'GET' | 'HEAD';
  /** The repository as the upstream names it. */
  readonly name: string;
  /** What follows `/v2/<name>/`. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly credentials: Credentials;
  readonly signal: AbortSignal;
  /** What is asked for, for the error when it is not there. */
  readonly kind: 'manifest' | 'blob' | 'repository';
}

export class Session {
  readonly #options: SessionOptions;
  readonly #url: URL;
  readonly #deps: SessionDeps;
  readonly #tokens: TokenCache;

  constructor(options: SessionOptions, deps: SessionDeps) {
    this.#options = options;
    this.#url = options.url;
    this.#deps = deps;
    this.#tokens = new TokenCache(deps);
  }

  /**
   * A reply with status 200 or 206. Throws `not-found` (of the request's kind), `unauthenticated` or `permission-denied` (kind `upstream`, with
   * the upstream's challenge), `resource-exhausted` when it limits the rate, `unavailable`.
   */
  async send(request: SessionRequest): Promise<HttpReply> {
    for (let attempt = 1; ; attempt += 1) {
      const outcome = await this.#attempt(request);
      if (!(outcome instanceof AppError)) return outcome;
      const waitMs = Math.max(backoffMs * 2 ** (attempt - 1), outcome.retryAfterMs ?? 0);
      const isPassing = isAppError(outcome, 'unavailable', 'resource-exhausted');
      if (!isPassing || attempt === attemptsMax || waitMs > retryAfterWaitMsMax) throw outcome;
      await this.#deps.clock.sleep(waitMs + this.#deps.rng.below(backoffMs), { signal: request.signal });
    }
  }

  async #attempt(request: SessionRequest): Promise<HttpReply | AppError> {
    try {
      const reply = await this.#authorized(request);
      if (reply.status === 200 || reply.status === 206) return reply;
      reply.drop();
      return failureOf(reply, request, this.#options);
    } catch (error) {
      if (isAppError(error)) return error;
      throw error;
    }
  }

  /** Sends, and once more with what the upstream asks for; a token that is refused is replaced. */
  async #authorized(request: SessionRequest): Promise<HttpReply> {
    const { credentials, name } = request;
    const ownScope = `repository:${name}:pull`;
    const known = credentials.type === 'bearer' ? credentials.token : this.#tokens.known(ownScope, credentials);
    const reply = await this.#send(request, known === undefined ? undefined : `Bearer ${known}`);
    if (reply.status !== 401 || credentials.type === 'bearer') return reply;
    if (known !== undefined) this.#tokens.forget(ownScope, credentials);
    const challenges = parseChallenges(reply.headers['www-authenticate']);
    for (const challenge of challenges) {
      if (challenge.scheme === 'basic') {
        if (credentials.type !== 'basic') continue;
        reply.drop();
        return this.#send(request, authorizationOf(credentials));
      }
      reply.drop();
      // Registries name the scope in the challenge; the cache is looked up by the one that every request of this repository needs.
      const token = await this.#tokens.get({ challenge, scope: ownScope, credentials, registry: this.#url }, request);
      return this.#send(request, `Bearer ${token}`);
    }
    return reply;
  }

  #send({ method, name, path, headers = {}, signal }: SessionRequest, authorization: string | undefined): Promise<HttpReply> {
    const base = this.#url.pathname.replace(/\/$/, '');
    const url = new URL(`${base}/v2/${name}/${path}`, this.#url);
    const own = { 'user-agent': 'shoal', 'accept-encoding': 'identity', ...headers };
    return this.#deps.http.send({ method, url, headers: authorization === undefined ? own : { ...own, authorization }, signal });
  }
}

function failureOf({ status, headers }: HttpReply, { kind, credentials }: SessionRequest, { url, forCallers }: SessionOptions): AppError {
  const { host } = url;
  switch (status) {
    // 400: a name that the upstream does not allow.
    case 400:
    case 404:
      return new AppError('not-found', `the upstream ${host} has no such ${kind}`, { data: { kind } });
    case 401: {
      const [challenge] = parseChallenges(headers['www-authenticate']);
      const whom = credentials.type === 'anonymous' ? 'only to those who log in' : 'not to these credentials';
      const message = `the upstream ${host} has no such image, or shows it ${whom}`;
      if (!forCallers || challenge === undefined) {
        return new AppError('permission-denied', forCallers ? message : `${message}; see upstreams in the config of the origins`, {
          data: { kind: 'upstream' },
        });
      }
      return new AppError('unauthenticated', message, {
        data: { kind: 'upstream', challenge: formatChallenge(challenge).slice(0, 2000) },
      });
    }
    case 403:
      return new AppError('permission-denied', `the upstream ${host} does not show this image to these credentials`, {
        data: { kind: 'upstream' },
      });
    case 429: {
      const retryAfterMs = retryAfterOf(headers['retry-after']);
      return new AppError('resource-exhausted', `the upstream ${host} limits how often it is asked; log in there, or try again later`, {
        data: { kind: 'upstream' },
        retryAfterMs,
      });
    }
    default: {
      const known = headers['retry-after'];
      return new AppError('unavailable', `the upstream ${host} answered with status ${status}; try again`, {
        data: { kind: 'upstream', status },
        ...(known === undefined ? {} : { retryAfterMs: retryAfterOf(known) }),
      });
    }
  }
}

/** Seconds; the form with a date is rare and taken as half a minute. */
function retryAfterOf(text: string | undefined): number {
  const seconds = Number(text ?? 5);
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 1), 3600) * 1000 : 30_000;
}
