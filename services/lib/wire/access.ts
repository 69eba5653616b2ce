/** Who may call what: identity from the client's certificate, roles from the policy that the protos state. */
import type { PeerCertificate } from 'node:tls';
import { AppError, type NodeIdentity } from '#core';
import { rpcPolicy } from '#gen/shoal/rpc-policy';
import { identityFromCertificate } from '#pki';

/** Services for the tools of every node; they show no data of anyone. */
const openServices = ['grpc.health.v1.Health', 'grpc.reflection.v1.ServerReflection', 'grpc.reflection.v1alpha.ServerReflection'];

/** True for health and reflection, which every node of the cluster may call, also while the server drains. */
export function isOpenPath(path: string): boolean {
  return openServices.includes(serviceOf(path));
}

/** `/package.Service/Method` -> `package.Service`. */
export function serviceOf(path: string): string {
  return path.slice(1, path.lastIndexOf('/'));
}

/** `/package.Service/Method` -> `Method`. */
export function methodOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

/** True when the protos say that repeating a call is safe. */
export function isIdempotent(path: string): boolean {
  return rpcPolicy[path]?.idempotent ?? false;
}

/**
 * The identity of the caller of `path`. Throws `unauthenticated` for no certificate, a malformed identity or another cluster's, and
 * `permission-denied` for a role the policy does not name. A path without a policy is refused to everybody.
 */
export function authorize(path: string, certificate: PeerCertificate | undefined, cluster: string): NodeIdentity {
  if (certificate === undefined) {
    throw new AppError('unauthenticated', 'no client certificate: present one made by "shoal certs issue"');
  }
  const caller = identityFromCertificate(certificate);
  if (caller.cluster !== cluster) {
    throw new AppError('unauthenticated', `the certificate is of another cluster: use one of "${cluster}"`);
  }
  if (isOpenPath(path)) return caller.identity;
  const roles = rpcPolicy[path]?.roles ?? [];
  if (!roles.includes(caller.identity.role)) {
    const allowed = roles.length === 0 ? 'no role' : `only ${roles.join(', ')}`;
    throw new AppError('permission-denied', `${allowed} may call ${path}; the caller is ${caller.identity.role}`, {
      data: { role: caller.identity.role },
    });
  }
  return caller.identity;
}
