/** A development cluster of real processes for tests, on free ports. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { end, type Output, run, until } from './processes.ts';

const program = 'dist/shoal.mjs';
const attemptsMax = 10;

interface ReadyNode {
  readonly role: string;
  readonly id: string;
  readonly grpc: string;
  readonly registry?: string;
  readonly pid: number;
  readonly logFile: string;
}

export interface ClusterOptions {
  readonly directory: string;
  readonly agents?: number;
  readonly origins?: number;
  readonly proxies?: number;
  /** Further arguments of `shoal devcluster`. */
  readonly args?: readonly string[];
}

export interface RestartedNode extends AsyncDisposable {
  readonly child: ChildProcess;
}

export class TestCluster implements AsyncDisposable {
  readonly directory: string;
  readonly nodes: readonly ReadyNode[];
  readonly #process: ChildProcess;

  constructor(directory: string, nodes: readonly ReadyNode[], child: ChildProcess) {
    this.directory = directory;
    this.nodes = nodes;
    this.#process = child;
  }

  node(id: string): ReadyNode {
    const found = this.nodes.find((node) => node.id === id);
    if (found === undefined) throw new Error(`no node ${id}`);
    return found;
  }

  /** `host:port` of a node's registry. */
  registry(id: string): string {
    return this.node(id).registry ?? '';
  }

  /** Ends one node. */
  kill(id: string, signal: NodeJS.Signals = 'SIGKILL'): void {
    process.kill(this.node(id).pid, signal);
  }

  /** Starts an ended node again with the same config, as an init system would, and waits until it answers. Whoever asked for it ends it. */
  async restart(id: string): Promise<RestartedNode> {
    const { role } = this.node(id);
    const config = join(this.directory, 'config', `${id}.yaml`);
    const child = spawn(process.execPath, [`dist/${role}.mjs`, '--config', config], { stdio: 'ignore' });
    await until(`${id} answers again`, async () => {
      if (child.exitCode !== null) throw new Error(`${id} ended with ${child.exitCode}`);
      const { stdout } = await this.shoal('status', '--json');
      const nodes = JSON.parse(stdout) as readonly { readonly node: { readonly id: string }; readonly answer?: object }[];
      return nodes.some(({ node, answer }) => node.id === id && answer !== undefined) ? true : undefined;
    });
    return { child, [Symbol.asyncDispose]: async () => end(child) };
  }

  log(id: string): string {
    return readFileSync(this.node(id).logFile, 'utf8');
  }

  /** Runs the `shoal` command against this cluster. */
  async shoal(...args: readonly string[]): Promise<Output> {
    return run(process.execPath, [program, ...args, '--cluster', join(this.directory, 'cluster.yaml')]);
  }

  /** Sends a signal to `shoal devcluster` itself, once. */
  signalCommand(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }

  /** Stops every node; resolves with the exit code of `shoal devcluster`. */
  async stop(): Promise<number | null> {
    await end(this.#process, 'SIGINT');
    return this.#process.exitCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** Starts a cluster below `directory` and waits until every node is healthy. Needs `make build`. */
export async function startCluster(options: ClusterOptions): Promise<TestCluster> {
  if (!existsSync(program)) throw new Error(`${program} is missing: run make build first`);
  for (let attempt = 1; ; attempt += 1) {
    const outcome = await tryStart(options, randomInt(10_000, 32_000));
    if (outcome instanceof TestCluster) return outcome;
    if (attempt === attemptsMax || !outcome.includes('is in use')) throw new Error(`the cluster did not start:\n${outcome}`);
  }
}

async function tryStart(
  { directory, agents = 2, origins = 3, proxies = 1, args = [] }: ClusterOptions,
  port: number,
): Promise<TestCluster | string> {
  const ports = ['--proxy-port', port, '--origin-port', port + 10, '--agent-port', port + 50, '--agent-port-step', 2].map(String);
  const sizes = ['--agents', String(agents), '--origins', String(origins), '--proxies', String(proxies)];
  const child = spawn(process.execPath, [program, 'devcluster', '--json', '--dir', directory, ...ports, ...sizes, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const ready = await Promise.race([readyDocument(child), once(child, 'exit').then(() => undefined)]);
  return ready === undefined ? stderr : new TestCluster(directory, ready.nodes, child);
}

/** The JSON document that the command prints when every node is healthy. */
function readyDocument(child: ChildProcess): Promise<{ readonly nodes: readonly ReadyNode[] }> {
  return new Promise((resolve) => {
    let text = '';
    child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      if (text.endsWith('}\n') && text.split('\n').at(-2) === '}') resolve(JSON.parse(text));
    });
  });
}
