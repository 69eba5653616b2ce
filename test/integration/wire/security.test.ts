/** Who gets in, on real mutual-TLS sockets. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { connect } from 'node:tls';
import { isAppError, type NodeIdentity, nullMeter, peerIdOf, silentLogger } from '#core';
import { AgentServiceService } from '#gen/shoal/agent/v1/agent_service';
import { NodeServiceService } from '#gen/shoal/node/v1/node_service';
import { OriginServiceService } from '#gen/shoal/origin/v1/origin_service';
import { TrackerServiceService } from '#gen/shoal/tracker/v1/tracker_service';
import { roleDnsName, StaticCertificateSource } from '#pki';
import { ChannelPool, type Handlers } from '#wire';
import { Mesh, noReload, realClock } from './mesh.ts';

const nobody = {
  identity: undefined,
  cluster: '',
  version: '',
  runtimeVersion: '',
  uptime: undefined,
  certificateExpireTime: undefined,
  residentBytes: 0n,
  storedBytes: 0n,
  capacityBytes: 0n,
  components: [],
};
const tracker: NodeIdentity = { role: 'tracker', id: 't1' };

/** Answers GetNode with the caller's peer id as the cluster. */
const echoCaller: Handlers<typeof NodeServiceService> = {
  ...noReload,
  getNode: async (_request, { caller }) => ({ ...nobody, cluster: peerIdOf(caller) }),
};

function rejectsWith(promise: Promise<unknown>, code: Parameters<typeof isAppError>[1], message: RegExp): Promise<void> {
  return assert.rejects(promise, (error: unknown) => {
    assert.ok(code !== undefined && isAppError(error, code), String(error));
    assert.match(error.message, message);
    return true;
  });
}

test('a handler sees the identity of the certificate', async (t) => {
  const mesh = await Mesh.open(t);
  const { target } = await mesh.serve(tracker, (server) => server.addService('shoal.node.v1.NodeService', NodeServiceService, echoCaller));
  const pool = await mesh.pool('proxy');
  assert.equal((await pool.client(NodeServiceService, target).getNode({})).cluster, 'proxy/proxy-client');
});

test('a connection without a client certificate is refused', async (t) => {
  const mesh = await Mesh.open(t);
  const { port } = await mesh.serve(tracker, (server) => server.addService('shoal.node.v1.NodeService', NodeServiceService, echoCaller));
  const socket = connect({
    port,
    host: '127.0.0.1',
    ca: mesh.authority.certPem,
    servername: roleDnsName('test', 'tracker'),
    ALPNProtocols: ['h2'],
  });
  const [error] = await once(socket, 'error');
  assert.match(String(error), /certificate required|ECONNRESET|alert/);
});

test('TLS below 1.3 is refused', async (t) => {
  const mesh = await Mesh.open(t);
  const { port } = await mesh.serve(tracker, (server) => server.addService('shoal.node.v1.NodeService', NodeServiceService, echoCaller));
  const { caPem, certPem, keyPem } = await mesh.material({ role: 'agent', id: 'old' });
  const socket = connect({
    port,
    host: '127.0.0.1',
    ca: caPem,
    cert: certPem,
    key: keyPem,
    servername: roleDnsName('test', 'tracker'),
    maxVersion: 'TLSv1.2',
  });
  const [error] = await once(socket, 'error');
  assert.match(String(error), /protocol version/);
});

test('a certificate of a CA that the server does not trust is refused', async (t) => {
  const mesh = await Mesh.open(t);
  const other = await Mesh.open(t, 'other');
  const { target } = await mesh.serve(tracker, (server) => server.addService('shoal.node.v1.NodeService', NodeServiceService, echoCaller));
  const certificates = new StaticCertificateSource({
    ...(await other.material({ role: 'agent', id: 'a' }, mesh.authority.certPem)),
    cluster: 'test',
  });
  const pool = new ChannelPool({}, { certificates, clock: realClock, logger: silentLogger, meter: nullMeter });
  t.after(() => pool.close());
  await rejectsWith(pool.client(NodeServiceService, target).getNode({}), 'unavailable', /./);
});

