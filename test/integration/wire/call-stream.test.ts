/** Calls that share a stream, over real sockets. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { AppError, isAppError, nullMeter, nullTracer, type Tracer } from '#core';
import { type FetchBlobRequest, type FetchBlobResponse, PeerServiceService } from '#gen/shoal/peer/v1/peer_service';
import type { CallContext, Client } from '#wire';
import { ManualClock } from '../../support/manual-clock.ts';
import { until } from '../../support/processes.ts';
import { deferred, Mesh, realClock } from './mesh.ts';

const origin = { role: 'origin', id: 'o1' } as const;
type FetchBlob = (request: FetchBlobRequest, context: CallContext) => Promise<FetchBlobResponse>;
type PeerClient = Client<typeof PeerServiceService>;
const path = '/shoal.peer.v1.PeerService/FetchBlob';

/** Gauges by name, of the server. */
function gauges() {
  const read = new Map<string, () => number>();
  return { meter: { ...nullMeter, gauge: (name: string, _help: string, value: () => number) => void read.set(name, value) }, read };
}

async function serve(t: TestContext, fetchBlob: FetchBlob, options: Parameters<Mesh['serve']>[2] = {}, overrides = {}) {
  const mesh = await Mesh.open(t);
  const served = await mesh.serve(
    origin,
    (server) => server.addPeerService({ exchange: (exchange) => exchange.close(), fetchBlob }),
    options,
    undefined,
    overrides,
  );
  const client = async (poolOptions: Parameters<Mesh['pool']>[1] = {}): Promise<PeerClient> =>
    (await mesh.pool('agent', poolOptions)).client(PeerServiceService, served.target);
  return { mesh, ...served, client };
}

const request = (number: number): FetchBlobRequest => ({ digest: { algorithm: 1, value: Buffer.from([number]) } });
const numberOf = ({ digest }: FetchBlobRequest): number => digest?.value[0] ?? -1;
const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

test('calls of one method share a stream, and each gets its own answer', async (t) => {
  const all = deferred();
  let count = 0;
  const { client } = await serve(
    t,
    async (asked) => {
      count += 1;
      if (count === 20) all.resolve();
      // No call is answered before all are here, and the connection carries one stream at a time.
      await all.promise;
      return { data: Buffer.from([numberOf(asked)]) };
    },
    { maxConcurrentStreams: 1 },
  );
  const peer = await client();
  const answers = await Promise.all(range(20).map((number) => peer.fetchBlob(request(number))));
  assert.deepEqual(
    answers.map(({ data }) => data[0]),
    range(20),
  );
});

test('a call fails alone, with everything its error says', async (t) => {
  const { client } = await serve(t, async (asked) => {
    if (numberOf(asked) === 1) throw new AppError('not-found', 'the blob is not here', { data: { kind: 'blob' } });
    if (numberOf(asked) === 2) throw new Error('a secret');
    return { data: Buffer.from('here') };
  });
  const peer = await client();
  const [here, lost, broken] = await Promise.allSettled(range(3).map((number) => peer.fetchBlob(request(number))));
  assert.equal(here?.status, 'fulfilled');
  assert.ok(lost?.status === 'rejected' && isAppError(lost.reason, 'not-found'), String(lost));
  assert.equal(lost.reason.message, 'the blob is not here');
  assert.deepEqual(lost.reason.data, { kind: 'blob' });
  assert.ok(broken?.status === 'rejected' && isAppError(broken.reason, 'internal') && !broken.reason.message.includes('secret'));
});

test('a server that does not know the stream is asked by calls of their own', async (t) => {
  const mesh = await Mesh.open(t);
  const { fetchBlob } = PeerServiceService;
  const { target } = await mesh.serve(origin, (server) =>
    server.addService('shoal.peer.v1.PeerService', { fetchBlob }, { fetchBlob: async () => ({ data: Buffer.from('old') }) }),
  );
  const peer = (await mesh.pool('agent')).client(PeerServiceService, target);
  for (let round = 0; round < 2; round += 1) {
    const answers = await Promise.all(range(5).map((number) => peer.fetchBlob(request(number))));
    assert.deepEqual(
      answers.map(({ data }) => String(data)),
      range(5).map(() => 'old'),
    );
  }
});

test('a call that is not answered in time fails, and the others are made again, alone', async (t) => {
  const clock = new ManualClock({ wallMs: realClock.wallMs() });
  let count = 0;
  const both = deferred();
  const { client } = await serve(t, async () => {
    count += 1;
    if (count === 2) both.resolve();
    return count <= 2 ? deferred<FetchBlobResponse>().promise : { data: Buffer.from('again') };
  });
  const peer = await client({ clock });
  const late = peer.fetchBlob(request(1), { timeoutMs: 2000 });
  const other = peer.fetchBlob(request(2), { timeoutMs: 60_000 });
  await both.promise;
  clock.advance(2250);
  await assert.rejects(late, (error) => isAppError(error, 'deadline-exceeded'));
  assert.equal(String((await other).data), 'again');
});

