/** Where records of changes go: a file of their own, or the log of the service. */
import { z } from 'zod';
import type { Clock, Logger, Meter } from '#core';
import type { AuditRecord } from '#registry';
import { createLogger, LogFile } from '#telemetry';

export const auditPart = z
  .strictObject({
    /** Whether pushes, mounts, deletes and refused attempts are written down. */
    enabled: z.boolean().default(true),
    /** JSON lines are appended to this file; without one they go to the log of the service. */
    file: z.string().min(1).optional(),
  })
  .prefault({});

export interface AuditDeps {
  readonly clock: Pick<Clock, 'after'>;
  readonly logger: Logger;
  readonly meter: Meter;
}

export interface AuditLog extends AsyncDisposable {
  /** Returns at once. Undefined when nothing is to be written down. */
  readonly record: ((record: AuditRecord) => void) | undefined;
}

/** Throws `invalid-argument` when the file cannot be written. */
export async function openAuditLog(config: z.infer<typeof auditPart>, deps: AuditDeps): Promise<AuditLog> {
  if (!config.enabled) return { record: undefined, [Symbol.asyncDispose]: async () => undefined };
  const file = config.file === undefined ? undefined : await LogFile.open(config.file, deps);
  const logger = file === undefined ? deps.logger.child({ stream: 'audit' }) : createLogger({ name: 'audit', destination: file });
  return {
    record: (record) => logger.info('audit', { ...record }),
    [Symbol.asyncDispose]: async () => file?.[Symbol.asyncDispose](),
  };
}
