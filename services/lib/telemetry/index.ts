/** Logs, metrics and traces: the implementations of the core ports on pino and OpenTelemetry. */
export { LogFile, type LogFileDeps } from './log-file.ts';
export { createLogger, type LogDestination, type LoggerOptions, type LogLevel, logLevels } from './logger.ts';
export { OtelMeter } from './otel-meter.ts';
export { OtelTracer, type OtelTracerDeps } from './otel-tracer.ts';
export { redacted, redactFields } from './redact.ts';
export { RotatingFile, type RotatingFileDeps, type RotatingFileOptions } from './rotating-file.ts';
export { startTelemetry, type Telemetry, type TelemetryOptions } from './telemetry.ts';
