/** oras: artifacts and what refers to them. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runOk } from '../../support/processes.ts';
import { type ClientFactory, folderOf, manifestAt } from '../field.ts';

const sbomType = 'application/vnd.example.sbom';

export const oras: ClientFactory = async (field, version) => {
  const { proxy, agents, layout, images } = field;
  const repository = 'interop/oras';
  const home = folderOf(field, 'oras');
  mkdirSync(join(home, 'pulled'), { recursive: true });
  const run = async (...args: readonly string[]): Promise<string> => runOk('oras', args, { cwd: home });
  const copyOut = async (agent: string, tag: string): Promise<void> => {
    await run('cp', '--from-plain-http', `${agent}/${repository}:${tag}`, '--to-oci-layout', `out:${tag}`);
  };
  return {
    name: 'oras',
    version: version('oras'),
    remarks: 'layouts; files, and a reference by `oras attach`, listed with a filter',
    push: async () => void (await run('cp', '--from-oci-layout', `${layout}:amd64`, '--to-plain-http', `${proxy}/${repository}:v1`)),
    pull: async () => {
      await copyOut(agents[0], 'v1');
      assert.equal(await run('resolve', '--oci-layout', 'out:v1'), images.amd64.digest);
    },
    index: async () => {
      await run('cp', '--from-oci-layout', `${layout}:multi`, '--to-plain-http', `${proxy}/${repository}:multi`);
      await copyOut(agents[1], 'multi');
      assert.equal(await run('resolve', '--oci-layout', 'out:multi'), images.index.digest);
    },
    artifact: async () => {
      const bytes = randomBytes(700_000);
      writeFileSync(join(home, 'sbom'), bytes);
      await run('push', '--plain-http', '--artifact-type', sbomType, `${proxy}/${repository}:sbom`, 'sbom:application/octet-stream');
      await run('pull', '--plain-http', '-o', 'pulled', `${agents[0]}/${repository}:sbom`);
      assert.ok(readFileSync(join(home, 'pulled', 'sbom')).equals(bytes));
      const attach = ['attach', '--plain-http', '--artifact-type', sbomType, '--annotation', 'kind=sbom'];
      await run(...attach, `${proxy}/${repository}:multi`, 'sbom:application/octet-stream');
      const found = await run(
        'discover',
        '--plain-http',
        '--format',
        'json',
        '--artifact-type',
        sbomType,
        `${agents[1]}/${repository}:multi`,
      );
      const digest = /"digest":\s*"(sha256:[0-9a-f]{64})"/.exec(found.slice(found.indexOf('referrers')))?.[1];
      assert.ok(digest !== undefined, found);
      const { bytes: manifest } = await manifestAt(agents[1], repository, digest);
      assert.ok(manifest.includes(images.index.digest), 'the subject');
    },
  };
};
