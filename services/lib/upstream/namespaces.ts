/** Which repositories of the mesh come from another registry, and under which name it knows them. Pure. */
import { isRepositoryName, parseRepositoryName, type RepositoryName } from '#core';

/** What every gateway knows of an upstream; credentials stay at the origins. */
export interface UpstreamNamespace {
  /** The first components of the names of its repositories in the mesh, e.g. `docker.io`. */
  readonly namespace: RepositoryName;
  /** What containerd sends as `ns` for this upstream: `host` or `host:port`, lower case. */
  readonly hosts: readonly string[];
  /** A name of one component means `library/<name>`, as on Docker Hub. */
  readonly library: boolean;
  /** A caller gets what the upstream gives to the caller's own credentials, and nothing else. */
  readonly checksCaller: boolean;
}

/** A repository of an upstream. */
export interface UpstreamMatch<N extends UpstreamNamespace> {
  readonly rule: N;
  /** The one name under which the mesh keeps it. */
  readonly repository: RepositoryName;
  /** What follows the namespace, with `library/` put in. */
  readonly rest: string;
}

/** The upstream of a repository: the one with the longest namespace. Undefined when the repository is the mesh's own. */
export function matchUpstream<N extends UpstreamNamespace>(rules: readonly N[], repository: string): UpstreamMatch<N> | undefined {
  let best: N | undefined;
  for (const rule of rules) {
    if (!repository.startsWith(`${rule.namespace}/`)) continue;
    if (best === undefined || rule.namespace.length > best.namespace.length) best = rule;
  }
  if (best === undefined) return undefined;
  const rest = repository.slice(best.namespace.length + 1);
  const full = best.library && !rest.includes('/') ? `library/${rest}` : rest;
  return { rule: best, repository: parseRepositoryName(`${best.namespace}/${full}`), rest: full };
}

/** The name in the mesh of what a containerd mirror asks for as `name` with `ns=<host>`; `name` itself when no upstream has that host. */
export function nameInMesh(rules: readonly UpstreamNamespace[], host: string, name: string): string {
  const wanted = host.toLowerCase();
  const rule = rules.find(({ hosts }) => hosts.includes(wanted));
  const full = rule === undefined ? name : `${rule.namespace}/${name}`;
  return isRepositoryName(full) ? full : name;
}
