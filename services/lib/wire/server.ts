/** The gRPC server of a node: mutual TLS, one gate before every handler, health, reflection, exchanges and a graceful end. */
import { Server, type ServiceDefinition, type UntypedServiceImplementation } from '@grpc/grpc-js';
import { HealthImplementation } from 'grpc-health-check';
import { AppError, assert, type Clock, type Logger, type Meter, nullTracer, type Tracer } from '#core';
import { type FetchBlobRequest, type FetchBlobResponse, PeerServiceService } from '#gen/shoal/peer/v1/peer_service';
import type { CertificateSource } from '#pki';
import { serviceOf } from './access.ts';
import { CallGate } from './call-gate.ts';
import { pieceBytesCounter } from './call-metrics.ts';
import { RenewingServerCredentials } from './credentials.ts';
import { exchangeHandler } from './exchange-server.ts';
import type { HandlerDeps } from './handler-deps.ts';
import { grpcHandlers } from './handlers.ts';
import {
  concurrentStreamCountMaxDefault,
  drainGraceMsDefault,
  exchangeFlushTimeoutMs,
  exchangeOpenTimeoutMsDefault,
  keepaliveMs,
  keepaliveTimeoutMs,
  messageSizeBytesMax,
} from './limits.ts';
import { serializeOutgoing } from './outgoing-message.ts';
import { addReflection } from './reflection.ts';
import type { CallContext, Handlers, InboundExchange, WireMethod, WireService } from './types.ts';

export interface WireServerOptions {
  /** Address to listen on, e.g. `0.0.0.0`, `::` or `127.0.0.1`. */
  readonly host: string;
  /** 0 takes a free port. */
  readonly port: number;
  /** Streams of one connection at a time; 1,024 by default. */
  readonly maxConcurrentStreams?: number;
  /** How long a caller of Exchange may wait before its hello: 10 s by default. */
  readonly exchangeOpenTimeoutMs?: number;
}

export interface WireServerDeps {
  readonly certificates: CertificateSource;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly meter: Meter;
  readonly tracer?: Tracer;
}

/** What a node does for `PeerService`. */
export interface PeerHandlers {
  /** Called for each opened exchange once its hello is read; must call `listen` before it returns. */
  readonly exchange: (exchange: InboundExchange) => void;
  readonly fetchBlob: (request: FetchBlobRequest, context: CallContext) => Promise<FetchBlobResponse>;
}

/** What the node says through grpc.health.v1. */
export interface HealthReport {
  /** `name` is a full service name, or '' for the whole node. Every added service is healthy from `listen` on unless set otherwise before. */
  setHealthy(name: string, healthy: boolean): void;
}

/** How much of the grace is kept for connections to close once no call is running. */
const closeTimeoutMs = 500;

export class WireServer implements AsyncDisposable {
  readonly health: HealthReport;
  readonly #options: WireServerOptions;
  readonly #deps: WireServerDeps;
  readonly #gate: CallGate;
  readonly #handlerDeps: HandlerDeps;
  readonly #server: Server;
  readonly #health = new HealthImplementation({ '': 'NOT_SERVING' });
  readonly #healthy = new Map<string, boolean>([['', true]]);
  #state: 'new' | 'listening' | 'draining' | 'closed' = 'new';
  #address: string | undefined;
  #draining: Promise<void> | undefined;

  constructor(options: WireServerOptions, deps: WireServerDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#gate = new CallGate({ ...deps, tracer: deps.tracer ?? nullTracer });
    this.#handlerDeps = { gate: this.#gate, clock: deps.clock, logger: deps.logger };
    this.#server = new Server({
      interceptors: [this.#gate.interceptor],
      'grpc.max_concurrent_streams': options.maxConcurrentStreams ?? concurrentStreamCountMaxDefault,
      'grpc.max_receive_message_length': messageSizeBytesMax,
      'grpc.max_send_message_length': messageSizeBytesMax,
      'grpc.keepalive_time_ms': keepaliveMs,
      'grpc.keepalive_timeout_ms': keepaliveTimeoutMs,
      // Its bookkeeping runs for every frame of every exchange.
      'grpc.enable_channelz': 0,
    });
    this.#health.addToServer(this.#server);
    this.health = { setHealthy: (name, healthy) => this.#setHealthy(name, healthy) };
  }

  /** Serves a generated service under its full name. Before `listen` only. */
  addService<S extends WireService>(name: string, service: S, handlers: Handlers<S>): void {
    this.#add(name, service, grpcHandlers(service, handlers, this.#handlerDeps));
  }

