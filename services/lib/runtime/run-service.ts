/** The main function of every service: config file, composition, listening, and a graceful end. */
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { stringify } from 'yaml';
import type { z } from 'zod';
import { isAppError, type Role, toAppError } from '#core';
import type { CommonConfig } from './config-parts.ts';
import { ConfigReload } from './config-reload.ts';
import { stopOnFault } from './faults.ts';
import { loadConfig } from './load-config.ts';
import { type NodeContext, openNode } from './node-context.ts';
import { version } from './version.ts';

export interface ServiceProgram<C extends CommonConfig> {
  readonly role: Role;
  readonly schema: z.ZodType<C>;
  /**
   * Wires the service together; the gRPC server listens after it resolves. What it returns is run then: a registry opens last, when peers can
   * already reach this node.
   */
  readonly compose: (config: C, node: NodeContext) => Promise<(() => Promise<void>) | undefined>;
}

const usage = (role: Role): string =>
  `Runs the ${role} of a Shoal cluster.

  --config FILE    its YAML config (see deploy/config/${role}.yaml)
  --stop-on-stdin-end  stop when stdin ends, as it does when the program that started this one is gone
  --print-config   check the config, print it with every default filled in, and end
  --version        print the version
  --help           this text`;

/** Runs the service until it is told to stop; sets the exit code. Operating errors at start are one line on stderr, not a stack. */
export async function runService<C extends CommonConfig>(program: ServiceProgram<C>): Promise<void> {
  // Each piece is a fresh buffer; freed on V8's other thread they pile up, look like a full heap, and cost a third of the throughput.
  setFlagsFromString('--no-concurrent-array-buffer-sweeping');
  try {
    process.exitCode = await run(program);
  } catch (error) {
    process.stderr.write(`shoal ${program.role}: ${isAppError(error) ? error.message : (toAppError(error).stack ?? String(error))}\n`);
    process.exitCode = 1;
    endSoon();
  }
}

/** Ends the process a second after its work is over, whatever may still keep it alive. */
function endSoon(): void {
  setTimeout(() => process.exit(), 1000).unref();
}

async function run<C extends CommonConfig>(program: ServiceProgram<C>): Promise<number> {
  const { values } = parseArgs({
    options: {
      config: { type: 'string' },
      'stop-on-stdin-end': { type: 'boolean' },
      'print-config': { type: 'boolean' },
      version: { type: 'boolean' },
      help: { type: 'boolean' },
    },
  });
  if (values.version === true) return print(version);
  if (values.help === true) return print(usage(program.role));
  if (values.config === undefined) {
    process.stderr.write(`${usage(program.role)}\n\nshoal ${program.role}: --config is missing\n`);
    return 2;
  }
  const config = loadConfig(program.schema, values.config);
  if (values['print-config'] === true) return print(stringify(config).trimEnd());
  const file = resolve(values.config);
  const reload = new ConfigReload(config, () => loadConfig(program.schema, file));
  return serve(program, config, reload, { stopOnStdinEnd: values['stop-on-stdin-end'] === true });
}

async function serve<C extends CommonConfig>(
  program: ServiceProgram<C>,
  config: C,
  reload: ConfigReload,
  { stopOnStdinEnd }: { readonly stopOnStdinEnd: boolean },
): Promise<number> {
  const node = await openNode(program.role, config, reload);
  reloadOnSighup(node);
  stopOnFault(node);
  if (stopOnStdinEnd) stopWithStdin(node);
  try {
    const openDoors = await program.compose(config, node);
    const address = await node.server.listen();
    node.lifecycle.onStop('grpc', async ({ graceMs }) => node.server.drain({ graceMs }));
    await openDoors?.();
    // Kept small while modules were loaded (young-generation.mjs); 2 is V8's own.
    setFlagsFromString('--semi-space-growth-factor=2');
    node.logger.info('ready', { grpc: `${address.host}:${address.port}`, version });
  } catch (error) {
    await node.lifecycle.stop();
    throw error;
  }
  const exitCode = await node.lifecycle.untilStopped();
  node.logger.info('stopped', { exitCode });
  endSoon();
  return exitCode;
}

/** SIGHUP reads the config file again; a faulty one changes nothing. */
function reloadOnSighup({ description, lifecycle, logger }: NodeContext): void {
  const onHangup = (): void => {
    try {
      description.reloadConfig();
    } catch (error) {
      logger.warn('config not reloaded', { error: toAppError(error).message });
    }
  };
  process.on('SIGHUP', onHangup);
  lifecycle.onStop('reload', async () => void process.off('SIGHUP', onHangup));
}

function stopWithStdin({ lifecycle, logger }: NodeContext): void {
  const onEnd = (): void => {
    if (lifecycle.signal.aborted) return;
    logger.info('stopping', { signal: 'end of stdin' });
    void lifecycle.stop();
  };
  process.stdin.once('end', onEnd).once('error', onEnd).resume();
  lifecycle.signal.addEventListener('abort', () => process.stdin.destroy(), { once: true });
}

function print(text: string): number {
  process.stdout.write(`${text}\n`);
  return 0;
}
