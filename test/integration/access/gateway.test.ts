/** A gateway as its config makes it: TLS that follows its files, client certificates as logins, and the audit log in a file. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import tls from 'node:tls';
import bcrypt from 'bcryptjs';
import { stringify } from 'yaml';
import { z } from 'zod';
import { type Gateway, gatewayParts, openGateway } from '#access';
import { digestOf, nullMeter, silentLogger } from '#core';
import { createRegistry, MemoryImageStore } from '#registry';
import { parseConfig } from '#runtime';
import { ManualClock } from '#test/support/manual-clock';
import { until } from '#test/support/processes';
import { tempDir } from '#test/support/temp';
import { type WebCertificate, webAuthority } from '#test/support/web-certificates';

const root = tempDir('gateway');
const ca = webAuthority();
const path = (name: string): string => join(root, name);

interface Started extends AsyncDisposable {
  readonly port: number;
  readonly clock: ManualClock;
  readonly gateway: Gateway;
}

async function start(config: object): Promise<Started> {
  const clock = new ManualClock();
  const full = parseConfig(z.strictObject(gatewayParts), stringify(config), 'test.yaml');
  const deps = { clock, logger: silentLogger, meter: nullMeter };
  const gateway = await openGateway(full, deps);
  const server = await createRegistry(gateway.options, { ...deps, ...gateway.deps, store: new MemoryImageStore({}, { clock }) });
  const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
  return {
    port,
    clock,
    gateway,
    [Symbol.asyncDispose]: async () => {
      await server.close({ drainMs: 0 });
      await gateway[Symbol.asyncDispose]();
    },
  };
}

function writeCertificate(name: string, { certPem, keyPem }: WebCertificate): { certFile: string; keyFile: string } {
  const files = { certFile: path(`${name}.pem`), keyFile: path(`${name}.key`) };
  writeFileSync(files.certFile, certPem);
  writeFileSync(files.keyFile, keyPem);
  return files;
}

function get(port: number, url: string, options: https.RequestOptions = {}): Promise<{ status: number; challenge: string | undefined }> {
  return new Promise((resolve, reject) => {
    const request = https.request({ host: '127.0.0.1', port, path: url, ca: ca.certPem, agent: false, ...options }, (response) => {
      response.resume().on('end', () => resolve({ status: response.statusCode ?? 0, challenge: response.headers['www-authenticate'] }));
    });
    request.on('error', reject).end();
  });
}

async function servedName(port: number): Promise<string> {
  const socket = tls.connect({ host: '127.0.0.1', port, ca: ca.certPem });
  await once(socket, 'secureConnect');
  const name = socket.getPeerCertificate().subject.CN;
  socket.destroy();
  return String(name);
}

const listen = '127.0.0.1:0';

describe('TLS', () => {
  test('follows its files; what does not fit leaves the former in use', async () => {
    const files = writeCertificate('follow', ca.issue('first'));
    await using started = await start({ registry: { listen, tls: files } });
    assert.equal(await servedName(started.port), 'first');
    writeFileSync(files.keyFile, ca.issue('other').keyPem);
    started.clock.advance(10_000);
    assert.equal(await servedName(started.port), 'first');
    writeCertificate('follow', ca.issue('second'));
    await until('the new certificate is served', async () => {
      started.clock.advance(10_000);
      return (await servedName(started.port)) === 'second' ? true : undefined;
    });
  });

  test('a key of another certificate, and a file that is absent, are told at the start', async () => {
    const files = writeCertificate('wrong', ca.issue('one'));
    writeFileSync(files.keyFile, ca.issue('two').keyPem);
    await assert.rejects(start({ registry: { listen, tls: files } }), /is not that of the certificate/);
    await assert.rejects(start({ registry: { listen, tls: { certFile: path('absent') } } }), /cannot read .*absent/);
    writeFileSync(files.certFile, 'nothing');
    await assert.rejects(start({ registry: { listen, tls: files } }), /holds no certificate/);
  });

  const clientCaFile = path('clients-ca.pem');
  const rules = [{ who: ['certificate:builder'], repositories: ['**'], allow: ['pull'] }];

  test('an optional client certificate is a login, another CA is none, and the challenge says https', async () => {
    writeFileSync(clientCaFile, ca.certPem);
    const files = writeCertificate('clients', ca.issue('server'));
    await using started = await start({ registry: { listen, tls: { ...files, clientCaFile } }, access: { rules } });
    const { certPem: cert, keyPem: key } = ca.issue('builder');
    assert.equal((await get(started.port, '/v2/', { cert, key })).status, 200);
    assert.equal((await get(started.port, '/v2/a/tags/list', { cert, key })).status, 404);
    const none = await get(started.port, '/v2/');
    assert.equal(none.status, 401);
    assert.match(none.challenge ?? '', new RegExp(`^Bearer realm="https://127\\.0\\.0\\.1:${started.port}/v2/token"`));
    const stranger = webAuthority('stranger').issue('builder');
    assert.equal((await get(started.port, '/v2/', { cert: stranger.certPem, key: stranger.keyPem })).status, 401);
    const other = ca.issue('visitor');
    assert.equal((await get(started.port, '/v2/a/tags/list', { cert: other.certPem, key: other.keyPem })).status, 403);
  });

  test('where client certificates are required nobody connects without', async () => {
    writeFileSync(clientCaFile, ca.certPem);
    const files = writeCertificate('required', ca.issue('server'));
    await using started = await start({ registry: { listen, tls: { ...files, clientCaFile, clientCertificates: 'required' } } });
    const { certPem: cert, keyPem: key } = ca.issue('anyone');
    assert.equal((await get(started.port, '/v2/', { cert, key })).status, 200);
    await assert.rejects(get(started.port, '/v2/'));
  });

  test('a rule for certificates needs CAs, and required certificates do too', async () => {
    await assert.rejects(start({ registry: { listen }, access: { rules } }), /set registry\.tls\.clientCaFile/);
    await assert.rejects(
      start({ registry: { listen, tls: { certFile: 'x', clientCertificates: 'required' } } }),
      /registry\.tls\.clientCaFile: required client certificates need/,
    );
  });
});

describe('the audit log', () => {
  const lines = (file: string): Record<string, unknown>[] =>
    readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line));

  test('holds who changed what and who was refused, in a file that may be moved away, and no secret', async () => {
    const file = path('logs/audit.log');
    const htpasswd = path('htpasswd');
    writeFileSync(htpasswd, `alice:${bcrypt.hashSync('hunter2', 4)}`);
    const access = {
      rules: [{ who: ['user:alice'], repositories: ['team/**'], allow: ['pull', 'push'] }],
      htpasswd: { file: htpasswd },
    };
    const started = await start({ registry: { listen }, access, audit: { file } });
    const base = `http://127.0.0.1:${started.port}`;
    const blob = Buffer.from('layer');
    const digest = digestOf(blob);
    const ask = async (method: string, url: string, password = 'hunter2', body?: Buffer): Promise<number> => {
      const headers = password === '' ? {} : { authorization: `Basic ${Buffer.from(`alice:${password}`).toString('base64')}` };
      const response = await fetch(`${base}${url}`, { method, headers, ...(body === undefined ? {} : { body: new Uint8Array(body) }) });
      await response.arrayBuffer();
      return response.status;
    };
    assert.equal(await ask('POST', `/v2/team/a/blobs/uploads/?digest=${digest}`, 'hunter2', blob), 201);
    assert.equal(await ask('POST', `/v2/team/b/blobs/uploads/?mount=${digest}&from=team/a`), 201);
    assert.equal(await ask('GET', `/v2/team/b/blobs/${digest}`), 200);
    assert.equal(await ask('DELETE', `/v2/team/b/blobs/${digest}`), 403);
    assert.equal(await ask('POST', '/v2/team/a/blobs/uploads/', ''), 401);
    assert.equal(await ask('PUT', '/v2/team/a/manifests/v1?tag=x', 'hunter2', Buffer.from('{}')), 400);
    assert.equal(await ask('GET', '/v2/token', 'guess'), 401);
    await until('eight requests left six lines', async () => (lines(file).length === 6 ? true : undefined));
    renameSync(file, `${file}.1`);
    started.clock.advance(5000);
    await until('the log goes on in a new file', async () => {
      await ask('GET', '/v2/', 'guess');
      return lines(file).length > 0 ? true : undefined;
    });
    await started[Symbol.asyncDispose]();
    const written = lines(`${file}.1`).slice(0, 6);
    const brief = written.map(({ action, outcome, status, principal }) => [action, outcome, status, principal]);
    assert.deepEqual(brief, [
      ['push-blob', 'done', 201, 'user:alice'],
      ['mount-blob', 'done', 201, 'user:alice'],
      ['delete-blob', 'denied', 403, 'user:alice'],
      ['upload', 'challenged', 401, 'anonymous'],
      ['push-manifest', 'failed', 400, 'user:alice'],
      ['login', 'denied', 401, 'refused'],
    ]);
    const [push, mount] = written;
    assert.deepEqual([push?.['repository'], push?.['digest'], push?.['address']], ['team/a', digest, '127.0.0.1']);
    assert.deepEqual([mount?.['repository'], mount?.['from'], mount?.['reference']], ['team/b', 'team/a', digest]);
    const text = readFileSync(file, 'utf8') + readFileSync(`${file}.1`, 'utf8');
    for (const secret of ['hunter2', 'guess', 'Basic ']) assert.equal(text.includes(secret), false);
  });

  test('a file that cannot be written is told at the start', async () => {
    writeFileSync(path('file'), '');
    await assert.rejects(start({ registry: { listen }, audit: { file: path('file/audit.log') } }), /cannot write to/);
  });
});
