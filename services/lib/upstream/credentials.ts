/** Credentials for other registries: where the cluster's own come from, and what a caller sent. Never logged, never part of an error. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { AppError, toAppError } from '#core';

/** How the cluster proves itself to an upstream. Files are read at each use, so a program may renew them (ECR passwords last 12 hours). */
export type CredentialSource =
  | { readonly type: 'none' }
  | { readonly type: 'basic'; readonly username: string; readonly passwordFile: string }
  /** A `config.json` as `docker login` writes it, with `auths`. */
  | { readonly type: 'dockerConfig'; readonly file: string };

/** What goes along with a request. */
export type Credentials =
  | { readonly type: 'anonymous' }
  | { readonly type: 'basic'; readonly username: string; readonly password: string }
  | { readonly type: 'bearer'; readonly token: string };

export const anonymous: Credentials = { type: 'anonymous' };

/** Longer than any token of the field. */
const authorizationLengthMax = 32 * 1024;

/** A caller's `Authorization` header. Throws `unauthenticated` for one that is neither Basic nor Bearer. */
export function credentialsOfHeader(header: string | undefined): Credentials {
  if (header === undefined || header === '') return anonymous;
  const [, scheme = '', value = ''] = /^(basic|bearer) +([\x21-\x7e]+)$/i.exec(header.slice(0, authorizationLengthMax + 1)) ?? [];
  if (header.length > authorizationLengthMax || value === '')
    throw new AppError('unauthenticated', 'the Authorization header is neither Basic nor Bearer; log in again', {
      data: { kind: 'upstream' },
    });
  return scheme.toLowerCase() === 'bearer' ? { type: 'bearer', token: value } : basicOf(value);
}

/** Names credentials in caches without holding them. */
export function credentialKey(credentials: Credentials): string {
  if (credentials.type === 'anonymous') return '-';
  const text = credentials.type === 'basic' ? `${credentials.username}\u0000${credentials.password}` : credentials.token;
  return createHash('sha256').update(`${credentials.type}\u0000${text}`).digest('base64url');
}

/** The header that carries them; undefined for none. */
export function authorizationOf(credentials: Credentials): string | undefined {
  switch (credentials.type) {
    case 'anonymous':
      return undefined;
    case 'basic':
      return `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`).toString('base64')}`;
    case 'bearer':
      return `Bearer ${credentials.token}`;
  }
}

/** Reads the cluster's credentials for the registry at `host` (`host` or `host:port`). Throws `failed-precondition` that names the file. */
export async function loadCredentials(source: CredentialSource, host: string): Promise<Credentials> {
  switch (source.type) {
    case 'none':
      return anonymous;
    case 'basic': {
      const password = (await readSecret(source.passwordFile)).replace(/\r?\n$/, '');
      if (password === '') throw unusable(source.passwordFile, 'it is empty');
      return { type: 'basic', username: source.username, password };
    }
    case 'dockerConfig':
      return fromDockerConfig(await readSecret(source.file), host, source.file);
  }
}

async function readSecret(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw unusable(file, toAppError(error).message.replace(/,.*$/, ''));
  }
}

function fromDockerConfig(text: string, host: string, file: string): Credentials {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    // The parser's message quotes the text, which is secret.
    throw unusable(file, 'it is not JSON');
  }
  const auths = fieldOf(json, 'auths');
  const hosts = /^(registry-1|index)\.docker\.io$/.test(host) ? [host, 'docker.io', 'index.docker.io'] : [host];
  for (const key of hosts.flatMap((name) => [name, `https://${name}`, `http://${name}`, `https://${name}/v1/`, `https://${name}/v2/`])) {
    const auth = fieldOf(fieldOf(auths, key), 'auth');
    if (typeof auth === 'string' && auth !== '') return basicOf(auth);
  }
  throw unusable(file, `it has no auths entry with "auth" for ${host} (credential helpers are not run)`);
}

function basicOf(base64: string): Credentials {
  const text = Buffer.from(base64, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  return colon < 0 ? anonymous : { type: 'basic', username: text.slice(0, colon), password: text.slice(colon + 1) };
}

function fieldOf(value: unknown, key: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined;
  return Object.entries(value).find(([name]) => name === key)?.[1];
}

function unusable(file: string, why: string): AppError {
  return new AppError('failed-precondition', `the credentials file ${file} of an upstream cannot be used: ${why}`);
}
