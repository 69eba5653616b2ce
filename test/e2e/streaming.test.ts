/** A cold blob of 1 GB at an agent: bytes flow before the download ends, and a range near the end does not wait for the rest. */
import assert from 'node:assert/strict';
import { createHash, randomFillSync } from 'node:crypto';
import { after, before, test } from 'node:test';
import { startCluster, type TestCluster } from '../support/cluster-process.ts';
import { pushBlob } from '../support/registry-client.ts';
import { tempDir } from '../support/temp.ts';

const bytes = randomFillSync(Buffer.allocUnsafe(1_000_000_000));
let cluster: TestCluster;
let digest: string;

before(async () => {
  cluster = await startCluster({ directory: tempDir('streaming'), args: ['--agent-ingress', '100MB'] });
  digest = await pushBlob(cluster.registry('proxy-1'), 'demo/large', bytes);
});

after(async () => cluster?.stop());

interface ShownTransfer {
  readonly digest: string;
  readonly complete: boolean;
}

async function isComplete(agent: string): Promise<boolean> {
  const { stdout } = await cluster.shoal('transfers', agent, '--json');
  return (JSON.parse(stdout) as readonly ShownTransfer[]).some((transfer) => transfer.digest === digest && transfer.complete);
}

function blobUrl(agent: string): string {
  return `http://${cluster.registry(agent)}/v2/demo/large/blobs/${digest}`;
}

test('the first bytes leave while the rest is still downloading, and the whole is right', async (t) => {
  await fetch(`http://${cluster.registry('agent-1')}/v2/`);
  const startMs = performance.now();
  const response = await fetch(blobUrl('agent-1'));
  assert.equal(response.status, 200);
  const hash = createHash('sha256');
  let first = true;
  for await (const chunk of response.body ?? []) {
    if (first) {
      t.diagnostic(`first byte after ${(performance.now() - startMs).toFixed(1)} ms`);
      assert.equal(await isComplete('agent-1'), false);
      first = false;
    }
    hash.update(chunk);
  }
  assert.equal(`sha256:${hash.digest('hex')}`, digest);
});

test('a range near the end of a cold blob answers 206 before the blob is complete', async (t) => {
  await fetch(`http://${cluster.registry('agent-2')}/v2/`);
  const startMs = performance.now();
  const response = await fetch(blobUrl('agent-2'), { headers: { range: 'bytes=900000000-900000099' } });
  assert.equal(response.status, 206);
  assert.equal(response.headers.get('content-range'), 'bytes 900000000-900000099/1000000000');
  const got = Buffer.from(await response.arrayBuffer());
  t.diagnostic(`range after ${(performance.now() - startMs).toFixed(1)} ms`);
  assert.deepEqual(got, bytes.subarray(900_000_000, 900_000_100));
  assert.equal(await isComplete('agent-2'), false);
});
