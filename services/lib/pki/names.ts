/** The names written into certificates: the cluster, the SPIFFE URI of a node and the DNS name of a role. */
import { AppError, isRole, type NodeIdentity, parseNodeId, type Role } from '#core';

const clusterPattern = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
const spiffePattern = /^spiffe:\/\/([a-z0-9-]{1,63})\/([a-z-]{1,20})\/([a-z0-9-]{1,63})$/;

/** Whose certificate it is: the cluster that vouches, and the node. */
export interface ClusterIdentity {
  readonly cluster: string;
  readonly identity: NodeIdentity;
}

/** A cluster name is one DNS label, because it is part of DNS names and URIs. Throws `invalid-argument`. */
export function parseClusterName(text: string): string {
  if (clusterPattern.test(text)) return text;
  throw new AppError('invalid-argument', 'invalid cluster name: use up to 63 of lower-case letters, digits and "-"', {
    data: { cluster: text.slice(0, 100) },
  });
}

/**
 * The DNS name that every node of a role answers to, `<role>.<cluster>.shoal`. A dialler that knows an address but no name
 * uses it as the TLS server name, so a connection meant for an origin fails on anything that is not one.
 */
export function roleDnsName(cluster: string, role: Role): string {
  return `${role}.${cluster}.shoal`;
}

/** `spiffe://<cluster>/<role>/<id>`. */
export function spiffeUriOf({ cluster, identity }: ClusterIdentity): string {
  return `spiffe://${cluster}/${identity.role}/${identity.id}`;
}

/** The reverse of {@link spiffeUriOf}; only its exact output is accepted. Throws `invalid-argument`. */
export function parseSpiffeUri(uri: string): ClusterIdentity {
  const [, cluster = '', role = '', id = ''] = spiffePattern.exec(uri) ?? [];
  if (!isRole(role)) {
    throw new AppError('invalid-argument', 'not a node URI: expected spiffe://<cluster>/<role>/<id>', {
      data: { uri: uri.slice(0, 250) },
    });
  }
  return { cluster: parseClusterName(cluster), identity: { role, id: parseNodeId(id) } };
}
