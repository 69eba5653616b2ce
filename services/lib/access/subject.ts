/** Who a request is from, once that is known, and the words by which rules name them. Pure. */

/** The kinds of subjects that have a name. */
export const namedKinds = ['user', 'certificate', 'token'] as const;
export type NamedKind = (typeof namedKinds)[number];

/** Somebody in particular, or nobody. */
export type Subject =
  | { readonly kind: 'anonymous' }
  | {
      readonly kind: NamedKind;
      /** The user of the htpasswd file, the common name of the certificate, or the subject of the token. */
      readonly name: string;
      /** Groups that an external token says its subject is in. */
      readonly groups: readonly string[];
    };

export const anonymous: Subject = { kind: 'anonymous' };

/** `user:alice`; `anonymous` for nobody. */
export function principalOf(subject: Subject): string {
  return subject.kind === 'anonymous' ? 'anonymous' : `${subject.kind}:${subject.name}`;
}

/** The subject of a principal as {@link principalOf} writes it; undefined for anything else. */
export function subjectOf(principal: string): Subject | undefined {
  if (principal === 'anonymous') return anonymous;
  const colon = principal.indexOf(':');
  const kind = namedKinds.find((known) => known === principal.slice(0, colon));
  const name = principal.slice(colon + 1);
  return colon < 0 || kind === undefined || name === '' ? undefined : { kind, name, groups: [] };
}
