/** One connection for each node this process talks to, shared by all calls and exchanges, closed when idle. */
import { randomInt } from 'node:crypto';
import { type ChannelOptions, Client as GrpcClient, type ServiceError } from '@grpc/grpc-js';
import { service as healthService } from 'grpc-health-check';
import {
  AppError,
  assert,
  type Clock,
  type Counter,
  type Digest,
  type Logger,
  type Meter,
  nullTracer,
  type Rng,
  SeededRng,
  type Tracer,
} from '#core';
import { PeerServiceService } from '#gen/shoal/peer/v1/peer_service';
import { type CertificateSource, roleDnsName } from '#pki';
import { CallMetrics, pieceBytesCounter } from './call-metrics.ts';
import { CallStream } from './call-stream.ts';
import { type CallerDeps, callStream, callUnary, observeCall } from './calls.ts';
import { RenewingChannelCredentials, RenewingClientContext } from './credentials.ts';
import { openExchange } from './exchange-client.ts';
import type { Lease } from './lease.ts';
import {
  channelCountMaxDefault,
  channelIdleMsDefault,
  exchangeOpenTimeoutMsDefault,
  flowControlWindowBytes,
  healthTimeoutMsDefault,
  keepaliveMs,
  keepaliveTimeoutMs,
  messageSizeBytesMax,
  reconnectBackoffMsMax,
  reconnectBackoffMsMin,
} from './limits.ts';
import { streamOfMethod } from './streamed-calls.ts';
import type { Client, ClientCallOptions, OutboundExchange, OutboundExchangeEvents, Target, WireMethod, WireService } from './types.ts';

export interface ChannelPoolOptions {
  /** Connections at a time, idle ones included: 1,024 by default. */
  readonly channelCountMax?: number;
  /** How long an unused connection is kept: 5 minutes by default. */
  readonly channelIdleMs?: number;
  /** How long a dialled exchange may take to be accepted or refused: 10 s by default. */
  readonly exchangeOpenTimeoutMs?: number;
}

export interface ChannelPoolDeps {
  readonly certificates: CertificateSource;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly meter: Meter;
  readonly tracer?: Tracer;
  /** Jitters retries; seeded by the system when absent. */
  readonly rng?: Rng;
}

interface Channel {
  readonly key: string;
  readonly client: GrpcClient;
  leaseCount: number;
  usedMs: number;
}

export class ChannelPool implements AsyncDisposable {
  readonly #options: ChannelPoolOptions;
  readonly #deps: ChannelPoolDeps;
  readonly #context: RenewingClientContext;
  readonly #callerDeps: Omit<CallerDeps, 'lease' | 'callStream'>;
  /** Streams that carry calls, those that rest included, by method and node. */
  readonly #callStreams = new Map<string, CallStream>();
  readonly #receivedBytes: Counter;
  /** Least recently used first. */
  readonly #channels = new Map<string, Channel>();
  readonly #methods = new Map<WireService, object>();
  #cancelSweep: (() => void) | undefined;
  #closed = false;

  constructor(options: ChannelPoolOptions, deps: ChannelPoolDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#context = new RenewingClientContext(deps.certificates);
    this.#receivedBytes = pieceBytesCounter('received', deps.meter);
    this.#callerDeps = {
      clock: deps.clock,
      rng: deps.rng ?? new SeededRng(randomInt(2 ** 32)),
      tracer: deps.tracer ?? nullTracer,
      metrics: new CallMetrics('client', deps),
    };
    deps.meter.gauge('shoal_wire_channels', 'Connections to other nodes, idle ones included.', () => this.#channels.size);
  }

  /** Connections held now, idle ones included. */
  get channelCount(): number {
    return this.#channels.size;
  }

