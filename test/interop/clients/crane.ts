/** crane, of go-containerregistry, which ko, kaniko and flux stand on too. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { runOk } from '../../support/processes.ts';
import { type ClientFactory, folderOf, manifestAt } from '../field.ts';
import { writeLayout } from '../layout.ts';
import { cosignSignature } from '../signature.ts';

export const crane: ClientFactory = async (field, version) => {
  const { proxy, agents, images } = field;
  const repository = 'interop/crane';
  const folder = (name: string): string => join(folderOf(field, 'crane'), name);
  const run = async (...args: readonly string[]): Promise<string> => runOk('crane', args);
  const [amd64] = images.descriptors;
  assert.ok(amd64 !== undefined);
  writeLayout(folder('amd64'), [...images.blobs, images.amd64], [amd64]);
  writeLayout(folder('multi'), [...images.blobs, images.amd64, images.arm64], images.descriptors, images.index.bytes);
  return {
    name: 'crane',
    version: version('crane'),
    remarks: "layouts, `crane validate` of every layer; a signature under cosign's tag",
    push: async () => void (await run('push', folder('amd64'), `${proxy}/${repository}:v1`)),
    pull: async () => {
      assert.equal(await run('digest', `${agents[0]}/${repository}:v1`), images.amd64.digest);
      await run('pull', '--format', 'oci', `${agents[0]}/${repository}:v1`, folder('out'));
      await run('validate', '--remote', `${agents[0]}/${repository}:v1`);
    },
    index: async () => {
      await run('push', '--index', folder('multi'), `${proxy}/${repository}:multi`);
      assert.equal(await run('digest', `${agents[1]}/${repository}:multi`), images.index.digest);
      await run('validate', '--remote', `${agents[1]}/${repository}:multi`);
    },
    artifact: async () => {
      const signature = cosignSignature(images.amd64);
      signature.write(folder('signature'));
      await run('push', folder('signature'), `${proxy}/${repository}:${signature.tag}`);
      assert.deepEqual((await run('ls', `${agents[0]}/${repository}`)).split('\n').sort(), ['multi', signature.tag, 'v1'].sort());
      assert.equal(await run('digest', `${agents[0]}/${repository}:${signature.tag}`), signature.manifest.digest);
      assert.equal((await manifestAt(agents[1], repository, signature.tag)).digest, signature.manifest.digest);
    },
  };
};
