/** docker: Debian's engine with its classic image store. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DockerEngine } from '../../support/docker.ts';
import { runOk } from '../../support/processes.ts';
import { type ClientFactory, childrenAt, configureMirror, folderOf, manifestAt } from '../field.ts';

const mib = 2 ** 20;

export const docker: ClientFactory = async (field, version) => {
  const { proxy, agents } = field;
  const repository = 'interop/docker';
  const home = folderOf(field, 'docker');
  await configureMirror(home, 'docker', agents[1]);
  const engine = await DockerEngine.start(home, '--config-file', join(home, 'etc/docker/daemon.json'));
  /** The client's own folder: it keeps the lists of manifests that are being made. */
  const cli = async (...args: readonly string[]): Promise<string> => engine.dockerOk('--config', join(home, 'cli'), ...args);
  const pushed = new Map<string, string>();
  const push = async (tag: string): Promise<void> => {
    const name = `${proxy}/${repository}:${tag}`;
    const digest = /digest: (sha256:[0-9a-f]{64})/.exec(await cli('push', name))?.[1];
    assert.equal((await manifestAt(agents[0], repository, tag)).digest, digest);
    pushed.set(tag, await engine.imageId(name));
    await cli('image', 'rm', '-f', await engine.imageId(name));
  };
  /** By the name of one who has none of it. */
  const pull = async (name: string, id: string | undefined, ...args: readonly string[]): Promise<void> => {
    await cli('pull', '-q', ...args, name);
    assert.equal(await engine.imageId(name), id);
    await cli('image', 'rm', '-f', await engine.imageId(name));
  };
  const platforms = ['amd64', 'arm64'] as const;
  return {
    name: 'docker',
    version: version('dockerd'),
    remarks: 'classic image store; by name, and as a mirror of Docker Hub; the index by `docker manifest`',
    push: async () => {
      await engine.buildImage(`${proxy}/${repository}:v1`, [3 * mib, 100]);
      await push('v1');
    },
    pull: async () => {
      await pull(`${agents[0]}/${repository}:v1`, pushed.get('v1'));
      await pull(`docker.io/${repository}:v1`, pushed.get('v1'));
    },
    index: async () => {
      const names = platforms.map((platform) => `${proxy}/${repository}:${platform}`);
      for (const platform of platforms) {
        const folder = join(home, platform);
        mkdirSync(folder);
        writeFileSync(join(folder, platform), randomBytes(mib));
        await runOk('tar', ['-C', folder, '-cf', `${folder}.tar`, platform]);
        await cli('import', '--platform', `linux/${platform}`, `${folder}.tar`, `${proxy}/${repository}:${platform}`);
        await push(platform);
      }
      await cli('manifest', 'create', '--insecure', `${proxy}/${repository}:multi`, ...names);
      // `import` writes the architecture of the engine into the config.
      for (const [at, platform] of platforms.entries())
        await cli('manifest', 'annotate', '--os', 'linux', '--arch', platform, `${proxy}/${repository}:multi`, names[at] ?? '');
      const digest = await cli('manifest', 'push', '--insecure', `${proxy}/${repository}:multi`);
      assert.equal((await manifestAt(agents[1], repository, 'multi')).digest, digest);
      const children = await Promise.all(platforms.map(async (platform) => manifestAt(agents[1], repository, platform)));
      assert.deepEqual(
        await childrenAt(agents[1], repository, 'multi'),
        children.map((child) => child.digest),
      );
      for (const platform of platforms)
        await pull(`${agents[1]}/${repository}:multi`, pushed.get(platform), '--platform', `linux/${platform}`);
    },
    artifact: undefined,
    [Symbol.asyncDispose]: async () => engine[Symbol.asyncDispose](),
  };
};
