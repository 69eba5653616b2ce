/** The `access` part of a gateway's config file. Every object is strict: an unknown key is an error. */
import { z } from 'zod';
import { durationMs, nearestName } from '#runtime';
import { algorithms } from './external-tokens.ts';
import { repositoryPatternFault } from './glob.ts';
import { ownIssuer } from './own-tokens.ts';
import { namedKinds } from './subject.ts';

const words = ['anonymous', 'authenticated'];
const prefixes = ['group', ...namedKinds];
const whoHelp = `write anonymous, authenticated, ${prefixes.map((prefix) => `${prefix}:NAME`).join(', ')}`;

/** What stands in a quoted parameter of a challenge. */
const quotable = /^[\x21\x23-\x5b\x5d-\x7e]+$/;

/** `user:alice` and the like. */
const who = z.string().superRefine((text, context) => {
  const colon = text.indexOf(':');
  if (colon < 0 ? words.includes(text) : prefixes.includes(text.slice(0, colon)) && colon < text.length - 1) return;
  const nearest = colon < 0 ? nearestName(text, words) : nearestName(text.slice(0, colon), prefixes);
  const guess = nearest === undefined ? undefined : `${nearest}${colon < 0 ? '' : text.slice(colon)}`;
  context.addIssue({ code: 'custom', message: guess === undefined || guess === text ? whoHelp : `did you mean ${guess}? ${whoHelp}` });
});

const repositoryPattern = z.string().superRefine((text, context) => {
  const fault = repositoryPatternFault(text);
  if (fault !== undefined) context.addIssue({ code: 'custom', message: fault });
});

const rule = z
  .strictObject({
    /** Whom the rule is for. */
    who: z.array(who).min(1).max(1000),
    /** Repositories; `*` is any part of a component, `**` any number of components. */
    repositories: z.array(repositoryPattern).min(1).max(1000),
    /** What they may do. Deleting is a right of its own. */
    allow: z.array(z.enum(['pull', 'push', 'delete'])).min(1),
  })
  .refine(({ allow }) => !allow.includes('push') || allow.includes('pull'), {
    path: ['allow'],
    message: 'clients read while they push: write [pull, push]',
  });

const httpUrl = (help: string) =>
  z
    .string()
    .refine((text) => /^https?:\/\/[^/]/.test(text) && quotable.test(text) && URL.canParse(text), help)
    .refine((text) => !/basic|bearer/i.test(text), 'clients misread an address with the words "basic" or "bearer": use another');

const publicUrl = httpUrl('write it like https://registry.example.com').refine(
  (text) => URL.canParse(text) && new URL(text).origin === text,
  'write scheme, host and perhaps port, and nothing behind',
);

/** Keys come over the network, so whoever could change them on the way could sign anything. */
const keyUrl = httpUrl('write it like https://id.example.com/keys').refine((text) => {
  const { protocol, hostname } = URL.canParse(text) ? new URL(text) : { protocol: '', hostname: '' };
  return protocol === 'https:' || ['localhost', '127.0.0.1', '[::1]'].includes(hostname);
}, 'use https: keys must not be changed on the way');

const issuer = z.strictObject({
  /** The `iss` claim of its tokens. */
  issuer: z
    .string()
    .min(1)
    .max(1000)
    .refine((text) => text !== ownIssuer, `"${ownIssuer}" is the issuer of the own tokens`),
  /** What its tokens must name in `aud`. */
  audience: z.string().min(1).max(1000),
  /** Its public keys: a URL, or a file. */
  jwks: z.union([z.strictObject({ url: keyUrl }), z.strictObject({ file: z.string().min(1) })], {
    error: 'write {url: https://...} or {file: ...}',
  }),
  algorithms: z.array(z.enum(algorithms)).min(1).default(['RS256', 'ES256']),
  /** Whether the `access` claim says what a token allows, or the rules do, by `token:SUBJECT` and groups. */
  grants: z.enum(['claim', 'rules']).default('claim'),
  /** The claim that lists the groups of a subject, for rules. */
  groupsClaim: z.string().min(1).max(200).optional(),
});

const memberName = z
  .string()
  .regex(/^(?:(?:user|certificate|token):.+|[^:]+)$/, 'write a user name, or user:NAME, certificate:NAME, token:SUBJECT');

const accessObject = z.strictObject({
  rules: z.array(rule).min(1, 'write at least one rule: without any nobody could do anything').max(1000),
  /** Members of the groups that rules name: user names, or `certificate:NAME` and `token:SUBJECT`. */
  groups: z.record(z.string().min(1), z.array(memberName)).default({}),
  /** Users and their bcrypt hashes, as `htpasswd -B` writes them. */
  htpasswd: z.strictObject({ file: z.string().min(1) }).optional(),
  /** The own bearer tokens. */
  token: z
    .strictObject({
      /** A secret of at least 32 characters a line, the same on every gateway; the first signs, all are taken. */
      keyFile: z.string().min(1).optional(),
      lifetime: durationMs(60_000, 86_400_000).default(300_000),
    })
    .prefault({}),
  /** External issuers of tokens. */
  issuers: z
    .array(issuer)
    .max(20)
    .refine((list) => new Set(list.map((one) => one.issuer)).size === list.length, 'each issuer stands once')
    .default([]),
  /** What the gateways call themselves in challenges and tokens. */
  service: z.string().min(1).max(200).regex(quotable, 'use printable characters without blanks and quotes').default('shoal'),
  /** How clients reach the gateways, where that differs from what they ask for, as behind a balancer that ends TLS. */
  publicUrl: publicUrl.optional(),
  /** The token endpoint of an external issuer, to which clients are sent instead of the own one. */
  realm: httpUrl('write it like https://id.example.com/token').optional(),
});

type AccessObject = z.infer<typeof accessObject>;

/** Why a word of a rule can never match anybody, for people. */
function whoFault(text: string, { groups, htpasswd, issuers }: AccessObject): string | undefined {
  const [kind, name] = [text.slice(0, text.indexOf(':')), text.slice(text.indexOf(':') + 1)];
  switch (kind) {
    case 'user':
      return htpasswd === undefined ? 'there are no users: set access.htpasswd.file' : undefined;
    case 'token':
      return issuers.some(({ grants }) => grants === 'rules') ? undefined : 'no token is judged by rules: add an issuer with grants: rules';
    case 'group': {
      const known = Object.keys(groups);
      if (known.includes(name) || issuers.some(({ groupsClaim }) => groupsClaim !== undefined)) return undefined;
      const nearest = nearestName(name, known);
      return `no such group; ${nearest === undefined ? 'add it below access.groups' : `did you mean group:${nearest}?`}`;
    }
    default:
      return undefined;
  }
}

/** Checks what several keys say together: names that nothing could ever match are slips. */
export const accessPart = accessObject.superRefine((access, context) => {
  for (const [index, { who: texts }] of access.rules.entries()) {
    for (const [position, text] of texts.entries()) {
      const message = whoFault(text, access);
      if (message !== undefined) context.addIssue({ code: 'custom', path: ['rules', index, 'who', position], message });
    }
  }
  if (access.realm !== undefined && access.issuers.length === 0) {
    context.addIssue({ code: 'custom', path: ['realm'], message: 'an external realm needs an issuer whose tokens are accepted' });
  }
});

export type AccessConfig = z.infer<typeof accessPart>;
