import assert from 'node:assert/strict';
import { mkdtemp, readdir, rename, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { isAppError, type Logger, type NodeIdentity, nullMeter, silentLogger } from '#core';
import { CertificateDirectory, type TlsMaterial } from '#pki';
import { ManualClock } from '../../support/manual-clock.ts';

const dayMs = 86_400_000;
const agent: NodeIdentity = { role: 'agent', id: 'a1' };

async function setUp(t: TestContext): Promise<{ root: string; clock: ManualClock; directory: CertificateDirectory }> {
  const root = await mkdtemp(join(tmpdir(), 'shoal-pki-'));
  t.after(() => rm(root, { recursive: true }));
  const clock = new ManualClock();
  return { root, clock, directory: new CertificateDirectory({ root: join(root, 'dev') }, { clock }) };
}

test('secrets are readable by their owner only and no temporary file stays behind', async (t) => {
  const { root, directory } = await setUp(t);
  await directory.init({ cluster: 'dev' });
  await directory.issue(agent);
  const modeOf = async (path: string): Promise<number> => (await stat(join(root, 'dev', path))).mode & 0o777;
  assert.deepEqual(
    [await modeOf('.'), await modeOf('agent'), await modeOf('authority.pem'), await modeOf('agent/a1.pem'), await modeOf('ca.pem')],
    [0o700, 0o700, 0o600, 0o600, 0o644],
  );
  assert.deepEqual((await readdir(join(root, 'dev'))).sort(), ['agent', 'authority.pem', 'ca.pem']);
  assert.deepEqual(await readdir(join(root, 'dev', 'agent')), ['a1.pem']);
});

test('an existing CA is kept unless its replacement is asked for, also when two make it at once', async (t) => {
  const { directory } = await setUp(t);
  const results = await Promise.allSettled([directory.init({ cluster: 'dev' }), directory.init({ cluster: 'dev' })]);
  assert.equal(results.filter((result) => result.status === 'fulfilled').length, 1);
  const before = await directory.authority();
  await assert.rejects(directory.init({ cluster: 'dev' }), (error) => isAppError(error, 'already-exists'));
  assert.equal((await directory.authority()).certPem, before.certPem);
});

test('after a rotation old certificates are still trusted, after a discard they are not', async (t) => {
  const { directory } = await setUp(t);
  await directory.init({ cluster: 'dev' });
  await directory.issue(agent);
  await directory.init({ cluster: 'dev', onExisting: 'rotate' });
  assert.equal((await directory.load(agent)).caPem.match(/BEGIN/g)?.length, 2);
  await assert.rejects(directory.init({ cluster: 'other', onExisting: 'rotate' }), (error) => isAppError(error, 'invalid-argument'));
  await directory.init({ cluster: 'dev', onExisting: 'discard' });
  await assert.rejects(directory.load(agent), (error) => isAppError(error, 'failed-precondition'));
  assert.equal((await directory.issue(agent)).caPem.match(/BEGIN/g)?.length, 1);
});

test('a directory without a CA or a certificate says what to run', async (t) => {
  const { directory } = await setUp(t);
  await assert.rejects(directory.issue(agent), (error) => isAppError(error, 'not-found') && /shoal certs init/.test(error.message));
  await assert.rejects(directory.load(agent), (error) => isAppError(error, 'not-found') && /shoal certs issue/.test(error.message));
  assert.throws(() => directory.pathsOf({ role: 'agent', id: '../authority' }), /invalid node id/);
});

test('what is due is renewed with its names and lifetime, the rest is left alone', async (t) => {
  const { clock, directory } = await setUp(t);
  await directory.init({ cluster: 'dev' });
  await directory.issue({ role: 'proxy', id: 'p1' }, { lifetimeMs: 30 * dayMs });
  await directory.issue(agent, { lifetimeMs: 3 * dayMs, extraDnsNames: ['localhost'], ipAddresses: ['::1'] });
  assert.deepEqual(await directory.renewDue(), []);
  clock.advance(2 * dayMs + dayMs / 2);
  assert.deepEqual(await directory.renewDue(), [agent]);
  const renewed = await directory.load(agent);
  assert.equal(renewed.notAfterMs, clock.wallMs() + 3 * dayMs);
  clock.advance(10 * dayMs);
  assert.deepEqual(
    (await directory.list()).map(({ identity, expired, renewalDue }) => [identity.id, expired, renewalDue]),
    [
      ['a1', true, true],
      ['p1', false, false],
    ],
  );
});

test('a running node takes a renewal, and reports and survives an unusable one', async (t) => {
  const { root, clock, directory } = await setUp(t);
  await directory.init({ cluster: 'dev' });
  const first = await directory.issue(agent);
  const gauges = new Map<string, () => number>();
  const reported: string[] = [];
  const logger: Logger = { ...silentLogger, error: (message) => void reported.push(message) };
  const meter = { ...nullMeter, gauge: (name: string, _description: string, read: () => number) => void gauges.set(name, read) };
  await using source = await directory.watch(agent, { clock, logger, meter });
  const changed = (): Promise<TlsMaterial> => new Promise((resolve) => source.onChange(resolve));
  const expirySeconds = gauges.get('shoal_pki_certificate_expiry_seconds');
  assert.equal(expirySeconds?.(), (7 * dayMs) / 1000);

  clock.advance(dayMs / 2);
  assert.equal(await source.reload(), false);
  const renewed = await directory.issue(agent);
  const change = changed();
  await pollDue(clock);
  clock.advance(10_000);
  assert.equal((await change).serialNumber, renewed.serialNumber);
  assert.notEqual(renewed.serialNumber, first.serialNumber);
  assert.equal(source.current().serialNumber, renewed.serialNumber);

  const impostor = new CertificateDirectory({ root: join(root, 'impostor') }, { clock });
  await impostor.init({ cluster: 'dev' });
  await impostor.issue(agent);
  await rename(impostor.pathsOf(agent).certFile, directory.pathsOf(agent).certFile);
  assert.equal(await source.reload(), false);
  assert.equal(await source.reload(), false);
  assert.equal(source.current().serialNumber, renewed.serialNumber);
  assert.deepEqual(reported, ['new certificate refused, the old one stays in use']);

  await directory.issue(agent);
  assert.equal(await source.reload(), true);
});

test('a disposed source leaves no timer behind', async (t) => {
  const { clock, directory } = await setUp(t);
  await directory.init({ cluster: 'dev' });
  await directory.issue(agent);
  const source = await directory.watch(agent, { clock, logger: silentLogger, meter: nullMeter });
  assert.equal(clock.pendingCount, 1);
  await source[Symbol.asyncDispose]();
  assert.equal(clock.pendingCount, 0);
});

/** Waits until the poll that is running has set the timer of the next one. */
async function pollDue(clock: ManualClock): Promise<void> {
  while (clock.pendingCount === 0) await new Promise((resolve) => setImmediate(resolve));
}
