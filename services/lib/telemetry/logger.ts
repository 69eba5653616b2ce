/** The Logger port on pino: JSON lines for machines, or coloured lines for people. */
import { createRequire } from 'node:module';
import { type Logger as Pino, type DestinationStream as PinoDestination, pino } from 'pino';
import type { LogFields, Logger } from '#core';
import { redactFields } from './redact.ts';

export const logLevels = ['debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof logLevels)[number];

/** Takes whole lines, each with its line feed. */
export interface LogDestination {
  write(line: string): void;
}

export interface LoggerOptions {
  /** `info` by default. */
  readonly level?: LogLevel;
  /** The service, written as `name` on every line. */
  readonly name: string;
  /** `stdout` by default, written synchronously: a crash loses no line. */
  readonly destination?: 'stdout' | 'stderr' | LogDestination;
  /** Lines for people instead of JSON. */
  readonly pretty?: boolean;
}

/** Makes the logger of a process. Field values under secret names and byte arrays never reach the destination. */
export function createLogger(options: LoggerOptions): Logger {
  const { level = 'info', name, destination = 'stdout', pretty = false } = options;
  const logger = pino(
    {
      name,
      level,
      base: {},
      messageKey: 'message',
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    pretty ? prettyStream(destination) : plainStream(destination),
  );
  return new PinoLogger(logger);
}

function plainStream(destination: 'stdout' | 'stderr' | LogDestination): PinoDestination {
  return typeof destination === 'string' ? pino.destination({ dest: destination === 'stdout' ? 1 : 2, sync: true }) : destination;
}

/** In this thread and loaded only here: a worker would lose the last lines of a short command. */
function prettyStream(destination: 'stdout' | 'stderr' | LogDestination): PinoDestination {
  const build: typeof import('pino-pretty') = createRequire(import.meta.url)('pino-pretty');
  const stream = plainStream(destination);
  const format = build.prettyFactory({
    colorize: destination === 'stdout' ? process.stdout.isTTY : destination === 'stderr' ? process.stderr.isTTY : false,
    messageKey: 'message',
    translateTime: 'SYS:HH:MM:ss.l',
  });
  return { write: (line) => stream.write(format(line)) };
}

class PinoLogger implements Logger {
  readonly #pino: Pino;

  constructor(logger: Pino) {
    this.#pino = logger;
  }

  debug(message: string, fields?: LogFields): void {
    this.#write('debug', message, fields);
  }

  info(message: string, fields?: LogFields): void {
    this.#write('info', message, fields);
  }

  warn(message: string, fields?: LogFields): void {
    this.#write('warn', message, fields);
  }

  error(message: string, fields?: LogFields): void {
    this.#write('error', message, fields);
  }

  child(fields: LogFields): Logger {
    return new PinoLogger(this.#pino.child(redactFields(fields)));
  }

  /** Fields are copied only when the level is on. */
  #write(level: 'debug' | 'info' | 'warn' | 'error', message: string, fields: LogFields = {}): void {
    if (this.#pino.isLevelEnabled(level)) this.#pino[level](redactFields(fields), message);
  }
}