test('an identity of another cluster is refused even when its CA is trusted', async (t) => {
  const mesh = await Mesh.open(t);
  const other = await Mesh.open(t, 'other');
  const both = mesh.authority.certPem + other.authority.certPem;
  const { target } = await mesh.serve(
    tracker,
    (server) => server.addService('shoal.node.v1.NodeService', NodeServiceService, echoCaller),
    {},
    await mesh.material(tracker, both),
  );
  // The client looks for a server of cluster "test" with a certificate of cluster "other".
  const certificates = new StaticCertificateSource({ ...(await other.material({ role: 'agent', id: 'a' }, both)), cluster: 'test' });
  const pool = new ChannelPool({}, { certificates, clock: realClock, logger: silentLogger, meter: nullMeter });
  t.after(() => pool.close());
  await rejectsWith(pool.client(NodeServiceService, target).getNode({}), 'unauthenticated', /another cluster/);
  assert.equal(await pool.health(target), false);
});

test('a role that the policy does not name is refused for a unary call, and the message names the roles', async (t) => {
  const mesh = await Mesh.open(t);
  let calls = 0;
  const { target } = await mesh.serve({ role: 'agent', id: 'a1' }, (server) =>
    server.addService('shoal.agent.v1.AgentService', AgentServiceService, {
      evictBlob: async () => {
        calls += 1;
        return { freedBytes: 0n };
      },
      // biome-ignore lint/correctness/useYield: nothing to say.
      preload: async function* () {
        calls += 1;
      },
    }),
  );
  const client = (await mesh.pool('agent')).client(AgentServiceService, target);
  await rejectsWith(client.evictBlob({ digest: undefined }), 'permission-denied', /only operator may call .*EvictBlob/);
  assert.equal(calls, 0);
});

test('a role that the policy does not name is refused for a stream and for an exchange', async (t) => {
  const mesh = await Mesh.open(t);
  let calls = 0;
  const { target } = await mesh.serve(tracker, (server) => {
    server.addService('shoal.tracker.v1.TrackerService', TrackerServiceService, {
      // biome-ignore lint/correctness/useYield: nothing to say.
      announce: async function* () {
        calls += 1;
      },
      listBlobs: async () => ({ blobs: [], nextPageToken: '' }),
      listPeers: async () => ({ peers: [] }),
    });
    server.addPeerService({
      exchange: () => {
        calls += 1;
      },
      fetchBlob: async () => ({ data: new Uint8Array(0) }),
    });
  });
  const pool = await mesh.pool('operator');
  const requests = async function* () {
    yield { message: { $case: 'hello', hello: { endpoint: ':1' } } } as const;
  };
  const first = pool.client(TrackerServiceService, target).announce(requests())[Symbol.asyncIterator]().next();
  await rejectsWith(first, 'permission-denied', /only agent, proxy, origin may call/);
  const closed = await new Promise((resolve) => {
    const nothing = (): void => undefined;
    pool.dialExchange(target, `sha256:${'0'.repeat(64)}` as never, {
      accepted: nothing,
      refused: nothing,
      have: nothing,
      piece: nothing,
      pieceRefused: nothing,
      closed: resolve,
    });
  });
  assert.ok(isAppError(closed, 'permission-denied'), String(closed));
  assert.equal(calls, 0);
});

test('a server with another id, or another role, than the target is refused by the client before it sends anything', async (t) => {
  const mesh = await Mesh.open(t);
  let calls = 0;
  const { target } = await mesh.serve(tracker, (server) =>
    server.addService('shoal.node.v1.NodeService', NodeServiceService, {
      ...noReload,
      getNode: async () => {
        calls += 1;
        return nobody;
      },
    }),
  );
  const pool = await mesh.pool('agent');
  await rejectsWith(pool.client(NodeServiceService, { ...target, id: 't2' }).getNode({}), 'unavailable', /tracker\/t1, not tracker\/t2/);
  await rejectsWith(pool.client(NodeServiceService, { ...target, role: 'origin' }).getNode({}), 'unavailable', /altnames|not in the cert/i);
  assert.equal(calls, 0);
  await pool.client(NodeServiceService, { endpoint: target.endpoint, role: 'tracker' }).getNode({});
  assert.equal(calls, 1);
});

test('a method without a policy is refused to everybody', async (t) => {
  const mesh = await Mesh.open(t);
  const service = { locate: { ...OriginServiceService.locate, path: '/shoal.unlisted.v1.Unlisted/Locate' as const } };
  const { target } = await mesh.serve(tracker, (server) =>
    server.addService('shoal.unlisted.v1.Unlisted', service, { locate: async () => ({ owners: [] }) }),
  );
  const client = (await mesh.pool('operator')).client(service, target);
  await rejectsWith(client.locate({ digest: undefined }), 'permission-denied', /no role may call/);
});
