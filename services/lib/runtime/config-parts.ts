/** The parts of a config file that several services share. Every object is strict: an unknown key is an error. */
import { z } from 'zod';
import { durationMs, sizeBytes } from './units.ts';

/** `host:port`; an IPv6 host stands in brackets. Port 0 lets the system choose. */
export const endpoint = z
  .string()
  .regex(/^(\[[0-9a-fA-F:.]+\]|[^:[\]\s]*):\d{1,5}$/, 'write it like 10.0.0.7:15001 or [::1]:15001')
  .refine((text) => Number(text.slice(text.lastIndexOf(':') + 1)) <= 65_535, 'a port is at most 65535');

const nodeId = z.string().regex(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/, 'use up to 63 of lower-case letters, digits and "-"');

/** A configured node of the cluster. */
export const member = z.strictObject({ id: nodeId, endpoint });

/** Members with distinct ids. */
export const members = z
  .array(member)
  .min(1)
  .max(1000)
  .refine((list) => new Set(list.map(({ id }) => id)).size === list.length, 'each id stands once');

/** What every service has. */
export const nodePart = z.strictObject({ id: nodeId });
export const certificatesPart = z.strictObject({
  /** Folder made by `shoal certs`. */
  directory: z.string().min(1),
});
export const grpcPart = z.strictObject({
  /** Where the gRPC server listens. */
  listen: endpoint,
  /** How other nodes reach it. When absent: the listen address, or, when that is every address, the one they see connections come from. */
  advertise: endpoint.optional(),
});
export const logPart = z
  .strictObject({ level: z.enum(['debug', 'info', 'warn', 'error']).default('info'), pretty: z.boolean().default(false) })
  .prefault({});
export const telemetryPart = z
  .strictObject({
    /** An OTLP gRPC endpoint, e.g. http://127.0.0.1:4317; without one nothing is collected. */
    otlpEndpoint: z.url().optional(),
  })
  .prefault({});
export const shutdownPart = z
  .strictObject({
    /** How long running requests may go on after SIGTERM. */
    grace: durationMs(0, 3_600_000).default(10_000),
  })
  .prefault({});

/** The parts of every service, to be spread into its schema. */
export const commonParts = {
  node: nodePart,
  certificates: certificatesPart,
  grpc: grpcPart,
  log: logPart,
  telemetry: telemetryPart,
  shutdown: shutdownPart,
} as const;

/** Where the origins are and how many of them own a blob. */
export const originsPart = z.strictObject({
  members,
  /** Owners of each blob, at most the number of members. */
  replicas: z.number().int().min(1).max(9).default(3),
});

/** A store of blobs on disk. */
export const storePart = z.strictObject({
  directory: z.string().min(1),
  /** Bytes of blobs, complete and partial, that may lie on disk. */
  capacity: sizeBytes(2 ** 20, 2 ** 60).default(50 * 2 ** 30),
});

/** A file that gets every network event as a line of JSON; without it none is written. */
export const networkEventsPart = z
  .strictObject({
    file: z.string().min(1),
    /** Of the file and the one before it (`<file>.1`) together. */
    maxBytes: sizeBytes(2 ** 20, 2 ** 40).default(100 * 2 ** 20),
  })
  .optional();

/** The registry's HTTP listener. */
export const registryPart = z.strictObject({
  listen: endpoint,
  /** Networks that may connect, in CIDR form. */
  allowedNetworks: z.array(z.string()).min(1).default(['127.0.0.0/8', '::1/128']),
  /** Whether repositories can be listed. */
  catalog: z.boolean().default(true),
});

/** The parsed common parts. */
export type CommonConfig = z.infer<z.ZodObject<typeof commonParts>>;
