/** What an audit log wants to know of a request: who changed what, who tried to, and how it ended. Pure. */
import type { Identity } from './access.ts';
import type { Answer } from './answer.ts';
import type { Call } from './call.ts';
import type { Query, Target } from './router.ts';

export type AuditAction = 'push-blob' | 'mount-blob' | 'push-manifest' | 'delete-blob' | 'delete-manifest' | 'upload' | 'login';

/** `challenged`: nobody in particular was asked to log in; clients that have credentials try again with them. */
export type AuditOutcome = 'done' | 'denied' | 'challenged' | 'failed';

/** One line of the audit log. Short values, no secrets. */
export interface AuditRecord {
  readonly action: AuditAction;
  readonly outcome: AuditOutcome;
  /** The HTTP status. */
  readonly status: number;
  /** As in the caller; `refused` when the credentials were wrong. */
  readonly principal: string;
  readonly address: string | undefined;
  readonly repository?: string;
  /** The tag or digest that the client named. */
  readonly reference?: string;
  /** What was stored. */
  readonly digest?: string;
  /** Tags that a push by digest sets besides. */
  readonly tags?: string;
  /** The source of a mount. */
  readonly from?: string;
}

/** Longest text of the client in a record, in characters. */
const textLengthMax = 300;

/** The record of a request, or undefined when it changes nothing and nobody was refused a login. */
export function auditOf(
  request: Pick<Call, 'method' | 'query' | 'evidence'>,
  identity: Identity | undefined,
  target: Target,
  answer: Pick<Answer, 'status' | 'headers'>,
): AuditRecord | undefined {
  const base = {
    outcome: outcomeOf(answer.status, identity),
    status: answer.status,
    principal: identity?.kind === 'caller' ? identity.caller.principal : identity === undefined ? 'unknown' : 'refused',
    address: request.evidence.address,
  };
  const change = changeOf(request, target, answer.status);
  if (change !== undefined) {
    const digest = answer.headers['docker-content-digest'];
    return { ...base, ...change, ...(digest === undefined ? {} : { digest }) };
  }
  const isWrongLogin = answer.status === 401 && (target.kind === 'token' || identity?.kind === 'refused');
  return isWrongLogin ? { ...base, action: 'login', outcome: 'denied', principal: 'refused' } : undefined;
}

function outcomeOf(status: number, identity: Identity | undefined): AuditOutcome {
  if (status < 400) return 'done';
  if (status === 401) return identity?.kind === 'caller' && identity.caller.isAnonymous ? 'challenged' : 'denied';
  return status === 403 ? 'denied' : 'failed';
}

type Change = Pick<AuditRecord, 'action' | 'repository' | 'reference' | 'tags' | 'from'>;

function changeOf({ method, query }: Pick<Call, 'method' | 'query'>, target: Target, status: number): Change | undefined {
  if (method === 'GET' || method === 'HEAD' || !('name' in target)) return undefined;
  const repository = short(target.name);
  switch (target.kind) {
    case 'manifest':
      return manifestChange(method, query, repository, target.reference);
    case 'blob':
      return method === 'DELETE' ? { action: 'delete-blob', repository, reference: short(target.digest) } : undefined;
    case 'uploads':
      return startChange(query, repository, status);
    case 'upload':
      if (method === 'PUT') return { action: 'push-blob', repository, ...text('reference', query.get('digest')) };
      return isRefused(status) ? { action: 'upload', repository } : undefined;
    default:
      return undefined;
  }
}

function manifestChange(method: string, query: Query, repository: string, reference: string): Change | undefined {
  if (method !== 'PUT' && method !== 'DELETE') return undefined;
  const tags = text('tags', query.getAll('tag').join(',') || undefined);
  return { action: method === 'PUT' ? 'push-manifest' : 'delete-manifest', repository, reference: short(reference), ...tags };
}

/** The start of a session stores nothing yet. */
function startChange(query: Query, repository: string, status: number): Change | undefined {
  const [mount, digest] = [query.get('mount'), query.get('digest')];
  if (mount !== undefined && (status === 201 || isRefused(status))) {
    return { action: 'mount-blob', repository, reference: short(mount), ...text('from', query.get('from')) };
  }
  if (mount === undefined && digest !== undefined) return { action: 'push-blob', repository, reference: short(digest) };
  return isRefused(status) ? { action: 'upload', repository } : undefined;
}

function isRefused(status: number): boolean {
  return status === 401 || status === 403;
}

function text<K extends string>(key: K, value: string | undefined): { readonly [key in K]?: string } {
  return value === undefined ? {} : ({ [key]: short(value) } as { readonly [key in K]: string });
}

function short(value: string): string {
  return value.slice(0, textLengthMax);
}
