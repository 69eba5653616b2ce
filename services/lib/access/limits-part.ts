/** The limits of a registry in the config file: their names for people, with the defaults and bounds of the registry. */
import { z } from 'zod';
import { limitBounds, type RegistryLimits } from '#registry';
import { durationMs, sizeBytes } from '#runtime';

type Limit = keyof RegistryLimits;

const size = (limit: Limit): z.ZodDefault<z.ZodType<number>> =>
  sizeBytes(limitBounds[limit].min, limitBounds[limit].max).default(limitBounds[limit].default);
const duration = (limit: Limit): z.ZodDefault<z.ZodType<number>> =>
  durationMs(limitBounds[limit].min, limitBounds[limit].max).default(limitBounds[limit].default);
const count = (limit: Limit): z.ZodDefault<z.ZodNumber> =>
  z.number().int().min(limitBounds[limit].min).max(limitBounds[limit].max).default(limitBounds[limit].default);

export const limitsPart = z
  .strictObject({
    /** Largest manifest. */
    manifestSize: size('manifestBytes'),
    /** Largest blob. */
    blobSize: size('blobBytes'),
    /** Per login and address: requests at a time. */
    requests: count('requestsPerClient'),
    /** Per login and address: uploads at a time. */
    uploads: count('uploadsPerClient'),
    /** Per login and address: requests per second in the long run. */
    requestsPerSecond: count('requestsPerSec'),
    /** Per login and address: requests at once after a pause. */
    burst: count('requestBurst'),
    /** How long a client may take to send the head of a request. */
    headTimeout: duration('headersTimeoutMs'),
    /** How long a body may stand still. */
    bodyIdle: duration('bodyIdleMs'),
    /** Least bytes per second of a body, in either direction, over `bodyWindow`; 0 is none. */
    bodyPerSecond: size('bodyBytesPerSecMin'),
    bodyWindow: duration('bodyWindowMs'),
  })
  .prefault({});

/** The registry's names for them. */
export function limitsOf(limits: z.infer<typeof limitsPart>): Partial<RegistryLimits> {
  return {
    manifestBytes: limits.manifestSize,
    blobBytes: limits.blobSize,
    requestsPerClient: limits.requests,
    uploadsPerClient: limits.uploads,
    requestsPerSec: limits.requestsPerSecond,
    requestBurst: limits.burst,
    headersTimeoutMs: limits.headTimeout,
    bodyIdleMs: limits.bodyIdle,
    bodyBytesPerSecMin: limits.bodyPerSecond,
    bodyWindowMs: limits.bodyWindow,
  };
}
