/** Conditional requests. The entity tag of a blob or manifest is its digest, so all of them are strong. Pure. */
import type { Digest } from '#core';

/** The conditional headers of a request. */
export interface Conditions {
  readonly ifMatch: string | undefined;
  readonly ifNoneMatch: string | undefined;
  readonly ifRange: string | undefined;
}

/** What a condition decides, in the order of RFC 9110: If-Match, then If-None-Match. */
export type Verdict = 'proceed' | 'not-modified' | 'precondition-failed';

export function etagOf(digest: Digest): string {
  return `"${digest}"`;
}

/** Clients send the digest quoted, weak, and bare; all are accepted. */
export function judge(conditions: Conditions, digest: Digest): Verdict {
  const { ifMatch, ifNoneMatch } = conditions;
  if (ifMatch !== undefined && !lists(ifMatch, digest)) return 'precondition-failed';
  if (ifNoneMatch !== undefined && lists(ifNoneMatch, digest)) return 'not-modified';
  return 'proceed';
}

/** False when an `If-Range` is not exactly the entity tag: a weak tag or a date never is, and then the whole blob is sent. */
export function rangeApplies(conditions: Conditions, digest: Digest): boolean {
  return conditions.ifRange === undefined || conditions.ifRange.trim() === etagOf(digest);
}

function lists(header: string, digest: Digest): boolean {
  return header.split(',').some((item) => {
    const tag = item.trim().replace(/^W\//, '');
    return tag === '*' || tag === digest || tag === etagOf(digest);
  });
}