  /** A typed client. It is cheap, holds nothing open, and connects with its first call. */
  client<S extends WireService>(service: S, target: Target): Client<S> {
    let methods = this.#methods.get(service);
    if (methods === undefined) {
      methods = clientMethods(service);
      this.#methods.set(service, methods);
    }
    const deps: CallerDeps = {
      ...this.#callerDeps,
      lease: () => this.#lease(target),
      callStream: (method) => this.#callStreamTo(target, method),
    };
    // Each function takes and gives what its method's serializers do.
    return Object.create(methods, { deps: { value: deps } }) as Client<S>;
  }

  /**
   * Opens an exchange for a blob. Never throws: what goes wrong is told through `events.closed`. `close()` is answered by one `closed(undefined)`
   * in a microtask.
   */
  dialExchange(target: Target, digest: Digest, events: OutboundExchangeEvents): OutboundExchange {
    let lease: Lease;
    try {
      lease = this.#lease(target);
    } catch (error) {
      return stillborn(events, error);
    }
    const observed = observeCall(PeerServiceService.exchange.path, this.#callerDeps);
    return openExchange(lease.client, digest, observed.metadata(), events, {
      clock: this.#deps.clock,
      receivedBytes: this.#receivedBytes,
      openTimeoutMs: this.#options.exchangeOpenTimeoutMs ?? exchangeOpenTimeoutMsDefault,
      ended: (code, error) => {
        lease.release();
        observed.end(code, error);
      },
    });
  }

  /** Asks grpc.health.v1 for the whole node. False when it says no, cannot be reached or does not answer within `timeoutMs` (2 s by default). Throws `resource-exhausted` like any call. */
  async health(target: Target, options: { readonly signal?: AbortSignal; readonly timeoutMs?: number } = {}): Promise<boolean> {
    const check = healthService['Check'];
    assert(check !== undefined, 'the health service has Check');
    const { signal, timeoutMs = healthTimeoutMsDefault } = options;
    if (signal?.aborted || this.#closed) return false;
    const lease = this.#lease(target);
    return new Promise((resolve) => {
      const onEnd = (error: ServiceError | null, response?: object): void => {
        signal?.removeEventListener('abort', onAbort);
        lease.release();
        resolve(error === null && response !== undefined && 'status' in response && response.status === 'SERVING');
      };
      const deadline = this.#deps.clock.wallMs() + timeoutMs;
      const call = lease.client.makeUnaryRequest(
        check.path,
        check.requestSerialize,
        check.responseDeserialize,
        { service: '' },
        { deadline },
        onEnd,
      );
      const onAbort = (): void => call.cancel();
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** Closes every connection; calls that are running fail as `unavailable`. */
  close(): void {
    this.#closed = true;
    this.#cancelSweep?.();
    for (const stream of this.#callStreams.values()) stream.close();
    for (const channel of [...this.#channels.values()]) this.#drop(channel);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  #lease(target: Target): Lease {
    if (this.#closed) throw new AppError('unavailable', 'this node is shutting down');
    const channel = this.#channelTo(target);
    channel.leaseCount += 1;
    let released = false;
    const release = (): void => {
      if (released) return;
      released = true;
      channel.leaseCount -= 1;
      channel.usedMs = this.#deps.clock.nowMs();
    };
    return { client: channel.client, release };
  }

  #callStreamTo(target: Target, { path }: WireMethod): CallStream | undefined {
    const method = streamOfMethod(path);
    if (method === undefined) return undefined;
    const key = `${path} ${keyOf(target)}`;
    const known = this.#callStreams.get(key);
    if (known !== undefined) return known;
    if (this.#callStreams.size >= (this.#options.channelCountMax ?? channelCountMaxDefault)) {
      for (const [other, { isOpen }] of this.#callStreams) if (!isOpen) this.#callStreams.delete(other);
    }
    const stream = new CallStream(method, { clock: this.#deps.clock, lease: () => this.#lease(target) });
    this.#callStreams.set(key, stream);
    return stream;
  }

  #channelTo(target: Target): Channel {
    const key = keyOf(target);
    const known = this.#channels.get(key);
    if (known !== undefined) {
      this.#channels.delete(key);
      this.#channels.set(key, known);
      known.usedMs = this.#deps.clock.nowMs();
      return known;
    }
    if (this.#channels.size >= (this.#options.channelCountMax ?? channelCountMaxDefault)) this.#makeRoom();
    const channel: Channel = { key, client: this.#connect(target), leaseCount: 0, usedMs: this.#deps.clock.nowMs() };
    this.#channels.set(key, channel);
    this.#scheduleSweep();
    return channel;
  }

  #connect({ endpoint, role, id }: Target): GrpcClient {
    const { cluster } = this.#deps.certificates.current();
    const credentials = new RenewingChannelCredentials(this.#context, { cluster, role, id });
    return new GrpcClient(`dns:${endpoint}`, credentials, channelOptions(roleDnsName(cluster, role)));
  }

  #makeRoom(): void {
    for (const channel of this.#channels.values()) {
      if (channel.leaseCount > 0) continue;
      this.#drop(channel);
      return;
    }
    throw new AppError('resource-exhausted', 'too many connections to other nodes are in use; wait for one to end', { retryAfterMs: 1000 });
  }

  #drop(channel: Channel): void {
    this.#channels.delete(channel.key);
    channel.client.close();
  }

  #scheduleSweep(): void {
    const idleMs = this.#options.channelIdleMs ?? channelIdleMsDefault;
    this.#cancelSweep ??= this.#deps.clock.after(Math.ceil(idleMs / 4), () => {
      this.#cancelSweep = undefined;
      const nowMs = this.#deps.clock.nowMs();
      for (const channel of [...this.#channels.values()]) {
        if (channel.leaseCount === 0 && nowMs - channel.usedMs >= idleMs) this.#drop(channel);
      }
      if (this.#channels.size > 0) this.#scheduleSweep();
    });
  }
}

/** The id belongs to the key: a connection that was checked against one node must not serve calls meant for another. */
function keyOf({ endpoint, role, id = '' }: Target): string {
  return `${endpoint} ${role} ${id}`;
}

/** The methods of every client of a service: each finds its `deps` in the client it is called on. */
function clientMethods(service: WireService): object {
  type Self = { readonly deps: CallerDeps };
  const methodOf = (method: WireMethod) =>
    method.requestStream || method.responseStream
      ? function (this: Self, input: unknown, options: ClientCallOptions = {}) {
          return callStream(method, input, options, this.deps);
        }
      : function (this: Self, request: unknown, options: ClientCallOptions = {}) {
          return callUnary(method, request, options, this.deps);
        };
  return Object.fromEntries(Object.entries(service).map(([key, method]) => [key, methodOf(method)]));
}

function channelOptions(serverName: string): ChannelOptions {
  return {
    'grpc.ssl_target_name_override': serverName,
    'grpc.default_authority': serverName,
    // A channel of this pool is one connection; another pool in the process must not share it.
    'grpc.use_local_subchannel_pool': 1,
    'grpc-node.flow_control_window': flowControlWindowBytes,
    'grpc.max_receive_message_length': messageSizeBytesMax,
    'grpc.max_send_message_length': messageSizeBytesMax,
    'grpc.keepalive_time_ms': keepaliveMs,
    'grpc.keepalive_timeout_ms': keepaliveTimeoutMs,
    'grpc.initial_reconnect_backoff_ms': reconnectBackoffMsMin,
    'grpc.max_reconnect_backoff_ms': reconnectBackoffMsMax,
    'grpc.service_config_disable_resolution': 1,
    'grpc.enable_http_proxy': 0,
    // Retries are in calls.ts, by the policy of the protos.
    'grpc.enable_retries': 0,
    'grpc.enable_channelz': 0,
  };
}

/** An exchange that could not begin. */
function stillborn(events: OutboundExchangeEvents, error: unknown): OutboundExchange {
  queueMicrotask(() => events.closed(error instanceof Error ? error : new AppError('internal', String(error))));
  const nothing = (): void => undefined;
  return { request: nothing, cancel: nothing, pause: nothing, resume: nothing, close: nothing };
}
