/** Other clients of the field against the same cluster: skopeo, podman, buildah and containerd. */
import assert from 'node:assert/strict';
import { randomFillSync } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startCluster, type TestCluster } from '../support/cluster-process.ts';
import { Containerd } from '../support/containerd.ts';
import { run, runOk } from '../support/processes.ts';
import { tempDir } from '../support/temp.ts';

const mib = 2 ** 20;
const root = tempDir('clients');
let cluster: TestCluster;
let proxy: string;
let agents: readonly [string, string];

/** An OCI layout with one image of two random layers, made by buildah without running anything. */
const layout = join(root, 'layout');
/** Containers' tools keep their own storage below the test's folder. */
const base = 'localhost/field/base:v1';
const storage = ['--root', join(root, 'storage'), '--runroot', join(root, 'run'), '--storage-driver', 'vfs'];

before(async () => {
  cluster = await startCluster({ directory: join(root, 'cluster') });
  proxy = cluster.registry('proxy-1');
  agents = [cluster.registry('agent-1'), cluster.registry('agent-2')];
  const container = await runOk('buildah', [...storage, 'from', 'scratch']);
  for (const [name, sizeBytes] of [
    ['one', 12 * mib],
    ['two', 100],
  ] as const) {
    const file = join(root, name);
    writeFileSync(file, randomFillSync(Buffer.allocUnsafe(sizeBytes)));
    await runOk('buildah', [...storage, 'copy', container, file, '/']);
  }
  await runOk('buildah', [...storage, 'commit', container, base], { timeoutMs: 300_000 });
  await runOk('buildah', [...storage, 'push', base, `oci:${layout}:v1`]);
});

after(async () => cluster?.stop());

async function skopeo(...args: readonly string[]): Promise<string> {
  return runOk('skopeo', args);
}

async function configDigest(image: string): Promise<string> {
  const manifest = JSON.parse(await skopeo('inspect', '--raw', '--tls-verify=false', image)) as {
    readonly config: { readonly digest: string };
  };
  return manifest.config.digest;
}

test('skopeo copies an image in through the proxy and out through an agent, unchanged', async () => {
  await skopeo('copy', '--dest-tls-verify=false', `oci:${layout}:v1`, `docker://${proxy}/field/skopeo:v1`);
  const out = join(root, 'out');
  await skopeo('copy', '--src-tls-verify=false', `docker://${agents[0]}/field/skopeo:v1`, `oci:${out}:v1`);
  assert.equal(await configDigest(`oci:${out}:v1`), await configDigest(`oci:${layout}:v1`));
});

test('skopeo lists tags and deletes an image', async () => {
  await skopeo('copy', '--dest-tls-verify=false', `oci:${layout}:v1`, `docker://${proxy}/field/tags:b`);
  await skopeo('copy', '--dest-tls-verify=false', `oci:${layout}:v1`, `docker://${proxy}/field/tags:a`);
  const list = JSON.parse(await skopeo('list-tags', '--tls-verify=false', `docker://${agents[1]}/field/tags`)) as {
    readonly Tags: readonly string[];
  };
  assert.deepEqual(list.Tags, ['a', 'b']);
  await skopeo('delete', '--tls-verify=false', `docker://${proxy}/field/tags:a`);
  const { code, stderr } = await run('skopeo', ['inspect', '--tls-verify=false', `docker://${agents[1]}/field/tags:a`]);
  assert.notEqual(code, 0);
  assert.match(stderr, /manifest unknown/i);
});

test('buildah pushes to the proxy and podman pulls from an agent', async () => {
  const id = await runOk('buildah', [...storage, 'inspect', '--type', 'image', '--format', '{{.FromImageID}}', base]);
  await runOk('buildah', [...storage, 'push', '--tls-verify=false', base, `docker://${proxy}/field/buildah:v1`]);
  const other = ['--root', join(root, 'storage-2'), '--runroot', join(root, 'run-2'), '--storage-driver', 'vfs'];
  const pulled = await runOk('podman', [...other, 'pull', '-q', '--tls-verify=false', `${agents[1]}/field/buildah:v1`]);
  assert.equal(pulled, id);
});

test('podman pushes to the proxy, in docker format too', async () => {
  for (const format of ['oci', 'v2s2']) {
    await runOk('podman', [...storage, 'push', '--tls-verify=false', '--format', format, base, `${proxy}/field/podman:${format}`]);
    const raw = await skopeo('inspect', '--raw', '--tls-verify=false', `docker://${agents[0]}/field/podman:${format}`);
    assert.match(raw, format === 'oci' ? /vnd\.oci\.image\.config/ : /vnd\.docker\.distribution\.manifest\.v2/);
  }
});

test('containerd pulls through an agent, by name and as a mirror of another registry, and pushes to the proxy', async () => {
  await using daemon = await Containerd.start(join(root, 'containerd'));
  await daemon.ctr('images', 'pull', '--plain-http', '--snapshotter', 'native', `${agents[0]}/field/skopeo:v1`);
  const hosts = join(root, 'certs.d');
  const upstream = 'registry.example.com';
  mkdirSync(join(hosts, upstream), { recursive: true });
  writeFileSync(
    join(hosts, upstream, 'hosts.toml'),
    `server = "https://${upstream}"\n[host."http://${agents[1]}"]\n  capabilities = ["pull", "resolve"]\n`,
  );
  await daemon.ctr('images', 'pull', '--hosts-dir', hosts, '--snapshotter', 'native', `${upstream}/field/skopeo:v1`);
  await daemon.ctr('images', 'tag', `${agents[0]}/field/skopeo:v1`, `${proxy}/field/containerd:v1`);
  await daemon.ctr('images', 'push', '--plain-http', `${proxy}/field/containerd:v1`);
  assert.equal(await configDigest(`docker://${agents[1]}/field/containerd:v1`), await configDigest(`oci:${layout}:v1`));
  const images = await daemon.ctr('images', 'ls', '-q');
  assert.ok(images.includes(`${upstream}/field/skopeo:v1`), images);
});
