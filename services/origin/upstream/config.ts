/** The `upstreams` part of the origin's config: which other registries the mesh pulls images through from, and how. */
import { z } from 'zod';
import { isRepositoryName } from '#core';
import { durationMs } from '#runtime';

const dayMs = 86_400_000;

const repositoryName = z.string().refine(isRepositoryName, 'use lower-case components joined by "/", such as docker.io or quay.io/team');

/** As containerd writes it into `ns`. */
const hostName = z
  .string()
  .toLowerCase()
  .regex(/^(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:\d{1,5})?$/, 'write a host such as docker.io or registry.example.com:5000');

const credentials = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('none') }),
  z.strictObject({ type: z.literal('basic'), username: z.string().min(1), passwordFile: z.string().min(1) }),
  z.strictObject({ type: z.literal('dockerConfig'), file: z.string().min(1) }),
]);

const upstream = z
  .strictObject({
    /** The first components of the names of its repositories in the mesh. */
    namespace: repositoryName,
    /** Where it answers `/v2/`. */
    url: z.url({ protocol: /^https?$/, error: 'write it like https://registry-1.docker.io' }),
    /** What containerd sends as `ns` for it; the namespace when that is a host, and the host of the url. */
    hosts: z.array(hostName).max(20).optional(),
    /** Put before the name of the repository at the upstream. */
    repositoryPrefix: repositoryName.optional(),
    /** A name of one component means `library/<name>`; true by default for Docker Hub. */
    library: z.boolean().optional(),
    /** Whose credentials count: those of this config for everybody, or those of each caller for that caller. */
    access: z.enum(['service', 'caller']).default('service'),
    credentials: credentials.default({ type: 'none' }),
    /** For how long a tag is answered without asking the upstream. */
    fresh: durationMs(0, 30 * dayMs).default(60_000),
    /** While the upstream is down a tag is answered for this long after it was last checked. */
    stale: durationMs(0, 365 * dayMs).default(dayMs),
    /** PEM file of certificates that are trusted besides those of the system. */
    caFile: z.string().min(1).optional(),
  })
  .refine(({ access, credentials: own }) => access === 'service' || own.type === 'none', {
    path: ['credentials'],
    error: 'access: caller uses the credentials of the caller; remove these, or set access: service',
  })
  .refine(({ url }) => !URL.canParse(url) || new URL(url).username === '', {
    path: ['url'],
    error: 'credentials stand in files; see credentials',
  });

export type UpstreamConfig = z.infer<typeof upstream>;

/** The hosts of a rule. */
export function hostsOf({ hosts, namespace, url }: Pick<UpstreamConfig, 'hosts' | 'namespace' | 'url'>): readonly string[] {
  if (hosts !== undefined) return hosts;
  const named = namespace.includes('/') ? [] : [namespace];
  // A rule for a part of a registry is found by its longer namespace; the host stands for the whole.
  return namespace.includes('/') ? named : [...new Set([...named, new URL(url).host])];
}

export const upstreamsPart = z
  .array(upstream)
  .max(200)
  .default([])
  .superRefine((rules, context) => {
    const fault = (index: number, key: string, message: string): void => context.addIssue({ code: 'custom', path: [index, key], message });
    for (const [index, rule] of rules.entries()) {
      const before = rules.slice(0, index);
      if (before.some(({ namespace }) => namespace === rule.namespace)) fault(index, 'namespace', 'each namespace stands once');
      const taken = hostsOf(rule).find((host) => before.some((other) => hostsOf(other).includes(host)));
      if (taken !== undefined) fault(index, 'hosts', `${taken} belongs to another upstream; name the hosts of both`);
    }
  });
