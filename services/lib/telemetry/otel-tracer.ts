/**
 * The Tracer port on an OpenTelemetry tracer. The current span lives in a store of this object, not in OpenTelemetry's global context, so
 * two nodes in one process keep their traces apart and nothing is registered globally.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type * as OtelApi from '@opentelemetry/api';
import { type Labels, type Span, type SpanOptions, type Tracer, toAppError } from '#core';

export interface OtelTracerDeps {
  /** The module itself: it is loaded only where traces are wanted. */
  readonly api: typeof OtelApi;
  readonly tracer: OtelApi.Tracer;
}

/** Version 00 of the W3C header; a peer speaks the same version as we do. */
const traceparentPattern = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;

export class OtelTracer implements Tracer {
  readonly #deps: OtelTracerDeps;
  readonly #current = new AsyncLocalStorage<OtelApi.Context>();

  constructor(deps: OtelTracerDeps) {
    this.#deps = deps;
  }

  /** A malformed `traceparent` is ignored, as W3C asks. */
  startSpan(name: string, options: SpanOptions): Span {
    const { api, tracer } = this.#deps;
    const { kind, attributes = {}, traceparent } = options;
    const outer = this.#remote(traceparent) ?? this.#current.getStore() ?? api.ROOT_CONTEXT;
    const span = tracer.startSpan(name, { kind: this.#kindOf(kind), attributes: { ...attributes } }, outer);
    const context = api.trace.setSpan(outer, span);
    return {
      traceparent: traceparentOf(span.spanContext()),
      run: <T>(fn: () => T): T => this.#current.run(context, fn),
      annotate: (more: Labels) => void span.setAttributes({ ...more }),
      end: (error?: Error) => {
        if (error !== undefined) this.#fail(span, error);
        span.end();
      },
    };
  }

  #fail(span: OtelApi.Span, error: Error): void {
    const { code, message } = toAppError(error);
    span.setAttribute('error.type', code);
    // A caller that went away is no failure of ours.
    if (code !== 'cancelled') span.setStatus({ code: this.#deps.api.SpanStatusCode.ERROR, message });
  }

  #kindOf(kind: SpanOptions['kind']): OtelApi.SpanKind {
    const { SpanKind } = this.#deps.api;
    return { internal: SpanKind.INTERNAL, server: SpanKind.SERVER, client: SpanKind.CLIENT }[kind];
  }

  #remote(traceparent = ''): OtelApi.Context | undefined {
    const { api } = this.#deps;
    const [, traceId = '', spanId = '', flags = ''] = traceparentPattern.exec(traceparent) ?? [];
    const span = { traceId, spanId, traceFlags: Number.parseInt(flags, 16) & api.TraceFlags.SAMPLED, isRemote: true };
    return api.isSpanContextValid(span) ? api.trace.setSpanContext(api.ROOT_CONTEXT, span) : undefined;
  }
}

/** An unsampled span is named too, so that a callee follows the decision not to record. */
function traceparentOf(span: OtelApi.SpanContext): string {
  return `00-${span.traceId}-${span.spanId}-${span.traceFlags.toString(16).padStart(2, '0')}`;
}
