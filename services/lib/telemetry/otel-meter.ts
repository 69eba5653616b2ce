/** The Meter port on an OpenTelemetry meter. */
import type { Meter as OtelApiMeter } from '@opentelemetry/api';
import type { Counter, Histogram, Labels, Meter } from '#core';

/** From a loopback RPC to the pull of a large image, in seconds: OpenTelemetry's own bounds are meant for milliseconds. */
const secondBounds: readonly number[] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];
/** From a manifest to the largest layers, in powers of four from 1 KiB to 16 GiB. */
const byteBounds: readonly number[] = Array.from({ length: 13 }, (_item, exponent) => 1024 * 4 ** exponent);

export class OtelMeter implements Meter {
  readonly #meter: OtelApiMeter;

  constructor(meter: OtelApiMeter) {
    this.#meter = meter;
  }

  counter(name: string, description: string): Counter {
    const counter = this.#meter.createCounter(name, { description, ...unitOf(name) });
    return { add: (value: number, labels?: Labels) => counter.add(value, labels) };
  }

  histogram(name: string, description: string): Histogram {
    const histogram = this.#meter.createHistogram(name, { description, ...unitOf(name), ...boundsOf(name) });
    return { record: (value: number, labels?: Labels) => histogram.record(value, labels) };
  }

  gauge(name: string, description: string, read: () => number): void {
    const gauge = this.#meter.createObservableGauge(name, { description, ...unitOf(name) });
    gauge.addCallback((result) => result.observe(read()));
  }
}

function unitOf(name: string): { unit?: string } {
  if (/_seconds(_total)?$/.test(name)) return { unit: 's' };
  if (/_bytes(_total)?$/.test(name)) return { unit: 'By' };
  return {};
}

function boundsOf(name: string): { advice?: { explicitBucketBoundaries: number[] } } {
  if (name.endsWith('_seconds')) return { advice: { explicitBucketBoundaries: [...secondBounds] } };
  if (name.endsWith('_bytes')) return { advice: { explicitBucketBoundaries: [...byteBounds] } };
  return {};
}
