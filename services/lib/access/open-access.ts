/** Makes the access control of a gateway from its config. */
import { randomBytes } from 'node:crypto';
import type { Clock, Logger } from '#core';
import { BcryptWorker } from './bcrypt-worker.ts';
import type { AccessConfig } from './config.ts';
import { RuledAccess } from './control.ts';
import { ExternalTokens } from './external-tokens.ts';
import { htpasswdBytesMax, parseHtpasswd } from './htpasswd.ts';
import { type KeySource, keySetBytesMax, parseKeySet, RemoteKeys } from './key-sets.ts';
import { keyFileBytesMax, keyOf, OwnTokens, parseKeyFile } from './own-tokens.ts';
import { Passwords } from './passwords.ts';
import { WatchedFile, type WatchedFileDeps } from './watched-file.ts';

export interface AccessDeps {
  readonly clock: Clock;
  readonly logger: Logger;
}

/** An access control and what it holds open. */
export interface OpenedAccess extends AsyncDisposable {
  readonly control: RuledAccess;
}

/** Reads every file that the config names. Throws `not-found` or `invalid-argument` when one is absent or wrong. */
export async function openAccessControl(config: AccessConfig, deps: AccessDeps): Promise<OpenedAccess> {
  const worker = new BcryptWorker();
  const passwords = config.htpasswd === undefined ? undefined : await openPasswords(config.htpasswd.file, worker, deps);
  const ownTokens = config.realm === undefined ? await openOwnTokens(config, deps) : undefined;
  const externalTokens = await Promise.all(
    config.issuers.map(async ({ jwks, groupsClaim, ...issuer }) => {
      const keys = 'url' in jwks ? new RemoteKeys(jwks.url, deps) : await openKeySet(jwks.file, deps);
      return new ExternalTokens({ ...issuer, groupsClaim }, { ...deps, keys });
    }),
  );
  const { rules, groups, service, publicUrl, realm } = config;
  const control = new RuledAccess({ rules, groups, service, publicUrl, realm }, { passwords, ownTokens, externalTokens });
  return { control, [Symbol.asyncDispose]: async () => worker[Symbol.asyncDispose]() };
}

async function openPasswords(path: string, worker: BcryptWorker, deps: AccessDeps): Promise<Passwords> {
  const users = await WatchedFile.open({ path, sizeBytesMax: htpasswdBytesMax, parse: parseHtpasswd }, deps);
  return new Passwords({ ...deps, worker, users });
}

async function openOwnTokens({ token, service }: AccessConfig, deps: AccessDeps): Promise<OwnTokens> {
  const options = { service, lifetimeMs: token.lifetime };
  if (token.keyFile !== undefined) {
    const file = { path: token.keyFile, sizeBytesMax: keyFileBytesMax, parse: parseKeyFile };
    return new OwnTokens(options, { ...deps, keys: await WatchedFile.open(file, deps) });
  }
  deps.logger.warn('tokens hold at this gateway only, until it restarts; set access.token.keyFile to the same file on all of them');
  const keys = [keyOf(randomBytes(32))];
  return new OwnTokens(options, { ...deps, keys: { current: async () => keys } });
}

async function openKeySet(path: string, deps: WatchedFileDeps): Promise<KeySource> {
  const file = await WatchedFile.open({ path, sizeBytesMax: keySetBytesMax, parse: parseKeySet }, deps);
  return { current: async () => file.current(), renewed: async () => undefined };
}