test('a caller that gives up is told why, and the stream goes on', async (t) => {
  const begun = deferred();
  const { client } = await serve(t, async (asked) => {
    if (numberOf(asked) !== 1) return { data: Buffer.from('next') };
    begun.resolve();
    return deferred<FetchBlobResponse>().promise;
  });
  const peer = await client();
  const abort = new AbortController();
  const call = peer.fetchBlob(request(1), { signal: abort.signal });
  await begun.promise;
  abort.abort(new AppError('cancelled', 'nobody waits'));
  await assert.rejects(call, (error) => isAppError(error, 'cancelled') && error.message === 'nobody waits');
  assert.equal(String((await peer.fetchBlob(request(2))).data), 'next');
});

test('a call that was given up and never answered ends the stream when it would have been late', async (t) => {
  const clock = new ManualClock({ wallMs: realClock.wallMs() });
  const begun = deferred();
  const ended = deferred();
  const { client } = await serve(t, async (asked, { signal }) => {
    if (numberOf(asked) !== 1) return { data: Buffer.from('next') };
    signal.addEventListener('abort', () => ended.resolve());
    begun.resolve();
    return deferred<FetchBlobResponse>().promise;
  });
  const peer = await client({ clock });
  const abort = new AbortController();
  const call = peer.fetchBlob(request(1), { signal: abort.signal, timeoutMs: 2000 });
  await begun.promise;
  abort.abort();
  await assert.rejects(call, (error) => isAppError(error, 'cancelled'));
  clock.advance(2250);
  await ended.promise;
  assert.equal(String((await peer.fetchBlob(request(2))).data), 'next');
});

test('a server that drains ends the stream: calls without an answer fail as unavailable', async (t) => {
  const begun = deferred();
  const { client, server } = await serve(t, async () => {
    begun.resolve();
    return deferred<FetchBlobResponse>().promise;
  });
  const call = (await client()).fetchBlob(request(1));
  await begun.promise;
  await Promise.all([assert.rejects(call, (error) => isAppError(error, 'unavailable')), server.drain()]);
});

test('a stream that carries nothing is closed after a while, and opened again', async (t) => {
  const clock = new ManualClock({ wallMs: realClock.wallMs() });
  const { meter, read } = gauges();
  const { client } = await serve(t, async () => ({ data: Buffer.from('x') }), {}, { meter });
  const activeCount = (): number => read.get('shoal_wire_server_active_calls')?.() ?? Number.NaN;
  const peer = await client({ clock });
  await peer.fetchBlob(request(1));
  clock.advance(9000);
  assert.equal(activeCount(), 1);
  clock.advance(1500);
  await until('the stream is closed', async () => (activeCount() === 0 ? true : undefined));
  await peer.fetchBlob(request(2));
  assert.equal(activeCount(), 1);
});

test('at most 32 calls of one stream are served at a time', async (t) => {
  let running = 0;
  let most = 0;
  const gates: (() => void)[] = [];
  const { client } = await serve(t, async () => {
    running += 1;
    most = Math.max(most, running);
    await new Promise<void>((resolve) => gates.push(resolve));
    running -= 1;
    return { data: Buffer.from('x') };
  });
  const peer = await client();
  let answered = 0;
  const calls = range(100).map(async (number) => {
    await peer.fetchBlob(request(number));
    answered += 1;
  });
  await until('all are answered', async () => {
    for (const open of gates.splice(0)) open();
    return answered === 100 ? true : undefined;
  });
  await Promise.all(calls);
  assert.equal(most, 32);
});

test('each call has its own span and count, and the caller is its parent', async (t) => {
  const spans: string[] = [];
  const parent = '00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01';
  const span = { ...nullTracer.startSpan('', { kind: 'client' }), traceparent: parent };
  const tracer: Tracer = {
    startSpan: (name, { traceparent }) => {
      spans.push(`${name} ${traceparent}`);
      return span;
    },
  };
  const counted: unknown[] = [];
  const counter = { add: (_count: number, labels: unknown) => void counted.push(labels) };
  const meter = {
    ...nullMeter,
    counter: (name: string) => (name === 'shoal_wire_server_calls_total' ? counter : nullMeter.counter(name, '')),
  };
  const { client } = await serve(t, async () => ({ data: Buffer.from('x') }), {}, { tracer, meter });
  await (await client({ tracer: { startSpan: () => span } })).fetchBlob(request(1));
  assert.ok(spans.includes(`${path.slice(1)} ${parent}`), spans.join('\n'));
  assert.deepEqual(counted, [{ service: 'shoal.peer.v1.PeerService', method: 'FetchBlob', code: 'OK' }]);
});
