/**
 * The one gate in front of every handler, health and reflection included: a server interceptor that finds out who calls, refuses who may
 * not, refuses everybody while the server drains, and counts and traces the rest.
 */
import {
  type Metadata,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServerInterceptor,
  status as Status,
} from '@grpc/grpc-js';
import { AppError, type Clock, type Logger, type Meter, type NodeIdentity, peerIdOf, type Span, type Tracer, toAppError } from '#core';
import type { CertificateSource } from '#pki';
import { authorize, isOpenPath } from './access.ts';
import { CallMetrics } from './call-metrics.ts';
import { errorFromStatus, statusFromError } from './status.ts';

/** A call that was let in. */
export interface AdmittedCall {
  readonly path: string;
  readonly caller: NodeIdentity;
  readonly callerAddress: string;
  readonly span: Span;
}

export interface CallGateDeps {
  readonly certificates: CertificateSource;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly meter: Meter;
  readonly tracer: Tracer;
}

export class CallGate {
  readonly #deps: CallGateDeps;
  readonly #metrics: CallMetrics;
  readonly #admitted = new WeakMap<Metadata, AdmittedCall>();
  readonly #draining = new AbortController();
  readonly #idleWaiters = new Set<() => void>();
  #activeCount = 0;

  constructor(deps: CallGateDeps) {
    this.#deps = deps;
    this.#metrics = new CallMetrics('server', deps);
    deps.meter.gauge('shoal_wire_server_active_calls', 'Calls being served.', () => this.#activeCount);
  }

  /** Aborted, with an `unavailable` error as its reason, when the server begins to drain. */
  get draining(): AbortSignal {
    return this.#draining.signal;
  }

  /** From now on every new call but health and reflection is refused as `unavailable`. */
  drain(): void {
    this.#draining.abort(new AppError('unavailable', 'the server is shutting down; call another'));
  }

  /** Resolves when no call but health and reflection is running. */
  async idle(): Promise<void> {
    if (this.#activeCount === 0) return;
    await new Promise<void>((resolve) => {
      this.#idleWaiters.add(resolve);
    });
  }

  /** What the gate knows of a call, by the metadata object its handler was given. */
  admitted(metadata: Metadata): AdmittedCall {
    const call = this.#admitted.get(metadata);
    if (call === undefined) throw new AppError('internal', 'a call came past the gate');
    return call;
  }

  /** Counts and traces a call that came on a stream with others, under the path of its own method; `end` is told what it failed with. */
  observe(path: string, caller: NodeIdentity, traceparent: string | undefined): { readonly span: Span; end(error: unknown): void } {
    const count = this.#metrics.start(path);
    const span = this.#startSpan(path, caller, traceparent);
    const end = (error: unknown): void => {
      count(error === undefined ? Status.OK : statusFromError(error).code);
      span.end(error === undefined ? undefined : toAppError(error));
    };
    return { span, end };
  }

  readonly interceptor: ServerInterceptor = ({ path }, call) => {
    const count = this.#metrics.start(path);
    let span: Span | undefined;
    const ended = (code: number, details: string): void => {
      count(code);
      span?.end(code === Status.OK ? undefined : errorFromStatus({ code, details }));
      span = undefined;
    };
    return new ServerInterceptingCall(call, {
      start: (next) => {
        const caller = this.#admit(path, call, ended);
        if (caller === undefined) return;
        const release = this.#hold(path);
        next({
          onReceiveMetadata: (metadata, nextMetadata) => {
            const [traceparent] = metadata.get('traceparent');
            span = this.#startSpan(path, caller, typeof traceparent === 'string' ? traceparent : undefined);
            this.#admitted.set(metadata, { path, caller, callerAddress: call.getPeer(), span });
            nextMetadata(metadata);
          },
          // Comes once for every call, also after it ended in order.
          onCancel: () => {
            ended(
              Number(call.getDeadline()) <= this.#deps.clock.wallMs() ? Status.DEADLINE_EXCEEDED : Status.CANCELLED,
              'the caller went away',
            );
            release();
          },
        });
      },
      sendStatus: (status, next) => {
        ended(status.code ?? Status.UNKNOWN, status.details ?? '');
        next(status);
      },
    });
  };

  /** The caller, or undefined when the call was refused and is over. */
  #admit(path: string, call: ServerInterceptingCallInterface, ended: (code: number, details: string) => void): NodeIdentity | undefined {
    try {
      const { cluster } = this.#deps.certificates.current();
      const caller = authorize(path, call.getAuthContext().sslPeerCertificate, cluster);
      if (this.#draining.signal.aborted && !isOpenPath(path)) throw this.#draining.signal.reason;
      return caller;
    } catch (error) {
      const status = statusFromError(error);
      ended(status.code, status.details);
      this.#deps.logger.debug('call refused', { path, from: call.getPeer(), code: status.code, reason: status.details });
      call.sendStatus(status);
      return undefined;
    }
  }

  /** Counts a call as running until the returned function is called. */
  #hold(path: string): () => void {
    if (isOpenPath(path)) return () => undefined;
    this.#activeCount += 1;
    return () => {
      this.#activeCount -= 1;
      if (this.#activeCount > 0) return;
      for (const resolve of this.#idleWaiters) resolve();
      this.#idleWaiters.clear();
    };
  }

  #startSpan(path: string, caller: NodeIdentity, traceparent: string | undefined): Span {
    return this.#deps.tracer.startSpan(path.slice(1), {
      kind: 'server',
      traceparent,
      attributes: { 'rpc.system': 'grpc', 'shoal.caller': peerIdOf(caller) },
    });
  }
}
