/** Gateways that ask for a login: their config, and the checks of what only they refuse. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import bcrypt from 'bcryptjs';
import { stringify } from 'yaml';
import { randomContent } from './content.ts';
import { checkCreated, pushBlob, startSession, uploadsPath } from './push-blob.ts';
import type { Check } from './recorder.ts';
import { jsonOf, Registry, type Reply } from './registry.ts';

/** The owner may do everything everywhere, a member pushes to the repositories of its team. */
export const logins = {
  owner: { user: 'owner', password: randomBytes(8).toString('hex') },
  member: { user: 'member', password: randomBytes(8).toString('hex') },
} as const;

const bcryptCost = 6;

/** Writes the files of such gateways below `directory` and returns the part of the config that names them. */
export function gatewayWithLogins(directory: string): string {
  const [htpasswd, keyFile, file] = ['htpasswd', 'token-key', 'gateway.yaml'].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  const lines = Object.values(logins).map(({ user, password }) => `${user}:${bcrypt.hashSync(password, bcryptCost)}\n`);
  writeFileSync(htpasswd, lines.join(''));
  writeFileSync(keyFile, randomBytes(32).toString('hex'), { mode: 0o600 });
  const rules = [
    { who: ['user:owner'], repositories: ['**'], allow: ['pull', 'push', 'delete'] },
    { who: ['user:member'], repositories: ['team/**'], allow: ['pull', 'push'] },
  ];
  writeFileSync(file, stringify({ access: { rules, htpasswd: { file: htpasswd }, token: { keyFile } } }));
  return file;
}

/** `url` is that of gateways with these logins. */
export async function checkLogins(url: string, check: Check): Promise<void> {
  using nobody = new Registry({ url });
  using stranger = new Registry({ url, login: { user: 'owner', password: 'wrong' } });
  using member = new Registry({ url, login: logins.member });
  await check('without a login the ping is a challenge', async () => {
    const reply = await nobody.expect(401, 'GET', '/v2/');
    assert.match(String(reply.headers['www-authenticate']), /^Bearer realm="http:\/\/[^"]+\/v2\/token",service="[^"]+"$/);
    assert.equal(codeOf(reply), 'UNAUTHORIZED');
  });
  await check('without a login a push is a challenge for its scope', async () => {
    const reply = await nobody.expect(401, 'POST', uploadsPath('team/app'));
    assert.match(String(reply.headers['www-authenticate']), /,scope="repository:team\/app:pull,push"$/);
  });
  await check('a wrong password gets no token', async () => {
    await assert.rejects(stranger.ask('GET', '/v2/team/app/tags/list'), /no token for repository:team\/app:pull/);
  });
  await check('where the login may not push, a push is denied', async () => {
    assert.equal(codeOf(await member.expect(403, 'POST', uploadsPath('other/app'))), 'DENIED');
  });
  await check('a mount between repositories that the login may both pull is one', async () => {
    const content = randomContent(512);
    await pushBlob(member, 'team/base', 'post+put', content);
    // The token that is kept from here on is for this repository alone.
    await startSession(member, 'team/app');
    const query = { mount: content.digest, from: 'team/base' };
    await checkCreated(member, await member.expect(201, 'POST', uploadsPath('team/app'), { query }), content);
  });
  await check('a mount from where the login may not pull is an upload', async () => {
    using owner = new Registry({ url, login: logins.owner });
    const content = randomContent(512);
    await pushBlob(owner, 'other/base', 'post+put', content);
    const query = { mount: content.digest, from: 'other/base' };
    await member.expect(202, 'POST', uploadsPath('team/app'), { query });
  });
}

function codeOf(reply: Reply): string | undefined {
  const { errors } = jsonOf(reply) as { readonly errors: readonly { readonly code: string }[] };
  return errors[0]?.code;
}
