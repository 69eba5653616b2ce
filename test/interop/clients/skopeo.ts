/** skopeo: copies between layouts and registries. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { digestOf } from '../../conformance/content.ts';
import { run, runOk } from '../../support/processes.ts';
import { type ClientFactory, folderOf, manifestAt } from '../field.ts';
import { cosignSignature } from '../signature.ts';

const insecure = (end: 'src' | 'dest'): string => `--${end}-tls-verify=false`;

export const skopeo: ClientFactory = async (field, version) => {
  const { proxy, agents, layout, images } = field;
  const repository = 'interop/skopeo';
  const copy = async (...args: readonly string[]): Promise<string> => runOk('skopeo', ['copy', '-q', ...args]);
  const out = join(folderOf(field, 'skopeo'), 'out');
  const digestInLayout = (folder: string, tag: string): string | undefined => {
    const { manifests } = JSON.parse(readFileSync(join(folder, 'index.json'), 'utf8')) as {
      readonly manifests: readonly { readonly digest: string; readonly annotations?: Readonly<Record<string, string>> }[];
    };
    return manifests.find(({ annotations }) => annotations?.['org.opencontainers.image.ref.name'] === tag)?.digest;
  };
  /** What is deleted at the proxy is gone at the agents at once. */
  const listAndDelete = async (): Promise<void> => {
    const tags = `${repository}/tags`;
    for (const tag of ['b', 'a'])
      await copy(insecure('dest'), `oci:${layout}:${tag === 'a' ? 'amd64' : 'arm64'}`, `docker://${proxy}/${tags}:${tag}`);
    const list = JSON.parse(await runOk('skopeo', ['list-tags', '--tls-verify=false', `docker://${agents[1]}/${tags}`])) as {
      readonly Tags: readonly string[];
    };
    assert.deepEqual(list.Tags, ['a', 'b']);
    await runOk('skopeo', ['delete', '--tls-verify=false', `docker://${proxy}/${tags}:a`]);
    const { code, stderr } = await run('skopeo', ['inspect', '--tls-verify=false', `docker://${agents[1]}/${tags}:a`]);
    assert.notEqual(code, 0);
    assert.match(stderr, /manifest unknown/i);
  };
  mkdirSync(out, { recursive: true });
  return {
    name: 'skopeo',
    version: version('skopeo'),
    remarks: "layouts, `--all` for the index; a signature under cosign's tag; lists and deletes tags",
    push: async () => void (await copy(insecure('dest'), `oci:${layout}:amd64`, `docker://${proxy}/${repository}:v1`)),
    pull: async () => {
      await copy(insecure('src'), `docker://${agents[0]}/${repository}:v1`, `oci:${out}:v1`);
      assert.equal(digestInLayout(out, 'v1'), images.amd64.digest);
    },
    index: async () => {
      await copy('--all', insecure('dest'), `oci:${layout}:multi`, `docker://${proxy}/${repository}:multi`);
      await copy('--all', insecure('src'), `docker://${agents[1]}/${repository}:multi`, `oci:${out}:multi`);
      assert.equal(digestInLayout(out, 'multi'), images.index.digest);
    },
    artifact: async () => {
      const signature = cosignSignature(images.amd64);
      const folder = join(folderOf(field, 'skopeo'), 'signature');
      signature.write(folder);
      await copy(insecure('dest'), `oci:${folder}:${signature.tag}`, `docker://${proxy}/${repository}:${signature.tag}`);
      const raw = await runOk('skopeo', ['inspect', '--raw', '--tls-verify=false', `docker://${agents[0]}/${repository}:${signature.tag}`]);
      assert.equal(digestOf(Buffer.from(raw)), signature.manifest.digest);
      assert.equal((await manifestAt(agents[1], repository, signature.tag)).digest, signature.manifest.digest);
      await listAndDelete();
    },
  };
};
