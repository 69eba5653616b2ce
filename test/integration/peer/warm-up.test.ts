/** What an agent does at its start so that a first pull need not wait for it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError, silentLogger } from '#core';
import { ownTarget, warmUp } from '../../../services/agent/warm-up.ts';
import { Mesh } from '../wire/mesh.ts';
import { deadline } from './cluster.ts';

const agent = { role: 'agent', id: 'agent-client' } as const;
const notFound = (): AppError => new AppError('not-found', 'it is not here');

test('a warm-up goes through the index, an exchange and a call to the own node, twice', async (t) => {
  const mesh = await Mesh.open(t);
  const asked: string[] = [];
  const { port } = await mesh.serve(agent, (server) =>
    server.addPeerService({
      exchange: (exchange) => {
        asked.push('exchange');
        exchange.listen({ requested: () => undefined, cancelled: () => undefined, closed: () => undefined });
        exchange.refuse('unknown-blob', 0);
      },
      fetchBlob: async () => {
        asked.push('call');
        throw notFound();
      },
    }),
  );
  const reader = {
    openBlob: async () => {
      asked.push('index');
      throw notFound();
    },
  };
  const channels = await mesh.pool('agent');
  await warmUp(ownTarget(agent, `127.0.0.1:${port}`), { channels, reader, logger: silentLogger }, { signal: deadline() });
  assert.deepEqual(asked, ['index', 'exchange', 'call', 'index', 'exchange', 'call']);
});

test('a warm-up that reaches nobody ends without an error, and at once when the process stops', async (t) => {
  const mesh = await Mesh.open(t);
  const channels = await mesh.pool('agent');
  const reader = { openBlob: () => Promise.reject(new AppError('unavailable', 'no build-index answers')) };
  const own = ownTarget(agent, '127.0.0.1:1');
  await warmUp(own, { channels, reader, logger: silentLogger }, { signal: deadline() });
  await warmUp(own, { channels, reader, logger: silentLogger }, { signal: AbortSignal.abort() });
});

test('a node reaches its own server also where that listens on every address', () => {
  const endpointOf = (listen: string): string => ownTarget(agent, listen).endpoint;
  assert.deepEqual(['0.0.0.0:7', ':7', '[::]:7', '10.0.0.1:7', '[fe80::1]:7'].map(endpointOf), [
    '127.0.0.1:7',
    '[::1]:7',
    '[::1]:7',
    '10.0.0.1:7',
    '[fe80::1]:7',
  ]);
});
