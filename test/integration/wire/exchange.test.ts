/** Exchanges over real sockets: bulk pieces, backpressure, refusals and what is malformed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ClientDuplexStream, Client as GrpcClient, Server as GrpcServer, type ServerDuplexStream } from '@grpc/grpc-js';
import { Bitfield, digestOf, isAppError, parseDigest } from '#core';
import { ExchangeRequest } from '#gen/shoal/peer/v1/exchange';
import { PeerServiceService } from '#gen/shoal/peer/v1/peer_service';
import { roleDnsName, StaticCertificateSource } from '#pki';
import {
  type ChannelPool,
  type InboundExchange,
  type InboundExchangeEvents,
  type OutboundExchangeEvents,
  pieceFrame,
  type Target,
} from '#wire';
// The tests of malformed frames speak to the server without the pool.
import { RenewingChannelCredentials, RenewingClientContext, RenewingServerCredentials } from '../../../services/lib/wire/credentials.ts';
import { encodeFrame } from '../../../services/lib/wire/piece-frames.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { deferred, Mesh, type TestServer } from './mesh.ts';

const agent = { role: 'agent', id: 'seed' } as const;
const digest = parseDigest(`sha256:${'a'.repeat(64)}`);
const mebibyte = 1 << 20;
const nothing = (): void => undefined;

function serverEvents(events: Partial<InboundExchangeEvents>): InboundExchangeEvents {
  return { requested: nothing, cancelled: nothing, closed: nothing, ...events };
}

function clientEvents(events: Partial<OutboundExchangeEvents>): OutboundExchangeEvents {
  return { accepted: nothing, refused: nothing, have: nothing, piece: nothing, pieceRefused: nothing, closed: nothing, ...events };
}

async function serve(mesh: Mesh, exchange: (exchange: InboundExchange) => void, exchangeOpenTimeoutMs = 10_000): Promise<TestServer> {
  return mesh.serve(agent, (server) => server.addPeerService({ exchange, fetchBlob: async () => ({ data: Buffer.from('tiny') }) }), {
    exchangeOpenTimeoutMs,
  });
}

/** Serves pieces of `sizeBytes` whose bytes are their index, one after another. */
function seeder(sizeBytes: number, sent: (count: number) => void = nothing): (exchange: InboundExchange) => void {
  return (exchange) => {
    let work = Promise.resolve();
    let count = 0;
    exchange.listen(
      serverEvents({
        requested: (pieces) => {
          work = work
            .then(async () => {
              for (const index of pieces) {
                const frame = pieceFrame(sizeBytes);
                frame.body.fill(index);
                await exchange.piece(index, frame);
                count += 1;
                sent(count);
              }
            })
            .catch(nothing);
        },
      }),
    );
    exchange.accept(Bitfield.full(64));
  };
}

