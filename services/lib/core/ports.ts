/** What the pure layers and the libraries need from outside. Implementations live in runtime, telemetry and the tests. */

/** Time. `nowMs` is monotonic and only for differences; `wallMs` is Unix time. Timers go through the clock so that tests can drive them. */
export interface Clock {
  /** Monotonic, whole milliseconds. */
  nowMs(): number;
  /** Unix time, whole milliseconds. */
  wallMs(): number;
  /** Calls `fn` once after `delayMs`, unless the returned function is called first. Does not keep the process alive. */
  after(delayMs: number, fn: () => void): () => void;
  /** Resolves after `delayMs`; rejects with the signal's reason when aborted. */
  sleep(delayMs: number, options?: { readonly signal?: AbortSignal }): Promise<void>;
}

/** Randomness, seedable. */
export interface Rng {
  /** A whole number from 0 to `bound - 1`; `bound` is 1 to 2^31. */
  below(bound: number): number;
}

/** Fields of a log line: short values, never keys, tokens or blob bytes. */
export type LogFields = Readonly<Record<string, unknown>>;

/** Structured log. The message is a constant; what varies goes into fields. */
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  child(fields: LogFields): Logger;
}

/** Low-cardinality labels: never a digest, a peer or a tag. */
export type Labels = Readonly<Record<string, string>>;

export interface Counter {
  add(value: number, labels?: Labels): void;
}

export interface Histogram {
  record(value: number, labels?: Labels): void;
}

/** Metrics. Names are `shoal_<module>_<noun>_<unit>`, with seconds and bytes as units. */
export interface Meter {
  counter(name: string, description: string): Counter;
  histogram(name: string, description: string): Histogram;
  /** `read` is called at each collection. */
  gauge(name: string, description: string, read: () => number): void;
}

/** One timed operation of a trace. */
export interface Span {
  /** The W3C `traceparent` that names this span to a callee; undefined when nothing is recorded. */
  readonly traceparent: string | undefined;
  /** Runs `fn` so that spans and log lines made inside belong to this span. */
  run<T>(fn: () => T): T;
  /** Adds short facts. */
  annotate(attributes: Labels): void;
  /** Ends the span, once; with `error` when the operation failed. */
  end(error?: Error): void;
}

export interface SpanOptions {
  readonly kind: 'server' | 'client' | 'internal';
  /** The `traceparent` that came from the caller; without it the span that is current here, if any, is the parent. */
  readonly traceparent?: string | undefined;
  readonly attributes?: Labels;
}

/** Traces. Spans are for calls and transfers, never for single pieces. */
export interface Tracer {
  startSpan(name: string, options: SpanOptions): Span;
}

const nothing = (): void => undefined;

/** Drops everything. */
export const silentLogger: Logger = {
  debug: nothing,
  info: nothing,
  warn: nothing,
  error: nothing,
  child: () => silentLogger,
};

/** Counts nothing. */
export const nullMeter: Meter = {
  counter: () => ({ add: nothing }),
  histogram: () => ({ record: nothing }),
  gauge: nothing,
};

const nullSpan: Span = { traceparent: undefined, run: (fn) => fn(), annotate: nothing, end: nothing };

/** Traces nothing. */
export const nullTracer: Tracer = { startSpan: () => nullSpan };
