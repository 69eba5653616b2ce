import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { connect, createServer } from 'node:tls';
import type { NodeIdentity } from '#core';
import { type Authority, createAuthority, identityFromCertificate, issueLeaf, roleDnsName } from '#pki';
import { ManualClock } from '../../support/manual-clock.ts';

interface Side {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** TLS compares with the machine's own time, so these tests start from it. */
const present = new ManualClock({ wallMs: Date.now() });
const past = new ManualClock({ wallMs: Date.now() - 30 * 86_400_000 });
const server: NodeIdentity = { role: 'origin', id: 'o1' };
const client: NodeIdentity = { role: 'agent', id: 'a1' };

async function sideOf(
  authority: Authority,
  identity: NodeIdentity,
  options: { trusts?: Authority; clock?: ManualClock } = {},
): Promise<Side> {
  const leaf = await issueLeaf(authority, { identity }, { clock: options.clock ?? present });
  return { ca: (options.trusts ?? authority).certPem, cert: leaf.certPem, key: leaf.keyPem };
}

/** Dials and reports each side: the client's error code, and the client's identity or why the server refused it. */
async function handshake(listener: Side, dialler: Side, servername: string): Promise<{ client?: unknown; server: unknown }> {
  const listening = createServer({ ...listener, requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.3' });
  listening.listen(0, '127.0.0.1');
  await once(listening, 'listening');
  const server = new Promise<unknown>((resolve) => {
    listening.on('secureConnection', (socket) => {
      resolve(identityFromCertificate(socket.getPeerCertificate()));
      socket.destroy();
    });
    // A refused client is dropped without a word; the reason stays on the socket.
    listening.on('tlsClientError', (error, socket) => {
      resolve(socket.authorizationError ?? error.message);
      socket.destroy();
    });
  });
  const { port } = listening.address() as AddressInfo;
  const socket = connect({ ...dialler, port, host: '127.0.0.1', servername, minVersion: 'TLSv1.3' });
  const client = new Promise<unknown>((resolve) => {
    socket.on('error', (error) => resolve('code' in error ? error.code : error));
    socket.on('secureConnect', () => resolve(undefined));
  });
  try {
    return { client: await client, server: await server };
  } finally {
    socket.destroy();
    listening.close();
    await once(listening, 'close');
  }
}

const name = roleDnsName('dev', 'origin');

test('two nodes of a cluster meet and the server knows the client', async () => {
  const authority = await createAuthority({ cluster: 'dev' }, { clock: present });
  const result = await handshake(await sideOf(authority, server), await sideOf(authority, client), name);
  assert.deepEqual(result, { client: undefined, server: { cluster: 'dev', identity: client } });
});

test('a server of another role is refused by name', async () => {
  const authority = await createAuthority({ cluster: 'dev' }, { clock: present });
  const result = await handshake(await sideOf(authority, client), await sideOf(authority, client), name);
  assert.equal(result.client, 'ERR_TLS_CERT_ALTNAME_INVALID');
});

test('a client of another CA is refused, even when that CA has the same cluster name', async () => {
  const authority = await createAuthority({ cluster: 'dev' }, { clock: present });
  const foreign = await createAuthority({ cluster: 'dev' }, { clock: present });
  const result = await handshake(await sideOf(authority, server), await sideOf(foreign, client, { trusts: authority }), name);
  assert.equal(result.server, 'UNABLE_TO_VERIFY_LEAF_SIGNATURE');
});

test('a server of another CA is refused', async () => {
  const authority = await createAuthority({ cluster: 'dev' }, { clock: present });
  const foreign = await createAuthority({ cluster: 'dev' }, { clock: present });
  const result = await handshake(await sideOf(foreign, server), await sideOf(authority, client), name);
  // The server's own CA travels in its chain, and is not trusted.
  assert.equal(result.client, 'SELF_SIGNED_CERT_IN_CHAIN');
});

test('an expired certificate of a server is refused by the client', async () => {
  const authority = await createAuthority({ cluster: 'dev' }, { clock: past });
  const result = await handshake(await sideOf(authority, server, { clock: past }), await sideOf(authority, client), name);
  assert.equal(result.client, 'CERT_HAS_EXPIRED');
});

test('an expired certificate of a client is refused by the server', async () => {
  const authority = await createAuthority({ cluster: 'dev' }, { clock: past });
  const result = await handshake(await sideOf(authority, server), await sideOf(authority, client, { clock: past }), name);
  assert.equal(result.server, 'CERT_HAS_EXPIRED');
});
