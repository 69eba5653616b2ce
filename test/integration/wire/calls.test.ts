/** Deadlines, cancellation, retries, errors and streams over real sockets. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError, type Counter, isAppError, type Labels, type Meter, nullMeter, type Span, type Tracer } from '#core';
import { NodeServiceService } from '#gen/shoal/node/v1/node_service';
import { OriginServiceService } from '#gen/shoal/origin/v1/origin_service';
import { type AnnounceRequest, type AnnounceResponse, TrackerServiceService } from '#gen/shoal/tracker/v1/tracker_service';
import type { CallContext, Handlers } from '#wire';
import { deferred, Mesh, noReload } from './mesh.ts';

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

async function serveNode(mesh: Mesh, getNode: (context: CallContext) => Promise<Answer>) {
  return mesh.serve(tracker, (server) =>
    server.addService('shoal.node.v1.NodeService', NodeServiceService, { ...noReload, getNode: (_request, context) => getNode(context) }),
  );
}

function trackerHandlers(announce: Handlers<typeof TrackerServiceService>['announce']): Handlers<typeof TrackerServiceService> {
  return { announce, listBlobs: async () => ({ blobs: [], nextPageToken: '' }), listPeers: async () => ({ peers: [] }) };
}

async function serveTracker(mesh: Mesh, announce: Handlers<typeof TrackerServiceService>['announce']) {
  return mesh.serve(tracker, (server) =>
    server.addService('shoal.tracker.v1.TrackerService', TrackerServiceService, trackerHandlers(announce)),
  );
}

const hello: AnnounceRequest = { message: { $case: 'hello', hello: { endpoint: ':1' } } };
const answer: AnnounceResponse = { message: { $case: 'failure', failure: { digest: undefined, reason: 1, message: '' } } };

function code(expected: Parameters<typeof isAppError>[1]) {
  return (error: unknown): boolean => {
    assert.ok(expected !== undefined && isAppError(error, expected), `${expected}: ${String(error)}`);
    return true;
  };
}

test('a call that is not answered in time fails as deadline-exceeded, and the handler is told', async (t) => {
  const mesh = await Mesh.open(t);
  const told = deferred<unknown>();
  const { target } = await serveNode(mesh, async ({ signal }) => {
    signal.addEventListener('abort', () => told.resolve(signal.reason));
    return deferred<Answer>().promise;
  });
  const client = (await mesh.pool('agent')).client(NodeServiceService, target);
  await client.getNode({}, { timeoutMs: 1 }).catch(() => undefined);
  await assert.rejects(client.getNode({}, { timeoutMs: 200 }), code('deadline-exceeded'));
  // Which of the two timers is first, the caller's or the server's, is open.
  assert.ok(isAppError(await told.promise, 'deadline-exceeded', 'cancelled'));
});

test('aborting a call ends it with the reason, and the handler is told', async (t) => {
  const mesh = await Mesh.open(t);
  const began = deferred();
  const told = deferred<unknown>();
  const { target } = await serveNode(mesh, async ({ signal }) => {
    signal.addEventListener('abort', () => told.resolve(signal.reason));
    began.resolve();
    return deferred<Answer>().promise;
  });
  const abort = new AbortController();
  const call = (await mesh.pool('agent')).client(NodeServiceService, target).getNode({}, { signal: abort.signal });
  await began.promise;
  abort.abort(new AppError('aborted', 'another answer came first'));
  await assert.rejects(call, { code: 'aborted', message: 'another answer came first' });
  code('cancelled')(await told.promise);
});

test('a call with a signal that is already aborted is not sent', async (t) => {
  const mesh = await Mesh.open(t);
  const pool = await mesh.pool('agent');
  const client = pool.client(NodeServiceService, { endpoint: '127.0.0.1:1', role: 'tracker' });
  await assert.rejects(client.getNode({}, { signal: AbortSignal.abort() }), code('cancelled'));
  assert.equal(pool.channelCount, 0);
});

test('an idempotent call is tried again while the server is unavailable, three times in all', async (t) => {
  const mesh = await Mesh.open(t);
  let attempts = 0;
  const { target } = await serveNode(mesh, async () => {
    attempts += 1;
    if (attempts % 3 !== 0) throw new AppError('unavailable', 'not yet');
    return node;
  });
  const client = (await mesh.pool('agent')).client(NodeServiceService, target);
  assert.deepEqual(await client.getNode({}), node);
  assert.equal(attempts, 3);
});

test('a call is given up after three attempts', async (t) => {
  const mesh = await Mesh.open(t);
  let attempts = 0;
  const { target } = await serveNode(mesh, async () => {
    attempts += 1;
    throw new AppError('unavailable', 'never');
  });
  const client = (await mesh.pool('agent')).client(NodeServiceService, target);
  await assert.rejects(client.getNode({}), { code: 'unavailable', message: 'never' });
  assert.equal(attempts, 3);
});

test('other failures are not tried again', async (t) => {
  const mesh = await Mesh.open(t);
  let attempts = 0;
  const { target } = await serveNode(mesh, async () => {
    attempts += 1;
    throw new AppError('resource-exhausted', 'full', { retryAfterMs: 5 });
  });
  const client = (await mesh.pool('agent')).client(NodeServiceService, target);
  await assert.rejects(client.getNode({}), code('resource-exhausted'));
  assert.equal(attempts, 1);
});

test('a call that the protos do not call idempotent is tried once', async (t) => {
  const mesh = await Mesh.open(t);
  let retries = 0;
  const rng = {
    below: () => {
      retries += 1;
      return 0;
    },
  };
  const pool = await mesh.pool('agent', { rng });
  const target = { endpoint: '127.0.0.1:1', role: 'origin' } as const;
  const once = { locate: { ...OriginServiceService.locate, path: '/shoal.unlisted.v1.Unlisted/Once' as const } };
  await assert.rejects(pool.client(once, target).locate({ digest: undefined }), code('unavailable'));
  assert.equal(retries, 0);
  await assert.rejects(pool.client(OriginServiceService, target).locate({ digest: undefined }), code('unavailable'));
  assert.equal(retries, 2);
});

test('an error arrives with its code, message, data and retry time', async (t) => {
  const mesh = await Mesh.open(t);
  const sent = new AppError('digest-mismatch', 'die Prüfsumme 100% "anders": läuft nicht', {
    data: { kind: 'blob', count: 3, text: '3', last: true },
    retryAfterMs: 1_250,
  });
  const { target } = await serveNode(mesh, () => Promise.reject(sent));
  const client = (await mesh.pool('agent')).client(NodeServiceService, target);
  const { code: errorCode, message, data, retryAfterMs } = sent;
  await assert.rejects(client.getNode({}), { code: errorCode, message, data, retryAfterMs });
});

test('a fault of a handler says nothing of its cause', async (t) => {
  const mesh = await Mesh.open(t);
  const { target } = await serveNode(mesh, () => Promise.reject(new TypeError('/var/lib/shoal/secret is undefined')));
  const client = (await mesh.pool('agent')).client(NodeServiceService, target);
  await assert.rejects(client.getNode({}), {
    code: 'internal',
    message: 'internal error; the log of the server has the details',
    data: {},
  });
});

test('a stream carries messages both ways and ends in order', async (t) => {
  const mesh = await Mesh.open(t);
  const { target } = await serveTracker(mesh, async function* (requests) {
    for await (const _request of requests) yield answer;
  });
  const requests = async function* () {
    for (let i = 0; i < 100; i += 1) yield hello;
  };
  let count = 0;
  for await (const _response of (await mesh.pool('agent')).client(TrackerServiceService, target).announce(requests())) count += 1;
  assert.equal(count, 100);
});

test('leaving the loop of a stream ends the requests and tells the handler', async (t) => {
  const mesh = await Mesh.open(t);
  const told = deferred<unknown>();
  const { target } = await serveTracker(mesh, async function* (_requests, { signal }) {
    signal.addEventListener('abort', () => told.resolve(signal.reason));
    for (;;) {
      yield answer;
      await new Promise(setImmediate);
    }
  });
  const requestsEnded = deferred();
  const requests = async function* () {
    try {
      for (;;) {
        yield hello;
        await new Promise(setImmediate);
      }
    } finally {
      requestsEnded.resolve();
    }
  };
  for await (const _response of (await mesh.pool('agent')).client(TrackerServiceService, target).announce(requests())) break;
  await requestsEnded.promise;
  code('cancelled')(await told.promise);
});

test('a slow reader of a stream slows the handler down', async (t) => {
  const mesh = await Mesh.open(t);
  let produced = 0;
  const { target } = await mesh.serve(tracker, (server) =>
    server.addService(
      'shoal.tracker.v1.TrackerService',
      TrackerServiceService,
      trackerHandlers(async function* () {
        for (; produced < 200; produced += 1) {
          yield {
            message: {
              $case: 'offer',
              offer: {
                digest: undefined,
                peers: [],
                metainfo: { digest: undefined, sizeBytes: 0n, pieceLengthBytes: 0n, pieceHashes: new Uint8Array(1 << 20) },
              },
            },
          };
        }
      }),
    ),
  );
  const requests = async function* () {
    yield hello;
  };
  const responses = (await mesh.pool('agent')).client(TrackerServiceService, target).announce(requests())[Symbol.asyncIterator]();
  await responses.next();
  let before = -1;
  while (before !== produced) {
    before = produced;
    for (let turn = 0; turn < 200; turn += 1) await new Promise(setImmediate);
  }
  assert.ok(produced < 100, `${produced} messages of 1 MiB were made for a reader that took one`);
  await responses.return?.();
});

test('an error in the middle of a stream arrives after what was sent before it', async (t) => {
  const mesh = await Mesh.open(t);
  const { target } = await serveTracker(mesh, async function* () {
    yield answer;
    yield answer;
    throw new AppError('data-loss', 'the roster is broken', { data: { kind: 'roster' } });
  });
  const requests = async function* () {
    yield hello;
  };
  let count = 0;
  const all = async (): Promise<void> => {
    for await (const _response of (await mesh.pool('agent')).client(TrackerServiceService, target).announce(requests())) count += 1;
  };
  await assert.rejects(all(), { code: 'data-loss', message: 'the roster is broken', data: { kind: 'roster' } });
  assert.equal(count, 2);
});

test('a stream whose requests throw fails with what they threw', async (t) => {
  const mesh = await Mesh.open(t);
  const { target } = await serveTracker(mesh, async function* (requests) {
    for await (const _request of requests) yield answer;
  });
  const requests = async function* () {
    yield hello;
    throw new AppError('out-of-range', 'no more');
  };
  const all = async (): Promise<void> => {
    for await (const _response of (await mesh.pool('agent')).client(TrackerServiceService, target).announce(requests())) void 0;
  };
  await assert.rejects(all(), code('out-of-range'));
});

test('a trace goes with the call, and calls are counted on both sides', async (t) => {
  const mesh = await Mesh.open(t);
  const parents: (string | undefined)[] = [];
  const span = (traceparent: string): Span => ({ traceparent, run: (fn) => fn(), annotate: () => undefined, end: () => undefined });
  const clientTracer: Tracer = { startSpan: () => span('00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01') };
  const serverTracer: Tracer = {
    startSpan: (name, options) => {
      parents.push(`${name} ${options.kind} ${options.traceparent}`);
      return span('');
    },
  };
  const counted: Labels[] = [];
  const counter: Counter = { add: (_value, labels) => void counted.push(labels ?? {}) };
  const meter: Meter = {
    ...nullMeter,
    counter: (name) => (name === 'shoal_wire_client_calls_total' ? counter : nullMeter.counter(name, '')),
  };
  const { target } = await mesh.serve(
    tracker,
    (server) => server.addService('shoal.node.v1.NodeService', NodeServiceService, { ...noReload, getNode: async () => node }),
    {},
    undefined,
    { tracer: serverTracer },
  );
  await (await mesh.pool('agent', { tracer: clientTracer, meter })).client(NodeServiceService, target).getNode({});
  assert.deepEqual(parents, ['shoal.node.v1.NodeService/GetNode server 00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01']);
  assert.deepEqual(counted, [{ service: 'shoal.node.v1.NodeService', method: 'GetNode', code: 'OK' }]);
});

test('connections are bounded: an idle one makes room, and a full pool says so', async (t) => {
  const mesh = await Mesh.open(t);
  const hold = deferred<Answer>();
  const first = await serveNode(mesh, async () => node);
  const second = await serveNode(mesh, () => hold.promise);
  const pool = await mesh.pool('agent', {}, { channelCountMax: 1 });
  await pool.client(NodeServiceService, first.target).getNode({});
  const held = pool.client(NodeServiceService, second.target).getNode({});
  assert.equal(pool.channelCount, 1);
  await assert.rejects(pool.client(NodeServiceService, first.target).getNode({}), code('resource-exhausted'));
  hold.resolve(node);
  await held;
  await pool.client(NodeServiceService, first.target).getNode({});
  assert.equal(pool.channelCount, 1);
});
