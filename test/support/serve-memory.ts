/**
 * Serves a registry over a store in memory on loopback, for conformance suites and real clients:
 * `node --import tsx test/support/serve-memory.ts [port]`. Prints its address and ends on SIGTERM or SIGINT.
 */
import { nullMeter, silentLogger } from '#core';
import { createRegistry, MemoryImageStore } from '#registry';
import { SystemClock } from '#runtime';

const clock = new SystemClock();
const store = new MemoryImageStore({ capacityBytes: 4 * 2 ** 30 }, { clock });
const server = await createRegistry({}, { store, logger: silentLogger, meter: nullMeter, clock });
const { host, port } = await server.listen({ host: '127.0.0.1', port: Number(process.argv[2] ?? 0) });
process.stdout.write(`${host}:${port}\n`);

const stop = (): void => {
  void server.close({ drainMs: 5000 });
};
process.once('SIGTERM', stop);
process.once('SIGINT', stop);
