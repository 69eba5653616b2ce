/**
 * podman and buildah: one library below, each with storage of its own. Their common cache on this machine lets them replace a layer by one
 * that was compressed otherwise, so each job has images that no other client has met.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { runOk } from '../../support/processes.ts';
import { absentRegistry, type ClientFactory, childrenAt, configOf, configureMirror, type Field, folderOf, manifestAt } from '../field.ts';
import { makeLayout } from '../layout.ts';

const insecure = '--tls-verify=false';

type Run = (...args: readonly string[]) => Promise<string>;

/** Runs the tool with storage below the client's folder. */
function runner(field: Field, tool: string, env: NodeJS.ProcessEnv = {}): Run {
  const home = folderOf(field, tool);
  mkdirSync(home, { recursive: true });
  const storage = ['--root', join(home, 'storage'), '--runroot', join(home, 'run'), '--storage-driver', 'vfs'];
  // The name of an image that podman takes from a layout is the path as given, which must be lowercase.
  return async (...args) => runOk(tool, [...storage, ...args], { env, cwd: field.root });
}

/** Both make an index in their storage, push it with everything below it, and take one platform of it at a time. */
async function roundTripOfIndex({ proxy, agents, root }: Field, repository: string, run: Run): Promise<void> {
  const { images, layout } = await makeLayout(join(root, repository));
  const list = 'localhost/interop/multi';
  await run('manifest', 'create', list);
  for (const platform of ['amd64', 'arm64']) await run('manifest', 'add', list, `oci:${relative(root, layout)}:${platform}`);
  await run('manifest', 'push', '--all', insecure, list, `docker://${proxy}/${repository}:multi`);
  assert.deepEqual(await childrenAt(agents[1], repository, 'multi'), [images.amd64.digest, images.arm64.digest]);
  for (const platform of ['amd64', 'arm64'] as const) {
    const id = await run('pull', '-q', insecure, '--platform', `linux/${platform}`, `${agents[1]}/${repository}:multi`);
    assert.equal(`sha256:${id}`, configOf(images[platform]));
  }
}

export const podman: ClientFactory = async (field, version) => {
  const { proxy, agents, root } = field;
  const repository = 'interop/podman';
  const home = folderOf(field, 'podman');
  const { images, layout } = await makeLayout(join(home, 'images'));
  await configureMirror(home, 'podman', agents[1], '--upstream', absentRegistry);
  const run = runner(field, 'podman', { CONTAINERS_REGISTRIES_CONF: join(home, 'etc/containers/registries.conf.d/50-shoal.conf') });
  const id = configOf(images.amd64).replace('sha256:', '');
  return {
    name: 'podman',
    version: version('podman'),
    remarks: 'OCI and docker formats; by name, and as a mirror, through the `registries.conf.d` of `shoal agent configure`',
    push: async () => {
      assert.equal(await run('pull', '-q', `oci:${relative(root, layout)}:amd64`), id);
      await run('push', '-q', insecure, '--format', 'oci', id, `${proxy}/${repository}:v1`);
      await run('push', '-q', insecure, '--format', 'v2s2', id, `${proxy}/${repository}:docker`);
      assert.equal(configOf(await manifestAt(agents[0], repository, 'v1')), `sha256:${id}`);
    },
    pull: async () => {
      for (const name of [`${agents[0]}/${repository}:v1`, `${absentRegistry}/${repository}:v1`]) {
        await run('rmi', '-f', '-a');
        assert.equal(await run('pull', '-q', ...(name.startsWith(absentRegistry) ? [] : [insecure]), name), id);
      }
      // The conversion to docker's format writes another config; its layers stay what they were.
      const converted = configOf(await manifestAt(agents[0], repository, 'docker'));
      assert.equal(`sha256:${await run('pull', '-q', insecure, `${agents[0]}/${repository}:docker`)}`, converted);
    },
    index: async () => roundTripOfIndex(field, repository, run),
    artifact: undefined,
  };
};

export const buildah: ClientFactory = async (field, version) => {
  const { proxy, agents } = field;
  const repository = 'interop/buildah';
  const run = runner(field, 'buildah');
  let id = '';
  return {
    name: 'buildah',
    version: version('buildah'),
    remarks: 'an image it built itself',
    push: async () => {
      const container = await run('from', 'scratch');
      const file = join(folderOf(field, 'buildah'), 'file');
      writeFileSync(file, randomBytes(3_000_000));
      await run('copy', container, file, '/');
      id = await run('commit', '-q', '--rm', container);
      await run('push', '-q', insecure, id, `docker://${proxy}/${repository}:v1`);
      assert.equal(configOf(await manifestAt(agents[0], repository, 'v1')), `sha256:${id}`);
    },
    pull: async () => {
      await run('rmi', '-f', id);
      assert.equal(await run('pull', '-q', insecure, `${agents[0]}/${repository}:v1`), id);
    },
    index: async () => roundTripOfIndex(field, repository, run),
    artifact: undefined,
  };
};