/** Lets sockets and streams come to rest. */
async function settle(read: () => number): Promise<void> {
  let before = -1;
  while (before !== read()) {
    before = read();
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

test('64 pieces of 1 MiB arrive whole and in the order of the requests', async (t) => {
  const mesh = await Mesh.open(t);
  const { target } = await serve(mesh, seeder(mebibyte));
  const got: number[] = [];
  const done = deferred();
  const exchange = (await mesh.pool('agent')).dialExchange(
    target,
    digest,
    clientEvents({
      accepted: (complete, bitfield) => {
        assert.deepEqual([complete, bitfield.byteLength], [true, 0]);
        exchange.request(Array.from({ length: 64 }, (_, index) => index));
      },
      piece: (index, bytes) => {
        assert.equal(digestOf(bytes), digestOf(Buffer.alloc(mebibyte, index)));
        got.push(index);
        if (got.length === 64) done.resolve();
      },
      closed: (error) => done.reject(error ?? new Error('closed')),
    }),
  );
  await done.promise;
  assert.deepEqual(
    got,
    Array.from({ length: 64 }, (_, index) => index),
  );
});

test('a paused receiver stops the sender after a few pieces, and resume goes on', async (t) => {
  const mesh = await Mesh.open(t);
  let sent = 0;
  const { target } = await serve(
    mesh,
    seeder(mebibyte, (count) => {
      sent = count;
    }),
  );
  let got = 0;
  const [first, done] = [deferred(), deferred()];
  const exchange = (await mesh.pool('agent')).dialExchange(
    target,
    digest,
    clientEvents({
      accepted: () => exchange.request(Array.from({ length: 64 }, (_, index) => index)),
      piece: () => {
        got += 1;
        if (got === 1) {
          exchange.pause();
          first.resolve();
        }
        if (got === 64) done.resolve();
      },
    }),
  );
  // Before it, everything is at rest too.
  await first.promise;
  await settle(() => sent + got);
  assert.equal(got, 1);
  // The window of 4 MiB, what sockets hold, one on its way and one being read from disk.
  assert.ok(sent < 12, `${sent} pieces were taken from a sender whose receiver pauses`);
  exchange.resume();
  await done.promise;
});

test('an incomplete peer shows its bitfield, tells of new pieces and refuses others', async (t) => {
  const mesh = await Mesh.open(t);
  const have = new Bitfield(300);
  have.add(3);
  const cancelled = deferred<readonly number[]>();
  const { target } = await serve(mesh, (exchange) => {
    assert.equal(exchange.peer, 'agent/agent-client');
    assert.equal(exchange.digest, digest);
    exchange.listen(
      serverEvents({
        requested: ([index = 0]) => exchange.pieceRefused(index, 'not-have'),
        cancelled: cancelled.resolve,
      }),
    );
    exchange.accept(have);
    exchange.have(Array.from({ length: 300 }, (_, index) => index));
  });
  const bits = deferred<Bitfield>();
  const refusal = deferred<string>();
  const told: number[] = [];
  const frames: number[] = [];
  const exchange = (await mesh.pool('agent')).dialExchange(
    target,
    digest,
    clientEvents({
      accepted: (_complete, bitfield) => bits.resolve(Bitfield.fromBytes(bitfield, 300)),
      have: (pieces) => {
        frames.push(pieces.length);
        told.push(...pieces);
        if (told.length === 300) exchange.request([7]);
      },
      pieceRefused: (index, reason) => refusal.resolve(`${index} ${reason}`),
    }),
  );
  assert.deepEqual((await bits.promise).toBytes(), have.toBytes());
  assert.equal(await refusal.promise, '7 not-have');
  assert.deepEqual(frames, [256, 44]);
  exchange.cancel([7, 8]);
  assert.deepEqual(await cancelled.promise, [7, 8]);
});

test('a refusal arrives with its reason and time, then the exchange is closed', async (t) => {
  const mesh = await Mesh.open(t);
  const { target } = await serve(mesh, (exchange) => {
    exchange.listen(serverEvents({}));
    exchange.refuse('busy', 1_500);
  });
  const log: unknown[] = [];
  const closed = deferred<Error | undefined>();
  (await mesh.pool('agent')).dialExchange(target, digest, clientEvents({ refused: (...args) => log.push(args), closed: closed.resolve }));
  assert.equal(await closed.promise, undefined);
  assert.deepEqual(log, [['busy', 1_500]]);
});

test('closing either end closes the other in order, once, and later calls do nothing', async (t) => {
  const mesh = await Mesh.open(t);
  const served: InboundExchange[] = [];
  const serverClosed: (Error | undefined)[] = [];
  const closedOnce = deferred();
  const { target } = await serve(mesh, (exchange) => {
    served.push(exchange);
    exchange.listen(
      serverEvents({
        closed: (error) => {
          serverClosed.push(error);
          closedOnce.resolve();
        },
      }),
    );
    exchange.accept(Bitfield.full(1));
  });
  const pool = await mesh.pool('agent');
  const clientClosed: (Error | undefined)[] = [];
  const first = pool.dialExchange(
    target,
    digest,
    clientEvents({ accepted: () => first.close(), closed: (error) => clientClosed.push(error) }),
  );
  await closedOnce.promise;
  first.close();
  first.request([1]);
  first.pause();
  first.resume();
  assert.deepEqual([clientClosed, serverClosed], [[undefined], [undefined]]);
  await assert.rejects(served[0]?.piece(0, pieceFrame(1)) ?? Promise.resolve(), (error: unknown) => isAppError(error, 'unavailable'));

  const ended = deferred<Error | undefined>();
  pool.dialExchange(target, digest, clientEvents({ accepted: () => served[1]?.close(), closed: ended.resolve }));
  assert.equal(await ended.promise, undefined);
});

test('a piece that waits for a receiver that goes away is rejected', async (t) => {
  const mesh = await Mesh.open(t);
  const failed = deferred<unknown>();
  const { target } = await serve(mesh, (exchange) => {
    exchange.listen(
      serverEvents({
        requested: async () => {
          try {
            for (;;) await exchange.piece(0, pieceFrame(4 * mebibyte));
          } catch (error) {
            failed.resolve(error);
          }
        },
      }),
    );
    exchange.accept(Bitfield.full(1));
  });
  let got = 0;
  const first = deferred();
  const exchange = (await mesh.pool('agent')).dialExchange(
    target,
    digest,
    clientEvents({
      accepted: () => exchange.request([0]),
      piece: () => {
        got += 1;
        exchange.pause();
        first.resolve();
      },
    }),
  );
  await first.promise;
  await settle(() => got);
  exchange.close();
  assert.ok(isAppError(await failed.promise, 'unavailable'));
});

test('what waits for a receiver that reads nothing is dropped some time after the exchange is closed', async (t) => {
  const mesh = await Mesh.open(t);
  const clock = new ManualClock();
  const closed = deferred();
  const accept = (exchange: InboundExchange): void => {
    const requested = (): void => {
      for (const index of [0, 1, 2]) void exchange.piece(index, pieceFrame(3 * mebibyte)).catch(nothing);
      exchange.close();
      closed.resolve();
    };
    exchange.listen(serverEvents({ requested }));
    exchange.accept(Bitfield.full(3));
  };
  const peerService = { exchange: accept, fetchBlob: async () => ({ data: Buffer.from('tiny') }) };
  const { target } = await mesh.serve(agent, (server) => server.addPeerService(peerService), {}, undefined, { clock });
  const stream = await openRaw(t, mesh, target);
  stream.write(hello);
  stream.write(ExchangeRequest.encode({ frame: { $case: 'request', request: { pieces: [0, 1, 2] } } }).finish());
  await closed.promise;
  clock.advance(10_000);
  const ended = deferred<string>();
  stream.on('error', (error) => ended.resolve(error.message));
  stream.on('end', () => ended.resolve('everything came'));
  stream.on('data', nothing);
  assert.match(await ended.promise, /CANCELLED/);
});

test('a peer that cannot be reached closes the exchange as unavailable', async (t) => {
  const mesh = await Mesh.open(t);
  const closed = deferred<Error | undefined>();
  (await mesh.pool('agent')).dialExchange({ endpoint: '127.0.0.1:1', role: 'agent' }, digest, clientEvents({ closed: closed.resolve }));
  assert.ok(isAppError(await closed.promise, 'unavailable'));
});

test('a peer that neither accepts nor refuses is given up', async (t) => {
  const mesh = await Mesh.open(t);
  const { target } = await serve(mesh, (exchange) => exchange.listen(serverEvents({})));
  const closed = deferred<Error | undefined>();
  const pool = await mesh.pool('agent', {}, { exchangeOpenTimeoutMs: 300 });
  pool.dialExchange(target, digest, clientEvents({ closed: closed.resolve }));
  assert.ok(isAppError(await closed.promise, 'deadline-exceeded'));
});

test('draining ends exchanges at both ends as unavailable', async (t) => {
  const mesh = await Mesh.open(t);
  const atServer = deferred<Error | undefined>();
  const { server, target } = await serve(mesh, (exchange) => {
    exchange.listen(serverEvents({ closed: atServer.resolve }));
    exchange.accept(Bitfield.full(1));
  });
  const accepted = deferred();
  const atClient = deferred<Error | undefined>();
  (await mesh.pool('agent')).dialExchange(target, digest, clientEvents({ accepted: () => accepted.resolve(), closed: atClient.resolve }));
  await accepted.promise;
  await server.drain({ graceMs: 5_000 });
  assert.ok(isAppError(await atServer.promise, 'unavailable'));
  assert.ok(isAppError(await atClient.promise, 'unavailable'));
});

test('word that a piece has arrived comes after the piece, and not before a receiver that does not read takes it', async (t) => {
  const mesh = await Mesh.open(t);
  const order: string[] = [];
  const [served, done, accepted] = [deferred(), deferred(), deferred()];
  const { target } = await serve(mesh, (exchange) => {
    exchange.listen(
      serverEvents({
        requested: ([index = 0]) => {
          const frame = pieceFrame(mebibyte);
          void exchange
            .pieceAcknowledged(index, frame, () => {
              order.push('taken');
              served.resolve();
            })
            .then(() => {
              order.push('arrived');
              done.resolve();
            });
        },
      }),
    );
    exchange.accept(Bitfield.full(64));
  });
  const exchange = (await mesh.pool('agent')).dialExchange(
    target,
    digest,
    clientEvents({ accepted: () => accepted.resolve(), piece: () => order.push('received') }),
  );
  await accepted.promise;
  exchange.pause();
  exchange.request([3]);
  await served.promise;
  await settle(() => order.length);
  assert.deepEqual(order, ['taken']);
  exchange.resume();
  await done.promise;
  assert.deepEqual(order, ['taken', 'received', 'arrived']);
  exchange.close();
});

test('a tiny blob is fetched whole', async (t) => {
  const mesh = await Mesh.open(t);
  const { target } = await serve(mesh, seeder(1));
  const pool: ChannelPool = await mesh.pool('build-index');
  const { data } = await pool.client(PeerServiceService, target).fetchBlob({ digest: undefined });
  assert.equal(Buffer.from(data).toString(), 'tiny');
});

const hello = ExchangeRequest.encode({
  frame: { $case: 'hello', hello: { digest: { algorithm: 1, value: Buffer.alloc(32) }, acknowledges: true } },
}).finish();
const tooMany = ExchangeRequest.encode({ frame: { $case: 'request', request: { pieces: Array.from({ length: 257 }, () => 1) } } }).finish();
const arrived = ExchangeRequest.encode({ frame: { $case: 'arrived', arrived: { count: 1 } } }).finish();
const malformed: readonly (readonly [string, readonly Uint8Array[], string])[] = [
  [
    'a first frame that is no hello',
    [ExchangeRequest.encode({ frame: { $case: 'request', request: { pieces: [1] } } }).finish()],
    'first frame',
  ],
  ['a hello without a digest', [Buffer.from([0x0a, 0])], 'digest is missing'],
  ['a second hello', [hello, hello], 'second hello'],
  ['more than 256 indexes', [hello, tooMany], 'more than 256'],
  ['word of a piece that was not sent', [hello, arrived], 'more pieces arrived'],
  ['a frame that is too large', [Buffer.alloc(8192)], 'too large'],
  ['bytes that are no message', [Buffer.from([0x0a, 0xff])], 'malformed'],
];

for (const [name, frames, message] of malformed) {
  test(`${name} ends the exchange as invalid-argument`, async (t) => {
    const mesh = await Mesh.open(t);
    const { target } = await serve(mesh, seeder(1));
    await assert.rejects(sendRaw(t, mesh, target, frames), (error: unknown) => {
      assert.match(String(error), /INVALID_ARGUMENT/);
      assert.ok(String(error).includes(message), String(error));
      return true;
    });
  });
}

test('a frame of a kind that is not known is ignored', async (t) => {
  const mesh = await Mesh.open(t);
  const { target } = await serve(mesh, (exchange) => {
    exchange.listen(serverEvents({ requested: () => exchange.close() }));
  });
  const request = ExchangeRequest.encode({ frame: { $case: 'request', request: { pieces: [1] } } }).finish();
  await sendRaw(t, mesh, target, [Buffer.from([0x7a, 1, 1]), hello, Buffer.from([0x7a, 1, 1]), request]);
});

test('a downloader ends a refused exchange itself', async (t) => {
  const mesh = await Mesh.open(t);
  const gone = deferred();
  const server = new GrpcServer();
  const raw = { requestDeserialize: (bytes: Buffer) => bytes, responseSerialize: (bytes: Buffer) => bytes };
  server.addService(
    { exchange: { ...PeerServiceService.exchange, ...raw } },
    {
      exchange: (stream: ServerDuplexStream<Buffer, Buffer>) => {
        stream.on('data', () => stream.write(encodeFrame({ $case: 'refused', refused: { reason: 1, retryAfterMs: 5 } })));
        stream.on('cancelled', () => gone.resolve());
      },
    },
  );
  const port = await new Promise<number>((resolve, reject) => {
    mesh.material(agent).then((material) => {
      const credentials = new RenewingServerCredentials(new StaticCertificateSource(material));
      server.bindAsync('127.0.0.1:0', credentials, (error, bound) => (error === null ? resolve(bound) : reject(error)));
    }, reject);
  });
  t.after(() => server.forceShutdown());
  const log: unknown[] = [];
  const closed = deferred<Error | undefined>();
  const target: Target = { endpoint: `127.0.0.1:${port}`, role: 'agent' };
  const events = clientEvents({ refused: (...args) => log.push(args), closed: closed.resolve });
  (await mesh.pool('agent')).dialExchange(target, digest, events);
  assert.equal(await closed.promise, undefined);
  await gone.promise;
  assert.deepEqual(log, [['busy', 5]]);
});

test('a caller without a hello is cut off after a time', async (t) => {
  const mesh = await Mesh.open(t);
  const { target } = await serve(mesh, seeder(1), 200);
  await assert.rejects(sendRaw(t, mesh, target, []), /DEADLINE_EXCEEDED: exchange: no hello came in time/);
});

/** An exchange without the pool, which reads when `data` is listened to. */
async function openRaw(t: { after(fn: () => void): void }, mesh: Mesh, target: Target): Promise<ClientDuplexStream<Uint8Array, Buffer>> {
  const context = new RenewingClientContext(new StaticCertificateSource(await mesh.material({ role: 'agent', id: 'raw' })));
  const credentials = new RenewingChannelCredentials(context, { cluster: 'test', role: 'agent', id: undefined });
  const client = new GrpcClient(target.endpoint, credentials, { 'grpc.ssl_target_name_override': roleDnsName('test', 'agent') });
  t.after(() => client.close());
  const stream = client.makeBidiStreamRequest<Uint8Array, Buffer>(
    PeerServiceService.exchange.path,
    (bytes) => Buffer.from(bytes),
    (bytes) => bytes,
  );
  stream.on('error', nothing);
  return stream;
}

/** Sends bytes as frames; resolves when the server ends the stream in order. */
async function sendRaw(t: { after(fn: () => void): void }, mesh: Mesh, target: Target, frames: readonly Uint8Array[]): Promise<void> {
  const stream = await openRaw(t, mesh, target);
  const ended = new Promise<void>((resolve, reject) => {
    stream.on('error', reject);
    stream.on('end', resolve);
    stream.on('data', nothing);
  });
  for (const frame of frames) stream.write(frame);
  await ended;
}
