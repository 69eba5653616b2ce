/** helm: charts as artifacts. It has no images, so an index is nothing it could push. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runOk } from '../../support/processes.ts';
import { type ClientFactory, folderOf, manifestAt } from '../field.ts';

export const helm: ClientFactory = async (field, version) => {
  const { proxy, agents } = field;
  const home = folderOf(field, 'helm');
  const chart = join(home, 'demo');
  mkdirSync(join(chart, 'templates'), { recursive: true });
  mkdirSync(join(home, 'out'));
  // The sign after the plus becomes an underscore in the tag.
  writeFileSync(join(chart, 'Chart.yaml'), 'apiVersion: v2\nname: demo\nversion: 0.1.0+build.7\ndescription: a chart\n');
  writeFileSync(join(chart, 'templates', 'map.yaml'), 'apiVersion: v1\nkind: ConfigMap\nmetadata: { name: demo }\n');
  const env = { HELM_CONFIG_HOME: join(home, 'config'), HELM_CACHE_HOME: join(home, 'cache'), HELM_DATA_HOME: join(home, 'data') };
  const run = async (...args: readonly string[]): Promise<string> => runOk('helm', args, { cwd: home, env });
  const packed = 'demo-0.1.0+build.7.tgz';
  await run('package', 'demo');
  return {
    name: 'helm',
    version: version('helm'),
    remarks: 'charts; it has no images',
    push: async () => void (await run('push', packed, `oci://${proxy}/interop/charts`, '--plain-http')),
    pull: async () => {
      await run('pull', `oci://${agents[0]}/interop/charts/demo`, '--version', '0.1.0+build.7', '--plain-http', '-d', 'out');
      assert.ok(readFileSync(join(home, 'out', packed)).equals(readFileSync(join(home, packed))));
    },
    index: undefined,
    artifact: async () => {
      const shown = await run('show', 'chart', `oci://${agents[1]}/interop/charts/demo`, '--version', '0.1.0+build.7', '--plain-http');
      assert.match(shown, /^description: a chart$/m);
      const { bytes } = await manifestAt(agents[1], 'interop/charts/demo', '0.1.0_build.7');
      assert.match(bytes.toString('utf8'), /application\/vnd\.cncf\.helm\.config\.v1\+json/);
    },
  };
};
