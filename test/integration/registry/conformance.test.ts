/** The conformance suite against the registry surface over a store in memory: what `make conformance` runs against whole clusters. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nullMeter, silentLogger } from '#core';
import { createRegistry, MemoryImageStore } from '#registry';
import { SystemClock } from '#runtime';
import { isClean, Recorder, totalsOf } from '#test/conformance/recorder';
import { Registry } from '#test/conformance/registry';
import { runSuite } from '#test/conformance/suite';

test('every check of the conformance suite passes', async (t) => {
  const clock = new SystemClock();
  const server = await createRegistry({}, { store: new MemoryImageStore({}, { clock }), logger: silentLogger, meter: nullMeter, clock });
  t.after(async () => server.close({ drainMs: 0 }));
  const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
  using registry = new Registry({ url: `http://127.0.0.1:${port}` });
  const recorder = new Recorder();
  await runSuite(registry, recorder, 'memory');
  const totals = totalsOf(recorder.results);
  t.diagnostic(JSON.stringify(totals));
  assert.deepEqual(
    recorder.results.filter(({ outcome }) => outcome !== 'passed'),
    [],
  );
  assert.ok(isClean(totals, 500), JSON.stringify(totals));
});
