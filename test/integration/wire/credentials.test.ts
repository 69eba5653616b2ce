/** The TLS context of a client. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NodeServiceService } from '#gen/shoal/node/v1/node_service';
import { StaticCertificateSource } from '#pki';
import { RenewingClientContext } from '../../../services/lib/wire/credentials.ts';
import { Mesh, noReload } from './mesh.ts';

const agent = { role: 'agent', id: 'a1' } as const;

test('connections share a TLS context, and those after a renewal get a new one', async (t) => {
  const mesh = await Mesh.open(t);
  const certificates = new StaticCertificateSource(await mesh.material(agent));
  const context = new RenewingClientContext(certificates);
  const first = context.current();
  assert.equal(context.current(), first);
  certificates.replace(await mesh.material(agent));
  assert.notEqual(context.current(), first);
});

test('a channel connects again with the renewed certificate', async (t) => {
  const mesh = await Mesh.open(t);
  const callers: string[] = [];
  const { target } = await mesh.serve({ role: 'tracker', id: 't1' }, (server) =>
    server.addService('shoal.node.v1.NodeService', NodeServiceService, {
      ...noReload,
      getNode: async (_request, { caller }) => {
        callers.push(caller.id);
        throw new Error('enough');
      },
    }),
  );
  const certificates = new StaticCertificateSource(await mesh.material(agent));
  const pool = await mesh.pool('agent', { certificates }, { channelCountMax: 1 });
  await pool
    .client(NodeServiceService, target)
    .getNode({})
    .catch(() => undefined);
  certificates.replace(await mesh.material({ role: 'agent', id: 'a2' }));
  // Another channel takes the place of the first: the next call makes a connection.
  await pool.health({ ...target, id: 'another' });
  await pool
    .client(NodeServiceService, target)
    .getNode({})
    .catch(() => undefined);
  assert.deepEqual(callers, ['a1', 'a2']);
});