  /** Serves `PeerService`, whose exchanges carry raw frames. Before `listen` only. */
  addPeerService(handlers: PeerHandlers): void {
    const raw = { requestDeserialize: (bytes: Buffer): Buffer => bytes, responseSerialize: serializeOutgoing };
    const { exchange, ...calls } = PeerServiceService;
    const service = { exchange: { ...exchange, ...raw }, ...calls };
    this.#add('shoal.peer.v1.PeerService', service, {
      exchange: exchangeHandler(handlers.exchange, {
        ...this.#handlerDeps,
        sentBytes: pieceBytesCounter('sent', this.#deps.meter),
        openTimeoutMs: this.#options.exchangeOpenTimeoutMs ?? exchangeOpenTimeoutMsDefault,
        flushTimeoutMs: exchangeFlushTimeoutMs,
      }),
      ...grpcHandlers(calls, { fetchBlob: handlers.fetchBlob }, this.#handlerDeps),
    });
  }

  /** Starts to serve. Throws `unavailable` when the port cannot be bound. */
  async listen(): Promise<{ readonly host: string; readonly port: number }> {
    assert(this.#state === 'new', 'a server listens once');
    const services = [...this.#healthy.keys()].filter((name) => name !== '');
    addReflection(this.#server, services);
    const { host } = this.#options;
    const credentials = new RenewingServerCredentials(this.#deps.certificates);
    const address = `${host.includes(':') ? `[${host}]` : host}:${this.#options.port}`;
    const port = await new Promise<number>((resolve, reject) => {
      this.#server.bindAsync(address, credentials, (error, bound) => {
        if (error === null) resolve(bound);
        else reject(new AppError('unavailable', `cannot listen on ${address}: free the port or configure another`, { cause: error }));
      });
    });
    this.#address = `${address.slice(0, address.lastIndexOf(':'))}:${port}`;
    this.#state = 'listening';
    for (const name of this.#healthy.keys()) this.#publish(name);
    this.#deps.logger.info('gRPC server listening', { host, port });
    return { host, port };
  }

  /**
   * Ends the server: health says NOT_SERVING, new calls are refused as `unavailable`, streams are told by their signal and exchanges
   * end after the pieces under way, unary calls finish; what still runs after `graceMs` (10 s by default) is cut off. Safe to call twice.
   */
  drain(options: { readonly graceMs?: number } = {}): Promise<void> {
    this.#draining ??= this.#drain(options.graceMs ?? drainGraceMsDefault);
    return this.#draining;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.drain({ graceMs: 0 });
  }

  async #drain(graceMs: number): Promise<void> {
    this.#state = 'draining';
    for (const name of this.#healthy.keys()) this.#publish(name);
    this.#gate.drain();
    await this.#within(graceMs, this.#gate.idle());
    // Without channelz forceShutdown forgets the connections; drain does not, but only before tryShutdown has closed them.
    if (this.#address !== undefined) this.#server.drain(this.#address, Math.min(graceMs, closeTimeoutMs));
    await new Promise<void>((resolve) => this.#server.tryShutdown(() => resolve()));
    this.#state = 'closed';
  }

  /** Waits for `work`, at most `timeoutMs`. */
  async #within(timeoutMs: number, work: Promise<void>): Promise<void> {
    if (timeoutMs <= 0) return;
    let cancel = (): void => undefined;
    const timeout = new Promise<void>((resolve) => {
      cancel = this.#deps.clock.after(timeoutMs, resolve);
    });
    await Promise.race([work, timeout]);
    cancel();
  }

  #add(name: string, service: Readonly<Record<string, WireMethod>>, implementation: UntypedServiceImplementation): void {
    assert(this.#state === 'new', 'services are added before the server listens');
    assert(
      Object.values(service).every(({ path }) => serviceOf(path) === name),
      'the name is the one in the paths of the service',
    );
    const definition: ServiceDefinition = Object.fromEntries(
      Object.entries(service).map(([key, method]) => [key, { ...method, originalName: key }]),
    );
    this.#server.addService(definition, implementation);
    if (!this.#healthy.has(name)) this.#setHealthy(name, true);
  }

  #setHealthy(name: string, healthy: boolean): void {
    this.#healthy.set(name, healthy);
    this.#publish(name);
  }

  #publish(name: string): void {
    const serving = this.#state === 'listening' && this.#healthy.get(name) === true;
    this.#health.setStatus(name, serving ? 'SERVING' : 'NOT_SERVING');
  }
}
