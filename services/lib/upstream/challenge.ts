/** `WWW-Authenticate`: what a registry asks for before it answers. Pure. */

export type Challenge =
  | { readonly scheme: 'basic' }
  | { readonly scheme: 'bearer'; readonly realm: string; readonly service: string | undefined; readonly scope: string | undefined };

/** Registries send a few hundred bytes. */
const lengthMax = 8192;

/** The challenges of a header that this client can answer, in their order; others are left out. */
export function parseChallenges(header: string | undefined): readonly Challenge[] {
  if (header === undefined || header.length > lengthMax) return [];
  return splitChallenges(header).flatMap(({ scheme, parameters }): Challenge[] => {
    if (scheme === 'basic') return [{ scheme }];
    const realm = parameters.get('realm');
    if (scheme !== 'bearer' || realm === undefined) return [];
    return [{ scheme, realm, service: parameters.get('service'), scope: parameters.get('scope') }];
  });
}

/** A challenge as a header value; quotes and control characters of an upstream do not get through. */
export function formatChallenge(challenge: Challenge): string {
  if (challenge.scheme === 'basic') return 'Basic realm="upstream"';
  const { realm, service, scope } = challenge;
  const fields = Object.entries({ realm, service, scope }).filter((field): field is [string, string] => field[1] !== undefined);
  return `Bearer ${fields.map(([name, value]) => `${name}="${value.replace(/[^\x20-\x7e]|["\\]/g, '')}"`).join(',')}`;
}

interface RawChallenge {
  readonly scheme: string;
  readonly parameters: Map<string, string>;
}

/** `name = value` or `name = "quoted"` with what stands before it, which may begin a new challenge: `Bearer realm=`. */
const part = /\s*,?\s*(?:([A-Za-z][\w-]*)\s+(?=[A-Za-z][\w-]*\s*=))?([A-Za-z][\w-]*)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+)))?/y;

function splitChallenges(header: string): readonly RawChallenge[] {
  const found: RawChallenge[] = [];
  part.lastIndex = 0;
  for (let match = part.exec(header); match !== null; match = part.exec(header)) {
    const [, scheme, name = '', quoted, token] = match;
    const value = quoted?.replace(/\\(.)/g, '$1') ?? token;
    // A word without a value is a scheme without parameters.
    if (scheme !== undefined || value === undefined) found.push({ scheme: (scheme ?? name).toLowerCase(), parameters: new Map() });
    if (value !== undefined) found.at(-1)?.parameters.set(name.toLowerCase(), value);
  }
  return found;
}
