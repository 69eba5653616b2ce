/** Metrics and access log of the surface. Labels are route kinds, methods and status classes, never names or digests. */
import type { Clock, Logger, Meter } from '#core';
import type { TargetKind } from './router.ts';

const methods: ReadonlySet<string> = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']);

/** The facts of one request that is being served. */
export interface RequestEvents {
  received(byteCount: number): void;
  sent(byteCount: number): void;
  /** Called once, when the connection has let go of the exchange. */
  closed(outcome: { readonly status: number; readonly isAborted: boolean }): void;
}

export interface RegistryEvents {
  readonly inflight: number;
  started(request: { readonly route: TargetKind; readonly method: string; readonly repository: string | undefined }): RequestEvents;
}

/** Registers the instruments. */
export function registryEvents(deps: { readonly logger: Logger; readonly meter: Meter; readonly clock: Clock }): RegistryEvents {
  const { logger, meter, clock } = deps;
  const requests = meter.counter('shoal_registry_requests_total', 'Requests of registry clients.');
  const seconds = meter.histogram('shoal_registry_request_seconds', 'Time from the head of a request to the end of its reply.');
  const sentTotal = meter.counter('shoal_registry_sent_bytes_total', 'Bytes of reply bodies.');
  const receivedTotal = meter.counter('shoal_registry_received_bytes_total', 'Bytes of request bodies.');
  let inflight = 0;
  meter.gauge('shoal_registry_inflight_requests', 'Requests being served.', () => inflight);
  return {
    get inflight() {
      return inflight;
    },
    started: ({ route, method, repository }) => {
      const startedMs = clock.nowMs();
      let sentBytes = 0;
      let receivedBytes = 0;
      inflight += 1;
      return {
        received: (byteCount) => {
          receivedBytes += byteCount;
        },
        sent: (byteCount) => {
          sentBytes += byteCount;
        },
        closed: ({ status, isAborted }) => {
          inflight -= 1;
          const durationMs = clock.nowMs() - startedMs;
          const base = { route, method: methods.has(method) ? method : 'other' };
          const labels = { ...base, status: isAborted ? 'aborted' : `${Math.floor(status / 100)}xx` };
          requests.add(1, labels);
          seconds.record(durationMs / 1000, labels);
          sentTotal.add(sentBytes, base);
          receivedTotal.add(receivedBytes, base);
          logger.debug('request', { route, method, repository, status, isAborted, durationMs, sentBytes, receivedBytes });
        },
      };
    },
  };
}
