/** Health, reflection, renewal of certificates and the graceful end. */
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { credentials, Client as GrpcClient } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { isAppError, nullMeter, peerIdOf, silentLogger } from '#core';
import { NodeServiceService } from '#gen/shoal/node/v1/node_service';
import { TrackerServiceService } from '#gen/shoal/tracker/v1/tracker_service';
import { roleDnsName, StaticCertificateSource } from '#pki';
import { ChannelPool, type Handlers, type WireServer } from '#wire';
import { deferred, Mesh, noReload, realClock } from './mesh.ts';

const tracker = { role: 'tracker', id: 't1' } as const;
type Answer = Awaited<ReturnType<Handlers<typeof NodeServiceService>['getNode']>>;
const node: Answer = {
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

function addNode(getNode: (caller: string) => Promise<Answer> = async () => node): (server: WireServer) => void {
  return (server) =>
    server.addService('shoal.node.v1.NodeService', NodeServiceService, {
      ...noReload,
      getNode: (_request, { caller }) => getNode(peerIdOf(caller)),
    });
}

/** A tracker whose announce streams end when their signal says so. */
function addAnnounce(began: () => void = () => undefined): (server: WireServer) => void {
  return (server) =>
    server.addService('shoal.tracker.v1.TrackerService', TrackerServiceService, {
      announce: async function* (_requests, { signal }) {
        began();
        await new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
      },
      listBlobs: async () => ({ blobs: [], nextPageToken: '' }),
      listPeers: async () => ({ peers: [] }),
    });
}

async function* hello() {
  yield { message: { $case: 'hello', hello: { endpoint: ':1' } } } as const;
}

test('health follows the node, and an unreachable node is not healthy', async (t) => {
  const mesh = await Mesh.open(t);
  const { server, target } = await mesh.serve(tracker, addNode());
  const pool = await mesh.pool('origin');
  assert.equal(await pool.health(target), true);
  server.health.setHealthy('shoal.node.v1.NodeService', false);
  assert.equal(await pool.health(target), true);
  server.health.setHealthy('', false);
  assert.equal(await pool.health(target), false);
  server.health.setHealthy('', true);
  assert.equal(await pool.health(target), true);
  assert.equal(await pool.health({ ...target, id: 't2' }), false);
  assert.equal(await pool.health({ endpoint: '127.0.0.1:1', role: 'origin' }, { timeoutMs: 500 }), false);
});

/** The proto of reflection, as its package ships it. */
function reflectionMethod(version: string) {
  const main = createRequire(import.meta.url).resolve('@grpc/reflection');
  const definition = loadSync(`grpc/reflection/${version}/reflection.proto`, { includeDirs: [join(dirname(main), '../proto')] });
  const service = definition[`grpc.reflection.${version}.ServerReflection`];
  assert.ok(service !== undefined && !('format' in service));
  const method = service['ServerReflectionInfo'];
  assert.ok(method !== undefined);
  return method;
}

for (const version of ['v1', 'v1alpha']) {
  test(`reflection ${version} lists the services and describes them`, async (t) => {
    const mesh = await Mesh.open(t);
    const { port } = await mesh.serve(tracker, (server) => {
      addNode()(server);
      addAnnounce()(server);
    });
    const { caPem, certPem, keyPem } = await mesh.material({ role: 'operator', id: 'me' });
    const client = new GrpcClient(
      `127.0.0.1:${port}`,
      credentials.createSsl(Buffer.from(caPem), Buffer.from(keyPem), Buffer.from(certPem)),
      { 'grpc.ssl_target_name_override': roleDnsName('test', 'tracker') },
    );
    t.after(() => client.close());
    const { path, requestSerialize, responseDeserialize } = reflectionMethod(version);
    const stream = client.makeBidiStreamRequest<object, object>(path, requestSerialize, responseDeserialize);
    stream.write({ listServices: '*' });
    stream.write({ fileContainingSymbol: 'shoal.tracker.v1.TrackerService' });
    stream.end();
    const answers: unknown[] = [];
    for await (const value of stream) answers.push(value);
    const [services, files] = JSON.parse(JSON.stringify(answers));
    assert.deepEqual(services.listServicesResponse.service.map(({ name }: { readonly name: string }) => name).sort(), [
      'grpc.health.v1.Health',
      'shoal.node.v1.NodeService',
      'shoal.tracker.v1.TrackerService',
    ]);
    assert.ok(files.fileDescriptorResponse.fileDescriptorProto.length > 1);
  });
}

test('a renewed certificate is used for new connections while an open stream goes on, on both sides', async (t) => {
  const mesh = await Mesh.open(t);
  const began = deferred();
  const { certificates, target } = await mesh.serve(tracker, (added) => {
    addAnnounce(() => began.resolve())(added);
    addNode(async (caller) => ({ ...node, cluster: caller }))(added);
  });
  const serialOf = (source: StaticCertificateSource): string => source.current().serialNumber;
  const before = serialOf(certificates);
  const clientSource = new StaticCertificateSource(await mesh.material({ role: 'agent', id: 'a1' }));
  const pool = new ChannelPool({}, { certificates: clientSource, clock: realClock, logger: silentLogger, meter: nullMeter });
  t.after(() => pool.close());
  let streamEnded = false;
  const stream = pool.client(TrackerServiceService, target).announce(hello())[Symbol.asyncIterator]();
  const ended = stream.next().then(
    () => undefined,
    (error: unknown) => error,
  );
  void ended.then(() => {
    streamEnded = true;
  });
  await began.promise;
  assert.equal(await serverSerial(mesh, target.endpoint), before);

  certificates.replace(await mesh.material(tracker));
  clientSource.replace(await mesh.material({ role: 'agent', id: 'a2' }));

  assert.notEqual(serialOf(certificates), before);
  assert.equal(await serverSerial(mesh, target.endpoint), serialOf(certificates));
  // Another target of the same endpoint makes the pool open a new connection, with the new certificate.
  const fresh = pool.client(NodeServiceService, { endpoint: target.endpoint, role: 'tracker' });
  assert.equal((await fresh.getNode({})).cluster, 'agent/a2');
  assert.equal(streamEnded, false);
  assert.equal(pool.channelCount, 2);
});

/** The serial number of the certificate that a new connection to `endpoint` is shown. */
async function serverSerial(mesh: Mesh, endpoint: string): Promise<string> {
  const { connect } = await import('node:tls');
  const { caPem, certPem, keyPem } = await mesh.material({ role: 'operator', id: 'probe' });
  const [host, port] = endpoint.split(':');
  const socket = connect({
    host,
    port: Number(port),
    ca: caPem,
    cert: certPem,
    key: keyPem,
    servername: roleDnsName('test', 'tracker'),
    ALPNProtocols: ['h2'],
  });
  try {
    await new Promise((resolve, reject) => {
      socket.once('secureConnect', resolve);
      socket.once('error', reject);
    });
    return socket.getPeerX509Certificate()?.serialNumber ?? '';
  } finally {
    socket.destroy();
  }
}

test('draining lets unary calls finish, tells streams, refuses new calls and then ends', async (t) => {
  const mesh = await Mesh.open(t);
  const unaryBegan = deferred();
  const streamBegan = deferred();
  const hold = deferred<Answer>();
  const { server, target } = await mesh.serve(tracker, (added) => {
    addNode(() => {
      unaryBegan.resolve();
      return hold.promise;
    })(added);
    addAnnounce(() => streamBegan.resolve())(added);
  });
  const pool = await mesh.pool('agent');
  const running = pool.client(NodeServiceService, target).getNode({});
  const next = pool.client(TrackerServiceService, target).announce(hello())[Symbol.asyncIterator]().next();
  await Promise.all([unaryBegan.promise, streamBegan.promise]);
  const drained = server.drain({ graceMs: 10_000 });
  await assert.rejects(next, (error: unknown) => isAppError(error, 'unavailable') && /shutting down/.test(error.message));
  await assert.rejects(pool.client(NodeServiceService, target).getNode({}), (error: unknown) => isAppError(error, 'unavailable'));
  assert.equal(await pool.health(target), false);
  hold.resolve(node);
  assert.deepEqual(await running, node);
  await drained;
  assert.equal(await pool.health(target), false);
});

test('draining cuts off what does not end within the grace', async (t) => {
  const mesh = await Mesh.open(t);
  const began = deferred();
  const { server, target } = await mesh.serve(
    tracker,
    addNode(() => {
      began.resolve();
      return deferred<Answer>().promise;
    }),
  );
  const running = (await mesh.pool('agent')).client(NodeServiceService, target).getNode({});
  running.catch(() => undefined);
  await began.promise;
  await server.drain({ graceMs: 50 });
  await assert.rejects(running, (error: unknown) => isAppError(error, 'unavailable', 'cancelled'));
});
