/** A Docker engine of its own for tests: real dockerd, private folders, no network beyond loopback. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { closeSync, mkdirSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { end, type Output, run, runOk, until } from './processes.ts';

export class DockerEngine implements AsyncDisposable {
  readonly socket: string;
  readonly #root: string;
  readonly #process: ChildProcess;

  private constructor(root: string, socket: string, child: ChildProcess) {
    this.#root = root;
    this.socket = socket;
    this.#process = child;
  }

  /** Starts an engine with everything below `root`, and further arguments of dockerd. Needs root and Debian's docker.io. */
  static async start(root: string, ...args: readonly string[]): Promise<DockerEngine> {
    mkdirSync(root, { recursive: true });
    const socket = join(root, 'docker.sock');
    const log = openSync(join(root, 'dockerd.log'), 'a');
    const child = spawn(
      'dockerd',
      [
        '--data-root',
        join(root, 'data'),
        '--exec-root',
        join(root, 'exec'),
        '-H',
        `unix://${socket}`,
        '-p',
        join(root, 'docker.pid'),
      ].concat('--iptables=false', '--bridge=none', args),
      { stdio: ['ignore', log, log] },
    );
    closeSync(log);
    const missing = new Promise<never>((_, reject) =>
      child.once('error', (error) => reject(new Error(`cannot run dockerd: ${error.message}`))),
    );
    const engine = new DockerEngine(root, socket, child);
    const answers = async (): Promise<true | undefined> => ((await engine.docker('version')).code === 0 ? true : undefined);
    await Promise.race([until('dockerd answers', answers), missing]);
    return engine;
  }

  /** Logs in; the password is kept in the engine's own folder. */
  async login(registry: string, user: string, password: string): Promise<Output> {
    const args = ['-H', `unix://${this.socket}`, 'login', '-u', user, '--password-stdin', registry];
    return run('docker', args, { env: this.#env, input: password });
  }

  /** Logins are kept apart from those of whoever runs the test. */
  get #env(): NodeJS.ProcessEnv {
    return { DOCKER_BUILDKIT: '0', DOCKER_CONFIG: join(this.#root, 'client') };
  }

  async docker(...args: readonly string[]): Promise<Output> {
    return run('docker', ['-H', `unix://${this.socket}`, ...args], { env: this.#env, timeoutMs: 300_000 });
  }

  async dockerOk(...args: readonly string[]): Promise<string> {
    return runOk('docker', ['-H', `unix://${this.socket}`, ...args], { env: this.#env, timeoutMs: 300_000 });
  }

  /** Starts a docker command without waiting for it. */
  start(...args: readonly string[]): ChildProcess {
    return spawn('docker', ['-H', `unix://${this.socket}`, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  }

  /** Builds an image of random, incompressible layers of the given sizes. */
  async buildImage(name: string, layerSizesBytes: readonly number[]): Promise<string> {
    const context = join(this.#root, `context-${name.replaceAll(/[^a-z0-9]/g, '-')}`);
    mkdirSync(context, { recursive: true });
    layerSizesBytes.forEach((sizeBytes, index) => {
      writeFileSync(join(context, `layer-${index}`), randomFillSync(Buffer.allocUnsafe(sizeBytes)));
    });
    writeFileSync(
      join(context, 'Dockerfile'),
      ['FROM scratch', ...layerSizesBytes.map((_, index) => `COPY layer-${index} /`), 'CMD ["/none"]'].join('\n'),
    );
    await this.dockerOk('build', '-q', '-t', name, context);
    return this.imageId(name);
  }

  async imageId(name: string): Promise<string> {
    return this.dockerOk('image', 'inspect', '--format', '{{.Id}}', name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await end(this.#process);
  }
}
