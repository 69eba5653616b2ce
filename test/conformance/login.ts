/**
 * Logging in as clients do that know nothing beforehand: ask without credentials, read the challenge, get a token for what it names, and ask once
 * more. A token serves every later request of its kind to the same repository.
 */
import assert from 'node:assert/strict';
import type http from 'node:http';

export interface Login {
  readonly user: string;
  readonly password: string;
}

/** Sends one request and does nothing about its answer. */
export type GetToken = (url: string, headers: http.OutgoingHttpHeaders) => Promise<{ readonly status: number; readonly body: Buffer }>;

export class Tokens {
  readonly #login: Login;
  readonly #get: GetToken;
  readonly #kept = new Map<string, string>();

  constructor(login: Login, get: GetToken) {
    this.#login = login;
    this.#get = get;
  }

  /** What was good for such a request before, if anything. */
  kept(method: string, url: URL): string | undefined {
    return this.#kept.get(kindOf(method, url));
  }

  /** Gets what a challenge asks for. Throws when it cannot be read, or nobody gives the token. */
  async answer(challenge: string | undefined, method: string, url: URL): Promise<string> {
    const { realm, service, scope } = parametersOf(challenge ?? '');
    assert.ok(realm !== undefined && service !== undefined, `a challenge without realm or service: ${challenge}`);
    const address = new URL(realm, url);
    address.search = new URLSearchParams({ service, ...(scope === undefined ? {} : { scope }) }).toString();
    const { user, password } = this.#login;
    const basic = Buffer.from(`${user}:${password}`).toString('base64');
    const { status, body } = await this.#get(address.href, { accept: 'application/json', authorization: `Basic ${basic}` });
    assert.equal(status, 200, `no token for ${scope}: ${body}`);
    const { token, access_token: accessToken } = JSON.parse(body.toString('utf8')) as Readonly<Record<string, unknown>>;
    assert.ok(typeof token === 'string' && token !== '' && token === accessToken, 'clients read either name');
    const authorization = `Bearer ${token}`;
    this.#kept.set(kindOf(method, url), authorization);
    return authorization;
  }
}

/** Reading and writing are told apart, and deleting is a kind of its own: that of blobs and that of uploads take turns with one token. */
function kindOf(method: string, { pathname }: URL): string {
  const repository = /^\/v2\/(.+?)\/(?:blobs|manifests|tags|referrers)\//.exec(pathname)?.[1] ?? '';
  if (method === 'GET' || method === 'HEAD') return `read ${repository}`;
  return method === 'DELETE' ? `delete ${repository}` : `write ${repository}`;
}

/** The quoted parameters of a Bearer challenge. As careless as the parsers of clients: neither scheme may occur in what follows. */
function parametersOf(challenge: string): Readonly<Record<string, string | undefined>> {
  assert.match(challenge, /^Bearer (?!.*(?:bearer|basic))/i);
  return Object.fromEntries(
    [...challenge.matchAll(/([a-z]+)="([^"]+)"/gi)].map(([, name = '', value = '']) => [name.toLowerCase(), value]),
  );
}
