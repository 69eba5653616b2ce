/** Debian's docker-registry as a process for tests: started, ended and started again at one address, with its access log. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { end, until } from './processes.ts';

/** What `loginUser` may log in with where a registry is locked. */
export const login = { username: 'alice', password: 'open-sesame' };
const passwordHash = '$2y$05$abcdefghijklmnopqrstuutXu9KzOt.1yBoZUeFWoT/914/JfszCO';

export interface PlainRegistryOptions {
  readonly root: string;
  /** Whose images it serves; its own by default. */
  readonly data?: string;
  /** Ask for {@link login}. */
  readonly locked?: boolean;
}

export class PlainRegistry implements AsyncDisposable {
  readonly address = `127.0.0.1:${randomInt(33_000, 60_000)}`;
  readonly #options: PlainRegistryOptions;
  #process: ChildProcess | undefined;

  constructor(options: PlainRegistryOptions) {
    this.#options = options;
    mkdirSync(options.root, { recursive: true });
  }

  get data(): string {
    return this.#options.data ?? join(this.#options.root, 'data');
  }

  /** Throws when the address is taken or the program is missing. */
  async start(): Promise<this> {
    const { root, locked = false } = this.#options;
    writeFileSync(join(root, 'htpasswd'), `${login.username}:${passwordHash}\n`);
    const auth = locked ? { auth: { htpasswd: { realm: 'locked', path: join(root, 'htpasswd') } } } : {};
    const storage = { filesystem: { rootdirectory: this.data }, delete: { enabled: true } };
    const config = { version: 0.1, log: { level: 'error' }, storage, http: { addr: this.address }, ...auth };
    writeFileSync(join(root, 'config.yml'), JSON.stringify(config));
    const log = openSync(join(root, 'access.log'), 'a');
    this.#process = spawn('docker-registry', ['serve', join(root, 'config.yml')], { stdio: ['ignore', log, log] });
    closeSync(log);
    await until('docker-registry answers', async () =>
      [200, 401].includes((await fetch(`http://${this.address}/v2/`)).status) ? true : undefined,
    );
    return this;
  }

  async stop(): Promise<void> {
    if (this.#process !== undefined) await end(this.#process);
  }

  /** How many requests in the access log have all of `parts`. */
  count(...parts: readonly string[]): number {
    const lines = readFileSync(join(this.#options.root, 'access.log'), 'utf8').split('\n');
    return lines.filter((line) => parts.every((part) => line.includes(part))).length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
