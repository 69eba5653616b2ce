import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as api from '@opentelemetry/api';
import { AggregationTemporality, InMemoryMetricExporter, MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node';
import { AppError, nullMeter, nullTracer } from '#core';
import { OtelMeter, OtelTracer, startTelemetry } from '#telemetry';

function tracing(): { tracer: OtelTracer; exporter: InMemorySpanExporter } {
  const exporter = new InMemorySpanExporter();
  const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  return { exporter, tracer: new OtelTracer({ api, tracer: provider.getTracer('test') }) };
}

test('a span started inside another, also after an await, is its child', async () => {
  const { tracer, exporter } = tracing();
  const outer = tracer.startSpan('outer', { kind: 'server', attributes: { repository: 'a/b' } });
  await outer.run(async () => {
    await Promise.resolve();
    tracer.startSpan('inner', { kind: 'internal' }).end();
  });
  outer.end();
  const [inner, parent] = exporter.getFinishedSpans();
  assert.equal(inner?.parentSpanContext?.spanId, parent?.spanContext().spanId);
  assert.equal(inner?.spanContext().traceId, parent?.spanContext().traceId);
  assert.deepEqual([parent?.kind, parent?.attributes], [api.SpanKind.SERVER, { repository: 'a/b' }]);
});

test('a trace goes on in another process through its traceparent', () => {
  const here = tracing();
  const there = tracing();
  const call = here.tracer.startSpan('call', { kind: 'client' });
  there.tracer.startSpan('serve', { kind: 'server', traceparent: call.traceparent }).end();
  call.end();
  const [client] = here.exporter.getFinishedSpans();
  const [server] = there.exporter.getFinishedSpans();
  assert.equal(call.traceparent, `00-${client?.spanContext().traceId}-${client?.spanContext().spanId}-01`);
  assert.equal(server?.spanContext().traceId, client?.spanContext().traceId);
  assert.equal(server?.parentSpanContext?.spanId, client?.spanContext().spanId);
});

test('a malformed traceparent begins a new trace', () => {
  const { tracer, exporter } = tracing();
  for (const traceparent of [
    '',
    'x',
    `00-${'0'.repeat(32)}-${'1'.repeat(16)}-01`,
    `00-${'A'.repeat(32)}-${'1'.repeat(16)}-01`,
    `ff-${'1'.repeat(32)}`,
  ]) {
    tracer.startSpan('x', { kind: 'server', traceparent }).end();
  }
  assert.ok(exporter.getFinishedSpans().every((span) => span.parentSpanContext === undefined));
});

test('what the caller decided not to record is not recorded, and the decision travels on', () => {
  const { tracer, exporter } = tracing();
  const span = tracer.startSpan('x', { kind: 'server', traceparent: `00-${'1'.repeat(32)}-${'1'.repeat(16)}-00` });
  span.end();
  assert.match(span.traceparent ?? '', /^00-1{32}-[0-9a-f]{16}-00$/);
  assert.equal(exporter.getFinishedSpans().length, 0);
});

test('a failure marks its span, a caller that went away does not', () => {
  const { tracer, exporter } = tracing();
  tracer.startSpan('failed', { kind: 'server' }).end(new AppError('unavailable', 'down'));
  tracer.startSpan('left', { kind: 'server' }).end(new AppError('cancelled', 'gone'));
  const [failed, left] = exporter.getFinishedSpans();
  assert.deepEqual([failed?.status.code, failed?.attributes['error.type']], [api.SpanStatusCode.ERROR, 'unavailable']);
  assert.deepEqual([left?.status.code, left?.attributes['error.type']], [api.SpanStatusCode.UNSET, 'cancelled']);
});

test('counters, histograms and gauges arrive with unit and buckets of their name', async () => {
  const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
  const provider = new MeterProvider({ readers: [new PeriodicExportingMetricReader({ exporter })] });
  const meter = new OtelMeter(provider.getMeter('test'));
  meter.counter('shoal_peer_sent_bytes', 'x').add(5, { role: 'agent' });
  meter.histogram('shoal_wire_call_seconds', 'x').record(0.003);
  meter.gauge('shoal_pki_certificate_expiry_seconds', 'x', () => 42);
  await provider.forceFlush();
  const metrics = exporter.getMetrics().flatMap((item) => item.scopeMetrics.flatMap((scope) => scope.metrics));
  const byName = new Map(metrics.map((metric) => [metric.descriptor.name, metric]));
  assert.equal(byName.get('shoal_peer_sent_bytes')?.descriptor.unit, 'By');
  assert.deepEqual(byName.get('shoal_peer_sent_bytes')?.dataPoints[0]?.attributes, { role: 'agent' });
  assert.equal(byName.get('shoal_pki_certificate_expiry_seconds')?.dataPoints[0]?.value, 42);
  assert.match(JSON.stringify(byName.get('shoal_wire_call_seconds')?.dataPoints[0]?.value), /"boundaries":\[0\.001,0\.0025,0\.005/);
  await provider.shutdown();
});

test('without an endpoint the null ports are handed out', async () => {
  const telemetry = await startTelemetry({ serviceName: 'shoal-agent', nodeId: 'a1' });
  assert.deepEqual([telemetry.meter, telemetry.tracer], [nullMeter, nullTracer]);
  await telemetry.shutdown();
});

test('an endpoint that is no URL is refused', async () => {
  await assert.rejects(startTelemetry({ serviceName: 'x', nodeId: 'y', otlpEndpoint: 'collector:4317' }), /http:\/\/host:4317/);
});

test('a collector that is not there neither fails nor holds up a shutdown', async () => {
  const telemetry = await startTelemetry({ serviceName: 'x', nodeId: 'y', otlpEndpoint: 'http://127.0.0.1:1', traceRatio: 1 });
  telemetry.meter.counter('shoal_x_y_total', 'x').add(1);
  telemetry.tracer.startSpan('x', { kind: 'internal' }).end();
  await telemetry.shutdown();
});
