/**
 * Signatures, referrers and build caches come back from durable storage alone: every origin loses its disk after the push, and an agent that
 * has none of it serves the same bytes and the same lists.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { mediaTypes } from '../conformance/content.ts';
import { pushDataSet, readDataSet, tagsOf } from '../conformance/data-checks.ts';
import { type DataSet, DataSetBuilder } from '../conformance/data-set.ts';
import { Recorder } from '../conformance/recorder.ts';
import { checkReferrers } from '../conformance/referrer-checks.ts';
import { Registry } from '../conformance/registry.ts';
import { type RestartedNode, startCluster, type TestCluster } from '../support/cluster-process.ts';
import { until } from '../support/processes.ts';
import { tempDir } from '../support/temp.ts';

const mib = 2 ** 20;
const repository = 'demo/signed';
const originIds = ['origin-1', 'origin-2', 'origin-3'];
const restarted: RestartedNode[] = [];
let cluster: TestCluster;

before(async () => {
  cluster = await startCluster({ directory: tempDir('durable'), agents: 1 });
});

after(async () => {
  for (const node of restarted) await node[Symbol.asyncDispose]();
  await cluster?.stop();
});

/** An image of two platforms with a signature and an SBOM, each in both ways: under a tag made of the digest, and by a subject. */
function signedImage(): DataSet {
  const set = new DataSetBuilder('signed');
  const platforms = ['amd64', 'arm64'].map((architecture) => ({
    ...set.image({ layers: [set.blob(randomBytes(3 * mib), mediaTypes.layerGzip), set.layer()] }),
    platform: { os: 'linux', architecture },
  }));
  const image = set.index(platforms, { tag: 'v1' });
  const hex = image.digest.replace(':', '-');
  const claim = (): ReturnType<DataSetBuilder['blob']> =>
    set.blob(Buffer.from(JSON.stringify({ critical: { image: image.digest }, nonce: randomBytes(4).toString('hex') })), claimType, {
      annotations: { 'dev.cosignproject.cosign/signature': randomBytes(64).toString('base64') },
    });
  set.image({ tag: `${hex}.sig`, layers: [claim(), claim()] });
  set.image({ tag: `${hex}.att`, layers: [set.layer('application/vnd.dsse.envelope.v1+json')] });
  const signature = { config: set.emptyJson(), artifactType: 'application/vnd.dev.cosign.artifact.sig.v1+json' };
  set.image({ ...signature, subject: image, layers: [claim()], annotations: { 'org.example.by': 'ci' } });
  const sbom = set.image({
    subject: image,
    config: set.emptyJson(),
    layers: [set.blob(randomBytes(mib), 'application/spdx+json')],
    artifactType: 'application/spdx+json',
  });
  // A signature of the SBOM, and the list that clients without the referrers API keep.
  set.image({ ...signature, subject: sbom, layers: [claim()] });
  set.index([{ ...sbom, artifactType: 'application/spdx+json' }], { tag: hex });
  return set.build();
}

const claimType = 'application/vnd.dev.cosign.simplesigning.v1+json';
const cacheConfigType = 'application/vnd.buildkit.cacheconfig.v0';

/** Caches of builds: an index whose entries are layers and a config, without platforms; and the same as an image manifest. */
function buildCaches(): DataSet {
  const set = new DataSetBuilder('caches');
  const layers = [4 * mib, 300].map((sizeBytes) =>
    set.blob(randomBytes(sizeBytes), mediaTypes.layerGzip, {
      annotations: { 'buildkit/createdat': '2024-01-01T00:00:00Z', 'containerd.io/uncompressed': `sha256:${'0'.repeat(64)}` },
    }),
  );
  const records = { layers: layers.map(({ digest }, index) => ({ blob: digest, parent: index - 1 })), records: [] };
  const config = set.blob(Buffer.from(JSON.stringify(records)), cacheConfigType);
  set.index([...layers, config], { tag: 'cache' });
  set.image({ tag: 'cache-image', layers, config });
  return set.build();
}

/** A context of the shared checks that fails the test instead of going on. */
function contextOf(registry: Registry): {
  readonly registry: Registry;
  readonly repository: string;
  readonly check: ReturnType<Recorder['area']>;
  readonly passed: () => number;
} {
  const recorder = new Recorder();
  const area = recorder.area('cluster', 'durable');
  const check: typeof area = async (name, body) => {
    await area(name, body);
    const last = recorder.results.at(-1);
    assert.equal(last?.outcome, 'passed', `${name}: ${last?.message}`);
  };
  return { registry, repository, check, passed: () => recorder.results.length };
}

/** What the registry says of the set as a whole, as text. */
async function listsOf(registry: Registry, sets: readonly DataSet[]): Promise<string[]> {
  const lists = [(await tagsOf(registry, repository)).join(' ')];
  for (const { digest } of sets.flatMap(({ manifests }) => manifests)) {
    for (const query of [{}, { artifactType: 'application/spdx+json' }]) {
      const { body } = await registry.expect(200, 'GET', `/v2/${repository}/referrers/${digest}`, { query });
      lists.push(body.toString('utf8'));
    }
  }
  return lists;
}

const isStored = (digest: string): boolean => {
  const [algorithm = '', hex = ''] = digest.split(':');
  return existsSync(join(cluster.directory, 'storage', 'blobs', algorithm, hex.slice(0, 2), hex));
};

test('signatures, referrers and build caches survive the loss of every disk but the storage', async (t) => {
  using proxy = new Registry({ url: `http://${cluster.registry('proxy-1')}` });
  const sets = [signedImage(), buildCaches()];
  for (const set of sets) await pushDataSet(contextOf(proxy), set);
  const before = await listsOf(proxy, sets);

  const gc = await cluster.shoal('gc', '--json', '--grace', '0s');
  assert.deepEqual((JSON.parse(gc.stdout) as { readonly names: readonly unknown[] }).names, [], 'all of it is reached from the tags');
  for (const { digest } of sets.flatMap(({ blobs, manifests }) => [...blobs, ...manifests]))
    await until(`${digest} is in storage`, async () => (isStored(digest) ? true : undefined));

  for (const id of originIds) cluster.kill(id);
  for (const id of originIds) rmSync(join(cluster.directory, 'data', id), { recursive: true });
  restarted.push(...(await Promise.all(originIds.map(async (id) => cluster.restart(id)))));

  using agent = new Registry({ url: `http://${cluster.registry('agent-1')}` });
  const context = contextOf(agent);
  for (const set of sets) {
    await readDataSet(context, set);
    await checkReferrers(context, set);
  }
  t.diagnostic(`${context.passed()} checks at the agent`);
  assert.deepEqual(await listsOf(agent, sets), before);
});
