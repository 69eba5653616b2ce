/** A cluster on loopback for the tests of the wire: one CA, real certificates, real sockets, everything closed at the end of the test. */
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Clock, type NodeIdentity, nullMeter, type Role, silentLogger } from '#core';
import { type Authority, createAuthority, issueLeaf, parseTlsMaterial, StaticCertificateSource, type TlsMaterial } from '#pki';
import {
  ChannelPool,
  type ChannelPoolDeps,
  type ChannelPoolOptions,
  type Target,
  WireServer,
  type WireServerDeps,
  type WireServerOptions,
} from '#wire';

/** The machine's own time: sockets do not wait for a manual clock. */
export const realClock: Clock = {
  nowMs: () => Math.floor(performance.now()),
  wallMs: () => Date.now(),
  after: (delayMs, fn) => {
    const timer = setTimeout(fn, delayMs);
    timer.unref();
    return () => clearTimeout(timer);
  },
  sleep: async (delayMs, options = {}) => {
    await sleep(delayMs, undefined, options);
  },
};

export interface TestServer {
  readonly server: WireServer;
  readonly certificates: StaticCertificateSource;
  readonly port: number;
  /** The server as a client should expect it. */
  readonly target: Target;
}

export class Mesh {
  readonly authority: Authority;
  readonly #test: TestContext;

  private constructor(authority: Authority, test: TestContext) {
    this.authority = authority;
    this.#test = test;
  }

  static async open(test: TestContext, cluster = 'test'): Promise<Mesh> {
    return new Mesh(await createAuthority({ cluster }, { clock: realClock }), test);
  }

  async material(identity: NodeIdentity, caPem = this.authority.certPem): Promise<TlsMaterial> {
    const leaf = await issueLeaf(this.authority, { identity }, { clock: realClock });
    const material = parseTlsMaterial({ caPem: this.authority.certPem, certPem: leaf.certPem, keyPem: leaf.keyPem }, realClock.wallMs());
    return { ...material, caPem };
  }

  /** Starts a server whose services `add` gives it. */
  async serve(
    identity: NodeIdentity,
    add: (server: WireServer) => void,
    options: Partial<WireServerOptions> = {},
    material?: TlsMaterial,
    overrides: Partial<WireServerDeps> = {},
  ): Promise<TestServer> {
    const certificates = new StaticCertificateSource(material ?? (await this.material(identity)));
    const deps = { certificates, clock: realClock, logger: silentLogger, meter: nullMeter, ...overrides };
    const server = new WireServer({ host: '127.0.0.1', port: 0, ...options }, deps);
    add(server);
    const { port } = await server.listen();
    this.#test.after(async () => server[Symbol.asyncDispose]());
    return { server, certificates, port, target: { endpoint: `127.0.0.1:${port}`, ...identity } };
  }

  /** A client side with a certificate of `role`. */
  async pool(role: Role, overrides: Partial<ChannelPoolDeps> = {}, options: ChannelPoolOptions = {}): Promise<ChannelPool> {
    const certificates = new StaticCertificateSource(await this.material({ role, id: `${role}-client` }));
    const pool = new ChannelPool(options, { certificates, clock: realClock, logger: silentLogger, meter: nullMeter, ...overrides });
    this.#test.after(async () => pool[Symbol.asyncDispose]());
    return pool;
  }
}

/** A promise with its ends outside. */
export function deferred<T = void>(): { readonly promise: Promise<T>; resolve(value: T): void; reject(error: unknown): void } {
  let resolve: (value: T) => void = () => undefined;
  let reject: (error: unknown) => void = () => undefined;
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}

/** The part of NodeService that these tests do not call. */
export const noReload = { reloadConfig: async () => ({ changes: [], restartKeys: [] }) };
