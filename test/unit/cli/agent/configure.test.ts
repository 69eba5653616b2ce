import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { tempDir } from '#test/support/temp';
import { type Configured, type ConfigureFlags, configure } from '../../../../services/cli/agent/configure.ts';
import { unifiedDiff } from '../../../../services/cli/agent/diff.ts';
import { marked, withoutMarked } from '../../../../services/cli/agent/marked-text.ts';
import { parseAgentAddress, parseUpstream } from '../../../../services/cli/agent/settings.ts';

/** A root with the given files. */
function rootWith(files: Readonly<Record<string, string>>): string {
  const root = tempDir('configure');
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

/** Every file below a folder with its text. */
function snapshot(root: string): Record<string, string> {
  const files = (readdirSync(root, { recursive: true }) as string[]).filter((path) => statSync(join(root, path)).isFile());
  return Object.fromEntries(files.sort().map((path) => [path, readFileSync(join(root, path), 'utf8')]));
}

const flags: ConfigureFlags = { agent: '127.0.0.1:16000', upstream: [], runtime: [], root: '/nowhere' };

/** What the command would show of its changes. */
const shown = ({ changes }: Configured): string => changes.map(({ path, before, after }) => unifiedDiff(path, before, after)).join('\n');

const foreignHosts = 'server = "https://registry.example.com"\n\n[host."https://cache.example.com"]\n  capabilities = ["pull"]\n';
const foreignDaemon = '{\n    "log-driver": "journald",\n    "registry-mirrors": ["https://mirror.example.com"]\n}';
const foreignRegistries =
  'unqualified-search-registries = ["docker.io"]\n\n[[registry]]\nlocation = "internal.example.com"\nblocked = true\n';

const hostsFile = 'etc/containerd/certs.d/registry.example.com/hosts.toml';
const podmanFile = 'etc/containers/registries.conf.d/50-shoal.conf';
const files = {
  [hostsFile]: foreignHosts,
  'etc/docker/daemon.json': foreignDaemon,
  'etc/containers/registries.conf': foreignRegistries,
};

test('nothing is changed until --apply, and the difference is shown', async () => {
  const root = rootWith(files);
  const before = snapshot(root);
  const planned = await configure({ ...flags, root, upstream: ['registry.example.com', 'docker.io'] });
  const text = shown(planned);
  assert.deepEqual(snapshot(root), before);
  assert.equal(planned.done, false);
  assert.match(text, /^\+\[host\."http:\/\/127\.0\.0\.1:16000"\]$/m);
  assert.match(text, /^\+ {8}"http:\/\/127\.0\.0\.1:16000",$/m);
  assert.match(text, /^\+\+\+ \/etc\/containers\/registries\.conf\.d\/50-shoal\.conf$/m);
});

test('--apply keeps what others wrote, does nothing the second time, and --remove restores every byte', async () => {
  const root = rootWith(files);
  const before = snapshot(root);
  const wanted = { ...flags, root, upstream: ['registry.example.com', 'docker.io'], catchAll: true, apply: true };
  await configure(wanted);
  const hosts = readFileSync(join(root, hostsFile), 'utf8');
  assert.ok(hosts.startsWith('server = "https://registry.example.com"\n'), hosts);
  assert.ok(hosts.indexOf('127.0.0.1:16000') < hosts.indexOf('cache.example.com'), 'the agent is asked first');
  const daemon = JSON.parse(readFileSync(join(root, 'etc/docker/daemon.json'), 'utf8')) as Record<string, unknown>;
  assert.deepEqual(daemon, { 'log-driver': 'journald', 'registry-mirrors': ['http://127.0.0.1:16000', 'https://mirror.example.com'] });
  assert.ok(existsSync(join(root, 'etc/containerd/certs.d/_default/hosts.toml')));
  assert.match(
    readFileSync(join(root, 'etc/containerd/certs.d/docker.io/hosts.toml'), 'utf8'),
    /^server = "https:\/\/registry-1\.docker\.io"$/m,
  );
  const applied = snapshot(root);
  assert.equal(shown(await configure(wanted)).trim(), '');
  assert.deepEqual(snapshot(root), applied);
  assert.equal(statSync(join(root, 'etc/shoal/agent-configure.json')).mode & 0o777, 0o600);
  await configure({ ...flags, root, remove: true });
  assert.deepEqual(snapshot(root), before);
  assert.ok(!existsSync(join(root, 'etc/containerd/certs.d/_default')), 'no folder is left');
});

test('a second --apply with other settings replaces the first and takes back what is no longer wanted', async () => {
  const root = rootWith(files);
  const before = snapshot(root);
  await configure({ ...flags, root, upstream: ['registry.example.com', 'docker.io'], apply: true });
  await configure({ ...flags, root, upstream: ['other.example.com'], agent: '10.1.2.3:5000', apply: true });
  assert.equal(readFileSync(join(root, hostsFile), 'utf8'), foreignHosts);
  assert.equal(readFileSync(join(root, 'etc/docker/daemon.json'), 'utf8'), foreignDaemon);
  assert.match(readFileSync(join(root, podmanFile), 'utf8'), /location = "10\.1\.2\.3:5000\/other\.example\.com"/);
  await configure({ ...flags, root, remove: true });
  assert.deepEqual(snapshot(root), before);
});

test('what somebody changed after --apply survives --remove', async () => {
  const root = rootWith(files);
  await configure({ ...flags, root, upstream: ['registry.example.com', 'docker.io'], agent: '10.1.2.3:5000', apply: true });
  const daemonPath = join(root, 'etc/docker/daemon.json');
  const daemon = JSON.parse(readFileSync(daemonPath, 'utf8')) as Record<string, unknown>;
  assert.deepEqual(daemon['insecure-registries'], ['10.1.2.3:5000']);
  writeFileSync(daemonPath, JSON.stringify({ ...daemon, 'max-concurrent-downloads': 7 }));
  writeFileSync(join(root, hostsFile), `${readFileSync(join(root, hostsFile), 'utf8')}\n[host."https://third.example.com"]\n`);
  await configure({ ...flags, root, remove: true });
  assert.deepEqual(JSON.parse(readFileSync(daemonPath, 'utf8')), {
    'log-driver': 'journald',
    'registry-mirrors': ['https://mirror.example.com'],
    'max-concurrent-downloads': 7,
  });
  assert.equal(readFileSync(join(root, hostsFile), 'utf8'), `${foreignHosts}\n[host."https://third.example.com"]\n`);
});

test('a file that cannot be changed without loss is left alone, and the message says what to do', async () => {
  const broken = rootWith({ 'etc/docker/daemon.json': '{ "debug": true, }' });
  await assert.rejects(configure({ ...flags, root: broken, apply: true }), /daemon\.json is not JSON: correct it first/);
  const taken = rootWith({ 'etc/containers/registries.conf.d/10-own.conf': '[[registry]]\nprefix = "registry.example.com"\n' });
  await assert.rejects(
    configure({ ...flags, root: taken, upstream: ['registry.example.com'], apply: true }),
    /10-own\.conf has settings for registry\.example\.com/,
  );
  assert.deepEqual(Object.keys(snapshot(taken)), ['etc/containers/registries.conf.d/10-own.conf']);
  const double = rootWith({ [hostsFile]: '[host."http://127.0.0.1:16000"]\n' });
  await assert.rejects(
    configure({ ...flags, root: double, upstream: ['registry.example.com'], apply: true }),
    /has a host http:\/\/127\.0\.0\.1:16000 already/,
  );
});

test('only installed runtimes are configured, and none installed is an error', async () => {
  const root = rootWith({ 'etc/docker/key.json': '{}' });
  const { changes } = await configure({ ...flags, root });
  assert.deepEqual(
    changes.map(({ path, before }) => [path, before]),
    [['/etc/docker/daemon.json', undefined]],
  );
  assert.deepEqual(parse(changes[0]?.after ?? ''), { 'registry-mirrors': ['http://127.0.0.1:16000'] });
  await assert.rejects(configure({ ...flags, root: rootWith({}) }), /name the runtimes with --runtime/);
});

test('addresses and registries are checked before they get into a file', () => {
  assert.deepEqual(parseAgentAddress('https://10.0.0.1:443'), {
    url: 'https://10.0.0.1:443',
    host: '10.0.0.1:443',
    isSecure: true,
    isLoopback: false,
  });
  assert.equal(parseAgentAddress('127.0.0.1:16000').isLoopback, true);
  assert.equal(parseAgentAddress('[::1]:16000').url, 'http://[::1]:16000');
  for (const text of ['', 'host', 'http://a b:1', 'a"b:1', 'a:0', ':80/x']) assert.throws(() => parseAgentAddress(text), text);
  assert.equal(parseUpstream('registry.example.com:5000'), 'registry.example.com:5000');
  for (const text of ['', '../etc', 'a/b', '_default', 'UPPER.example.com', 'a"b', 'x..y']) assert.throws(() => parseUpstream(text), text);
});

test('a marked block is found again whatever stands around it', () => {
  const block = marked(['a = 1', '[x]']);
  assert.equal(withoutMarked(block), undefined);
  assert.equal(withoutMarked(`one\n${block}two\n`), 'one\ntwo\n');
  assert.equal(withoutMarked('nothing of ours\n'), 'nothing of ours\n');
  const cut = `${block.split('\n')[0]}\nno end\n`;
  assert.equal(withoutMarked(cut), cut);
});

test('differences look like those of diff -u', () => {
  assert.equal(unifiedDiff('/f', 'a\n', 'a\n'), '');
  assert.equal(unifiedDiff('/f', undefined, 'a\nb\n'), '--- /dev/null\n+++ /f\n@@ -0,0 +1,2 @@\n+a\n+b');
  const before = '1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n';
  assert.equal(
    unifiedDiff('/f', before, before.replace('5\n', 'five\n').concat('11\n')),
    '--- /f\n+++ /f\n@@ -2,9 +2,10 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n 9\n 10\n+11',
  );
});
