/** Names that come from outside: repositories, tags, roles and node identities. */
import { AppError } from './errors.ts';

/** A repository such as `library/nginx`: OCI grammar, at most 255 characters. */
export type RepositoryName = string & { readonly __brand: 'RepositoryName' };
/** A tag such as `v1`: OCI grammar, at most 128 characters, case-sensitive. */
export type Tag = string & { readonly __brand: 'Tag' };
/** `<role>/<id>` as written in a node's certificate; never taken from what a node says of itself. */
export type PeerId = string & { readonly __brand: 'PeerId' };

/** What a certificate may speak as. An operator is a person or a tool with the `shoal` command or grpcurl. */
export const roles = ['agent', 'origin', 'tracker', 'build-index', 'proxy', 'operator'] as const;
export type Role = (typeof roles)[number];

/** Clients cap `host/name` at 255 characters, so a longer name could never be pulled. */
export const repositoryLengthMax = 255;
export const tagLengthMax = 128;
export const nodeIdLengthMax = 63;

const component = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*';
const repositoryPattern = new RegExp(`^${component}(?:/${component})*$`);
const tagPattern = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const nodeIdPattern = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

export function isRepositoryName(text: string): text is RepositoryName {
  return text.length <= repositoryLengthMax && repositoryPattern.test(text);
}

/** Throws `invalid-argument` when `text` does not follow the OCI repository grammar. */
export function parseRepositoryName(text: string): RepositoryName {
  if (isRepositoryName(text)) return text;
  throw new AppError('invalid-argument', 'invalid repository name: use lower-case components joined by "/"', {
    data: { repository: text.slice(0, 300) },
  });
}

export function isTag(text: string): text is Tag {
  return tagPattern.test(text);
}

/** Throws `invalid-argument` when `text` does not follow the OCI tag grammar. */
export function parseTag(text: string): Tag {
  if (isTag(text)) return text;
  throw new AppError('invalid-argument', 'invalid tag: use up to 128 of letters, digits, "_", "." and "-"', {
    data: { tag: text.slice(0, 160) },
  });
}

export function isRole(text: string): text is Role {
  return (roles as readonly string[]).includes(text);
}

/** Who a node is: the role and the id of its certificate. */
export interface NodeIdentity {
  readonly role: Role;
  readonly id: string;
}

/** A node id is a DNS label, because it is also written into certificates and metrics. Throws `invalid-argument`. */
export function parseNodeId(text: string): string {
  if (nodeIdPattern.test(text)) return text;
  throw new AppError('invalid-argument', 'invalid node id: use up to 63 of lower-case letters, digits and "-"', {
    data: { id: text.slice(0, 100) },
  });
}

export function peerIdOf(identity: NodeIdentity): PeerId {
  return `${identity.role}/${identity.id}` as PeerId;
}

/** Parses `<role>/<id>`. Throws `invalid-argument`. */
export function parsePeerId(text: string): PeerId {
  return peerIdOf(identityOf(text));
}

/** The identity behind a peer id. Throws `invalid-argument` for an unknown role or a malformed id. */
export function identityOf(peerId: string): NodeIdentity {
  const slash = peerId.indexOf('/');
  const role = peerId.slice(0, slash);
  if (slash < 0 || !isRole(role)) {
    throw new AppError('invalid-argument', `not a peer id: expected <role>/<id> with a role of ${roles.join(', ')}`, {
      data: { peerId: peerId.slice(0, 100) },
    });
  }
  return { role, id: parseNodeId(peerId.slice(slash + 1)) };
}
