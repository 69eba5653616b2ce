/** Access control with the clients people use: docker logs in, pushes and pulls; skopeo with credentials, without, and over TLS. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import bcrypt from 'bcryptjs';
import { stringify } from 'yaml';
import { startCluster, type TestCluster } from '../support/cluster-process.ts';
import { DockerEngine } from '../support/docker.ts';
import { type Output, run } from '../support/processes.ts';
import { tempDir } from '../support/temp.ts';

const root = tempDir('access');
const layout = join(root, 'layout');
let cluster: TestCluster;
let engine: DockerEngine;
let proxy: string;
let agent: string;

const users = { alice: 'alice-pw', admin: 'admin-pw', reader: 'reader-pw' } as const;
type User = keyof typeof users;

function writeGatewayConfig(): string {
  const htpasswd = join(root, 'htpasswd');
  const keyFile = join(root, 'token-key');
  const file = join(root, 'gateway.yaml');
  writeFileSync(
    htpasswd,
    Object.entries(users)
      .map(([user, password]) => `${user}:${bcrypt.hashSync(password, 10)}\n`)
      .join(''),
  );
  writeFileSync(keyFile, randomBytes(32).toString('hex'), { mode: 0o600 });
  const rules = [
    { who: ['anonymous'], repositories: ['public/**'], allow: ['pull'] },
    { who: ['user:alice'], repositories: ['public/**', 'team/**'], allow: ['pull', 'push'] },
    { who: ['user:reader'], repositories: ['team/**'], allow: ['pull'] },
    { who: ['user:admin'], repositories: ['**'], allow: ['pull', 'push', 'delete'] },
  ];
  writeFileSync(file, stringify({ access: { rules, htpasswd: { file: htpasswd }, token: { keyFile } } }));
  return file;
}

before(async () => {
  cluster = await startCluster({
    directory: join(root, 'cluster'),
    agents: 1,
    origins: 2,
    args: ['--gateway-config', writeGatewayConfig()],
  });
  proxy = cluster.registry('proxy-1');
  agent = cluster.registry('agent-1');
  engine = await DockerEngine.start(join(root, 'engine'));
});

after(async () => {
  await engine?.[Symbol.asyncDispose]();
  await cluster?.stop();
});

const creds = (user: User, password: string = users[user]): string[] => ['--creds', `${user}:${password}`];

async function skopeo(command: string, ...args: readonly string[]): Promise<Output> {
  // No login of whoever runs the test is used.
  return run('skopeo', [command, ...args], { env: { REGISTRY_AUTH_FILE: join(root, 'auth.json') } });
}

async function skopeoOk(command: string, ...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await skopeo(command, ...args);
  assert.equal(code, 0, stderr);
  return stdout.trim();
}

test('docker is refused without a login, and with a wrong password', async () => {
  const name = `${proxy}/team/app:v1`;
  await engine.buildImage(name, [2_000_000, 1000]);
  const push = await engine.docker('push', name);
  assert.notEqual(push.code, 0);
  assert.match(push.stderr + push.stdout, /denied|unauthorized|authentication required/i);
  const login = await engine.login(proxy, 'alice', 'wrong');
  assert.notEqual(login.code, 0);
  assert.match(login.stderr, /wrong user name or password/);
});

test('docker logs in, pushes to the proxy, and pulls from an agent with a login of its own', async () => {
  const name = `${proxy}/team/app:v1`;
  const login = await engine.login(proxy, 'alice', users.alice);
  assert.equal(login.code, 0, login.stderr);
  await engine.dockerOk('push', name);
  const id = await engine.imageId(name);
  await engine.dockerOk('tag', name, 'kept:v1');
  const anonymous = await engine.docker('pull', `${agent}/team/app:v1`);
  assert.notEqual(anonymous.code, 0);
  assert.equal((await engine.login(agent, 'reader', users.reader)).code, 0);
  await engine.dockerOk('image', 'rm', '-f', 'kept:v1', name);
  await engine.dockerOk('pull', `${agent}/team/app:v1`);
  assert.equal(await engine.imageId(`${agent}/team/app:v1`), id);
});

test('docker mounts a layer from a repository that it may pull', async () => {
  await engine.dockerOk('tag', `${agent}/team/app:v1`, `${proxy}/public/app:v1`);
  await engine.dockerOk('push', `${proxy}/public/app:v1`);
});

test('docker is told that a push is denied to who may only pull', async () => {
  assert.equal((await engine.login(proxy, 'reader', users.reader)).code, 0);
  await engine.dockerOk('tag', `${agent}/team/app:v1`, `${proxy}/team/other:v1`);
  const push = await engine.docker('push', `${proxy}/team/other:v1`);
  assert.notEqual(push.code, 0);
  assert.match(push.stderr + push.stdout, /denied/);
});

test('everybody pulls what is public, without any login', async () => {
  await engine.dockerOk('logout', agent);
  await engine.dockerOk('pull', `${agent}/public/app:v1`);
  await skopeoOk('copy', '--src-tls-verify=false', `docker://${agent}/public/app:v1`, `oci:${layout}:v1`);
  const closed = await skopeo('inspect', '--tls-verify=false', `docker://${agent}/team/app:v1`);
  assert.notEqual(closed.code, 0);
  assert.match(closed.stderr, /unauthorized|authentication required/i);
});

test('skopeo copies with credentials; wrong ones are refused', async () => {
  const target = `docker://${proxy}/team/skopeo:v1`;
  await skopeoOk(
    'copy',
    '--dest-tls-verify=false',
    ...creds('alice').map((text) => text.replace('--creds', '--dest-creds')),
    `oci:${layout}:v1`,
    target,
  );
  const wrong = await skopeo('inspect', '--tls-verify=false', ...creds('alice', 'wrong'), target);
  assert.notEqual(wrong.code, 0);
  assert.match(wrong.stderr, /unauthorized|invalid username\/password/i);
});

test('deleting is a right of its own: who may push is denied, who may delete is not', async () => {
  const image = `docker://${proxy}/team/skopeo:v1`;
  const denied = await skopeo('delete', '--tls-verify=false', ...creds('alice'), image);
  assert.notEqual(denied.code, 0);
  assert.match(denied.stderr, /denied|403|unauthorized/i);
  await skopeoOk('inspect', '--tls-verify=false', ...creds('reader'), image);
  await skopeoOk('delete', '--tls-verify=false', ...creds('admin'), image);
  assert.notEqual((await skopeo('inspect', '--tls-verify=false', ...creds('reader'), image)).code, 0);
});

test('a user whose line is taken out of the file cannot log in any longer', async () => {
  const file = join(root, 'htpasswd');
  const lines = readFileSync(file, 'utf8').split('\n');
  writeFileSync(file, lines.filter((line) => !line.startsWith('reader:')).join('\n'));
  const deadlineMs = performance.now() + 20_000;
  while ((await engine.login(proxy, 'reader', users.reader)).code === 0) assert.ok(performance.now() < deadlineMs);
  writeFileSync(file, lines.join('\n'));
});
