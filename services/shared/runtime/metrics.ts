/**
 * Prometheus metrics through the OpenTelemetry SDK. Hot paths count in plain number fields; the SDK reads them when somebody scrapes,
 * so a counter costs an addition.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { PrometheusExporter } from '@opentelemetry/exporter-prometheus';
import { MeterProvider } from '@opentelemetry/sdk-metrics';
import type { Attributes } from '@opentelemetry/api';

export interface LabelledValue {
  readonly value: number;
  readonly labels: Attributes;
}
/** One number, or one for each set of labels. */
export type MetricReader = () => number | Iterable<LabelledValue>;

export interface Histogram {
  record(value: number, labels?: Attributes): void;
}

export interface Metrics {
  /** `name` in snake case with its unit last and without `_total`, which is added. */
  counter(name: string, help: string, read: MetricReader): void;
  gauge(name: string, help: string, read: MetricReader): void;
  /** Bucket bounds in the metric's unit. Not for paths above some 10,000 calls a second. */
  histogram(name: string, help: string, bounds: readonly number[]): Histogram;
  /** Answers a scrape. */
  handler(request: IncomingMessage, response: ServerResponse): void;
  close(): Promise<void>;
}

export function createMetrics(service: string): Metrics {
  const exporter = new PrometheusExporter({ preventServerStart: true });
  const provider = new MeterProvider({ readers: [exporter] });
  const meter = provider.getMeter(service);
  const observe = (read: MetricReader) => (result: { observe(value: number, labels?: Attributes): void }) => {
    const values = read();
    if (typeof values === 'number') result.observe(values);
    else for (const { value, labels } of values) result.observe(value, labels);
  };
  return {
    counter: (name, help, read) => {
      meter.createObservableCounter(name, { description: help }).addCallback(observe(read));
    },
    gauge: (name, help, read) => {
      meter.createObservableGauge(name, { description: help }).addCallback(observe(read));
    },
    histogram: (name, help, bounds) => {
      const advice = { explicitBucketBoundaries: [...bounds] };
      const histogram = meter.createHistogram(name, { description: help, advice });
      return { record: (value, labels) => histogram.record(value, labels) };
    },
    handler: (request, response) => {
      exporter.getMetricsRequestHandler(request, response);
    },
    close: () => provider.shutdown(),
  };
}
