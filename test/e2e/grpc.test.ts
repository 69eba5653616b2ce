/** Any gRPC tool with a certificate of the cluster can look around, and without one it is refused: grpcurl against every node. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startCluster, type TestCluster } from '../support/cluster-process.ts';
import { type Output, run } from '../support/processes.ts';
import { tempDir } from '../support/temp.ts';

const root = tempDir('grpc');
const grpcurl =
  [process.env['GRPCURL'], join(homedir(), 'go/bin/grpcurl')].find((path) => path !== undefined && existsSync(path)) ?? 'grpcurl';
const serviceOfRole: Readonly<Record<string, readonly string[]>> = {
  agent: ['shoal.agent.v1.AgentService', 'shoal.peer.v1.PeerService', 'shoal.peer.v1.TransferService'],
  origin: ['shoal.origin.v1.OriginService', 'shoal.peer.v1.PeerService', 'shoal.peer.v1.TransferService'],
  tracker: ['shoal.tracker.v1.TrackerService'],
  'build-index': ['shoal.buildindex.v1.BuildIndexService'],
  proxy: ['shoal.proxy.v1.UploadSourceService', 'shoal.peer.v1.PeerService', 'shoal.peer.v1.TransferService'],
};
let cluster: TestCluster;

before(async () => {
  cluster = await startCluster({ directory: join(root, 'cluster'), agents: 1, origins: 1 });
  const pem = readFileSync(join(cluster.directory, 'certs/operator/admin.pem'), 'utf8');
  writeFileSync(join(root, 'operator.pem'), pem, { mode: 0o600 });
});

after(async () => cluster?.stop());

/** Calls grpcurl as the operator; options such as `-d` go before the address. */
async function call(role: string, endpoint: string, words: readonly string[], options: readonly string[] = []): Promise<Output> {
  const ca = join(cluster.directory, 'certs/ca.pem');
  const pem = join(root, 'operator.pem');
  const identity = ['-cacert', ca, '-cert', pem, '-key', pem, '-servername', `${role}.devcluster.shoal`];
  return run(grpcurl, [...identity, ...options, endpoint, ...words]);
}

for (const [role, services] of Object.entries(serviceOfRole)) {
  test(`grpcurl with a certificate lists and describes the services of the ${role}`, async () => {
    const { grpc } = cluster.node(`${role}-1`);
    const { code, stdout, stderr } = await call(role, grpc, ['list']);
    assert.equal(code, 0, stderr);
    const listed = stdout.split('\n');
    for (const service of [...services, 'shoal.node.v1.NodeService', 'grpc.health.v1.Health'])
      assert.ok(listed.includes(service), `${service} in ${stdout}`);
    for (const service of services)
      assert.match((await call(role, grpc, ['describe', service])).stdout, new RegExp(`${service} is a service`));
  });

  test(`grpcurl calls the health and the description of the ${role}`, async () => {
    const { grpc } = cluster.node(`${role}-1`);
    const checked = await call(role, grpc, ['grpc.health.v1.Health/Check']);
    assert.match(checked.stdout, /"status": "SERVING"/, checked.stderr);
    const described = await call(role, grpc, ['shoal.node.v1.NodeService/GetNode']);
    assert.equal((JSON.parse(described.stdout) as { identity: { id: string } }).identity.id, `${role}-1`);
  });

  test(`without a certificate the ${role} refuses grpcurl`, async () => {
    const { grpc } = cluster.node(`${role}-1`);
    const { code, stdout } = await run(grpcurl, ['-insecure', '-max-time', '5', grpc, 'list']);
    assert.notEqual(code, 0);
    assert.equal(stdout, '');
  });
}

test('an RPC that another role may not call is refused with the roles that may', async () => {
  const { grpc } = cluster.node('build-index-1');
  const body = '{"repository":"a","link":{}}';
  const { code, stderr } = await call('build-index', grpc, ['shoal.buildindex.v1.BuildIndexService/LinkBlob'], ['-d', body]);
  assert.notEqual(code, 0);
  assert.match(stderr, /PermissionDenied/);
  assert.match(stderr, /proxy/);
});
