import assert from 'node:assert/strict';
import { Duplex } from 'node:stream';
import { test } from 'node:test';
import type { ServerDuplexStream } from '@grpc/grpc-js';
import { Bitfield, nullMeter, silentLogger } from '#core';
import { ExchangeRequest } from '#gen/shoal/peer/v1/exchange';
import { ManualClock } from '#test/support/manual-clock';
import { exchangeHandler } from '../../../services/lib/wire/exchange-server.ts';

const hello = ExchangeRequest.encode({
  frame: { $case: 'hello', hello: { digest: { algorithm: 1, value: Buffer.alloc(32) }, acknowledges: false } },
}).finish();
const request = ExchangeRequest.encode({
  frame: { $case: 'request', request: { pieces: Array.from({ length: 256 }, () => 1) } },
}).finish();

/** The server's end of a stream whose other end takes a frame when told to. */
class SlowStream extends Duplex {
  readonly metadata = {};
  #taken: (() => void) | undefined;
  takesAll = false;

  constructor() {
    super({ objectMode: true });
  }

  override _read(): void {
    // Frames are pushed by the test.
  }

  override _write(_frame: Buffer, _encoding: string, taken: () => void): void {
    if (this.takesAll) setImmediate(taken);
    else this.#taken = taken;
  }

  takeAll(): void {
    this.takesAll = true;
    this.#taken?.();
  }
}

test('one who does not read refusals is not read, until it does', async () => {
  const stream = new SlowStream();
  let refusedCount = 0;
  const admitted = { caller: { role: 'agent', id: 'a1' }, span: { run: (work: () => void) => work() } };
  const gate = { admitted: () => admitted, draining: new AbortController().signal };
  const handle = exchangeHandler(
    (exchange) => {
      exchange.listen({
        requested: (pieces) => {
          for (const piece of pieces) exchange.pieceRefused(piece, 'not-have');
          refusedCount += pieces.length;
        },
        cancelled: () => undefined,
        closed: () => undefined,
      });
      exchange.accept(Bitfield.full(1));
    },
    {
      gate: gate as never,
      clock: new ManualClock(),
      logger: silentLogger,
      sentBytes: nullMeter.counter('sent', 'Sent.'),
      openTimeoutMs: 1000,
      flushTimeoutMs: 1000,
    },
  );
  handle(stream as unknown as ServerDuplexStream<Buffer, Buffer>);
  for (const frame of [hello, ...Array.from({ length: 40 }, () => request)]) stream.push(Buffer.from(frame));
  for (let turn = 0; turn < 10; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(refusedCount, 256);
  stream.takeAll();
  while (refusedCount < 40 * 256) await new Promise((resolve) => setImmediate(resolve));
  stream.destroy();
});
