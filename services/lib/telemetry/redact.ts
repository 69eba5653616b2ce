/** Keeps secrets and bulk bytes out of the log, whatever a caller passes as fields. Pure. */
import { AppError, type LogFields } from '#core';

export const redacted = '[redacted]';

/** Names whose text must never be written. Numbers and booleans pass: `keyCount` and `tokenValid` are no secrets. */
const secretName = /authorization|cookie|password|passphrase|secret|token|credential|private|^key|key$|key_?pem$/i;

/** Deeper values are cut: a log line is for short facts. */
const depthMax = 5;

/** A copy of `fields` without secrets: by name, and every byte array by type. Errors become plain objects. */
export function redactFields(fields: LogFields): Record<string, unknown> {
  return redactEntries(fields, 0);
}

function redactEntries(value: object, depth: number): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const [name, item] of Object.entries(value)) result[name] = redactValue(name, item, depth);
  return result;
}

function redactValue(name: string, value: unknown, depth: number): unknown {
  if (typeof value === 'bigint') return value.toString();
  if (typeof value !== 'string' && (typeof value !== 'object' || value === null)) return value;
  if (secretName.test(name)) return redacted;
  if (typeof value === 'string') return value;
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return `<${value.byteLength} bytes>`;
  if (value instanceof Date) return value.toISOString();
  if (depth >= depthMax) return '[too deep]';
  if (value instanceof Error) return errorFields(value, depth + 1);
  if (Array.isArray(value)) return value.map((item: unknown) => redactValue('', item, depth + 1));
  return redactEntries(value, depth + 1);
}

/** An operating error is told by its code; only other errors need their stack. */
function errorFields(error: Error, depth: number): Record<string, unknown> {
  const cause = error.cause === undefined ? {} : { cause: redactValue('cause', error.cause, depth) };
  return error instanceof AppError
    ? { code: error.code, message: error.message, data: redactEntries(error.data, depth), ...cause }
    : { name: error.name, message: error.message, stack: error.stack, ...cause };
}
