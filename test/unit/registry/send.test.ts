/** How the head of a streamed answer goes out, and its bytes. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, get, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer, text } from 'node:stream/consumers';
import { test } from 'node:test';
import type { FastifyReply } from 'fastify';
import { until } from '#test/support/storage-fixtures';
import { settingsOf } from '../../../services/lib/registry/options.ts';
import { send } from '../../../services/lib/registry/send.ts';
import { realClock } from '../../integration/wire/mesh.ts';

for (const isAtHand of [true, false]) {
  test(`the head of bytes that are ${isAtHand ? 'at hand goes out with them' : 'waited for goes out before'}`, async (t) => {
    let flushCount = 0;
    const server = createServer((request, response) => {
      const flush = response.flushHeaders.bind(response);
      response.flushHeaders = () => {
        flushCount += 1;
        flush();
      };
      void send(replyOf(request, response), { status: 200, headers: { 'content-length': '4' }, body: body() }, deps);
    });
    const body = () => ({ sizeBytes: 4, isAtHand, chunks: chunks(), release: async () => undefined });
    const deps = { limits: settingsOf({}).limits, clock: realClock, onBytes: () => undefined };
    t.after(() => server.close());
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const [response] = (await once(get({ port, host: '127.0.0.1', agent: false }), 'response')) as [IncomingMessage];
    assert.equal(await text(response), 'blob');
    assert.equal(flushCount, isAtHand ? 0 : 1);
  });
}

test('a chunk has left when the second one after it is asked for, also when chunks are small and the client is slow', async (t) => {
  const chunkBytes = 200_000;
  const count = 100;
  const lent = [0, 1, 2].map(() => Buffer.alloc(chunkBytes));
  const numbered = async function* (): AsyncGenerator<Uint8Array> {
    for (let number = 0; number < count; number += 1) yield lent[number % 3]?.fill(number) ?? Buffer.alloc(0);
  };
  let served: ServerResponse | undefined;
  const server = createServer((request, response) => {
    served = response;
    const body = { sizeBytes: count * chunkBytes, chunks: numbered(), release: async () => undefined };
    const deps = { limits: settingsOf({}).limits, clock: realClock, onBytes: () => undefined };
    void send(replyOf(request, response), { status: 200, headers: {}, body }, deps);
  });
  t.after(() => server.close());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const [response] = (await once(get({ port, host: '127.0.0.1', agent: false }), 'response')) as [IncomingMessage];
  await until(() => served !== undefined && served.writableLength >= 2 * chunkBytes);
  const bytes = await buffer(response);
  for (let number = 0; number < count; number += 1) {
    const chunk = bytes.subarray(number * chunkBytes, (number + 1) * chunkBytes);
    assert.ok(chunk.equals(Buffer.alloc(chunkBytes, number)), `chunk ${number} is whole`);
  }
});

async function* chunks(): AsyncGenerator<Uint8Array> {
  yield Buffer.from('blob');
}

/** The part of a reply that a streamed answer uses. */
function replyOf(request: IncomingMessage, response: ServerResponse): FastifyReply {
  const reply: Pick<FastifyReply, 'raw'> & { readonly request: { readonly raw: IncomingMessage }; hijack(): void } = {
    raw: response,
    request: { raw: request },
    hijack: () => undefined,
  };
  return reply as unknown as FastifyReply;
}
