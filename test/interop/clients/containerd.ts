/** containerd, by its own client, with an agent as the mirror of a registry that is not there. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { Containerd } from '../../support/containerd.ts';
import { runOk } from '../../support/processes.ts';
import { absentRegistry, type ClientFactory, configureMirror, folderOf, manifestAt } from '../field.ts';

const unpack = ['--snapshotter', 'native'];

export const containerd: ClientFactory = async (field, version) => {
  const { proxy, agents, layout, images } = field;
  const repository = 'interop/containerd';
  const home = folderOf(field, 'containerd');
  const daemon = await Containerd.start(home);
  await configureMirror(home, 'containerd', agents[0], '--upstream', absentRegistry);
  const hosts = ['--hosts-dir', join(home, 'etc/containerd/certs.d')];
  const ctr = async (...args: readonly string[]): Promise<string> => daemon.ctr('images', ...args);
  const archive = join(home, 'layout.tar');
  await runOk('tar', ['-C', layout, '-cf', archive, '.']);
  await ctr('import', '--all-platforms', '--no-unpack', '--base-name', 'localhost/interop', archive);
  const push = async (tag: string, digest: string, ...args: readonly string[]): Promise<void> => {
    await ctr('push', '--plain-http', ...args, `${proxy}/${repository}:${tag}`, `localhost/interop:${tag}`);
    assert.equal((await manifestAt(agents[1], repository, tag)).digest, digest);
  };
  /** As somebody who has none of it: the collection of garbage runs before `rm --sync` ends. */
  const pull = async (name: string, digest: string, ...args: readonly string[]): Promise<void> => {
    await ctr('rm', '--sync', ...(await ctr('ls', '-q')).split('\n').filter(Boolean));
    assert.equal(await daemon.ctr('content', 'ls', '-q'), '');
    await ctr('pull', ...args, name);
    const line = (await ctr('ls', `name==${name}`)).split('\n').at(1);
    assert.ok(line?.includes(digest), line);
  };
  return {
    name: 'containerd (ctr)',
    version: version('ctr'),
    remarks: 'by name, and as a mirror with `ns`, through the `hosts.toml` of `shoal agent configure`',
    push: async () => {
      await push('amd64', images.amd64.digest);
      await push('multi', images.index.digest);
    },
    pull: async () => {
      await pull(`${agents[1]}/${repository}:amd64`, images.amd64.digest, '--plain-http', ...unpack);
      await pull(`${absentRegistry}/${repository}:amd64`, images.amd64.digest, ...hosts, ...unpack);
    },
    index: async () => {
      await pull(`${absentRegistry}/${repository}:multi`, images.index.digest, ...hosts, ...unpack, '--all-platforms');
      const held = new Set((await daemon.ctr('content', 'ls', '-q')).split('\n'));
      const wanted = [images.index, images.amd64, images.arm64, ...images.blobs];
      assert.deepEqual(
        wanted.filter(({ digest }) => !held.has(digest)),
        [],
      );
    },
    artifact: undefined,
    [Symbol.asyncDispose]: async () => daemon[Symbol.asyncDispose](),
  };
};
