/** A containerd of its own for tests: real daemon, private folders; images stay packed unless the native snapshotter is asked for. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { end, run, runOk, until } from './processes.ts';

export class Containerd implements AsyncDisposable {
  readonly #address: string;
  readonly #process: ChildProcess;

  private constructor(address: string, child: ChildProcess) {
    this.#address = address;
    this.#process = child;
  }

  /** Starts a daemon with everything below `home`. Needs root and Debian's containerd. */
  static async start(home: string): Promise<Containerd> {
    mkdirSync(home, { recursive: true });
    const address = join(home, 'containerd.sock');
    const config = join(home, 'config.toml');
    const folders = `root = "${home}/root"\nstate = "${home}/state"\n[grpc]\n  address = "${address}"\n`;
    writeFileSync(config, `version = 2\n${folders}[plugins."io.containerd.internal.v1.opt"]\n  path = "${home}/opt"\n`);
    const log = openSync(join(home, 'log'), 'a');
    const child = spawn('containerd', ['--config', config], { stdio: ['ignore', log, log] });
    closeSync(log);
    const missing = new Promise<never>((_, reject) =>
      child.once('error', (error) => reject(new Error(`cannot run containerd: ${error.message}`))),
    );
    const answers = async (): Promise<true | undefined> =>
      (await run('ctr', ['--address', address, 'version'])).code === 0 ? true : undefined;
    await Promise.race([until('containerd answers', answers), missing]);
    return new Containerd(address, child);
  }

  /** Runs `ctr` against it. */
  async ctr(...args: readonly string[]): Promise<string> {
    return runOk('ctr', ['--address', this.#address, ...args]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await end(this.#process);
  }
}
