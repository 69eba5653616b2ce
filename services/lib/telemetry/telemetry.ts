/**
 * Starts metrics and traces of a process. Without an OTLP endpoint nothing of OpenTelemetry is even loaded (it would cost about
 * 100 ms of start-up and tens of megabytes) and the null ports are handed out.
 */
import { AppError, type Meter, nullMeter, nullTracer, type Tracer } from '#core';
import { OtelMeter } from './otel-meter.ts';
import { OtelTracer } from './otel-tracer.ts';

export interface TelemetryOptions {
  readonly serviceName: string;
  readonly nodeId: string;
  /** An OTLP/gRPC collector, `http://host:4317` or `https://...`; nothing is exported without it. */
  readonly otlpEndpoint?: string | undefined;
  /** 10 s by default, at least 1 s. */
  readonly metricIntervalMs?: number;
  /** Share of root spans that are recorded, 0 to 1; 0.1 by default. A remote parent's decision is followed. */
  readonly traceRatio?: number;
}

export interface Telemetry extends AsyncDisposable {
  readonly meter: Meter;
  readonly tracer: Tracer;
  /** Exports what is pending and stops; waits at most 5 s for the collector and never throws because of it. */
  shutdown(): Promise<void>;
}

const metricIntervalMsDefault = 10_000;
const metricIntervalMsMin = 1_000;
const traceRatioDefault = 0.1;
/** An export that takes longer is dropped: telemetry must never hold up a shutdown. */
const exportTimeoutMs = 5_000;

const off: Telemetry = {
  meter: nullMeter,
  tracer: nullTracer,
  shutdown: async () => undefined,
  [Symbol.asyncDispose]: async () => undefined,
};

/** Starts the exporters when an endpoint is configured. Throws `invalid-argument` for an endpoint or a number that makes no sense. */
export async function startTelemetry(options: TelemetryOptions): Promise<Telemetry> {
  const { otlpEndpoint } = options;
  if (otlpEndpoint === undefined) return off;
  const { metricIntervalMs, traceRatio } = checked(options, otlpEndpoint);
  const [api, { resourceFromAttributes }, metrics, traces, metricExport, traceExport] = await Promise.all([
    import('@opentelemetry/api'),
    import('@opentelemetry/resources'),
    import('@opentelemetry/sdk-metrics'),
    import('@opentelemetry/sdk-trace-node'),
    import('@opentelemetry/exporter-metrics-otlp-grpc'),
    import('@opentelemetry/exporter-trace-otlp-grpc'),
  ]);
  const resource = resourceFromAttributes({
    'service.namespace': 'shoal',
    'service.name': options.serviceName,
    'service.instance.id': options.nodeId,
  });
  const exporterOptions = { url: otlpEndpoint, timeoutMillis: exportTimeoutMs };
  const reader = new metrics.PeriodicExportingMetricReader({
    exporter: new metricExport.OTLPMetricExporter(exporterOptions),
    exportIntervalMillis: metricIntervalMs,
    exportTimeoutMillis: Math.min(exportTimeoutMs, metricIntervalMs),
  });
  const meterProvider = new metrics.MeterProvider({ resource, readers: [reader] });
  const tracerProvider = new traces.NodeTracerProvider({
    resource,
    sampler: new traces.ParentBasedSampler({ root: new traces.TraceIdRatioBasedSampler(traceRatio) }),
    spanProcessors: [
      new traces.BatchSpanProcessor(new traceExport.OTLPTraceExporter(exporterOptions), { exportTimeoutMillis: exportTimeoutMs }),
    ],
  });
  const shutdown = async (): Promise<void> => {
    await Promise.allSettled([meterProvider.shutdown({ timeoutMillis: exportTimeoutMs }), tracerProvider.shutdown()]);
  };
  return {
    meter: new OtelMeter(meterProvider.getMeter('shoal')),
    tracer: new OtelTracer({ api, tracer: tracerProvider.getTracer('shoal') }),
    shutdown,
    [Symbol.asyncDispose]: shutdown,
  };
}

function checked(options: TelemetryOptions, endpoint: string): { readonly metricIntervalMs: number; readonly traceRatio: number } {
  const { metricIntervalMs = metricIntervalMsDefault, traceRatio = traceRatioDefault } = options;
  if (!URL.canParse(endpoint) || !/^https?:$/.test(new URL(endpoint).protocol)) {
    throw new AppError('invalid-argument', 'not an OTLP endpoint: give http://host:4317 or https://host:4317', {
      data: { endpoint: endpoint.slice(0, 100) },
    });
  }
  if (!(metricIntervalMs >= metricIntervalMsMin)) {
    throw new AppError('invalid-argument', `metrics can be exported every ${metricIntervalMsMin} ms at most`, {
      data: { metricIntervalMs },
    });
  }
  if (!(traceRatio >= 0 && traceRatio <= 1))
    throw new AppError('invalid-argument', 'the trace ratio must be 0 to 1', { data: { traceRatio } });
  return { metricIntervalMs, traceRatio };
}
