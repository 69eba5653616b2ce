/**
 * What a request line means. Repository names may contain components called `blobs`, `manifests`, `tags` or `uploads`, so a path is
 * matched from the right, on its raw form, and each segment is decoded exactly once. Pure.
 */

/** What a path names. Names, references and digests are still unchecked text. */
export type Target =
  | { readonly kind: 'ping' }
  | { readonly kind: 'catalog' }
  | { readonly kind: 'token' }
  | { readonly kind: 'tags'; readonly name: string }
  | { readonly kind: 'manifest'; readonly name: string; readonly reference: string }
  | { readonly kind: 'referrers'; readonly name: string; readonly digest: string }
  | { readonly kind: 'uploads'; readonly name: string }
  | { readonly kind: 'upload'; readonly name: string; readonly id: string }
  | { readonly kind: 'blob'; readonly name: string; readonly digest: string }
  /** A segment is empty, a dot segment, or hides a separator or a control character. */
  | { readonly kind: 'malformed' }
  | { readonly kind: 'unknown' };

export type TargetKind = Target['kind'];

/** The query parameters of a request. Of a repeated parameter `get` returns the first. */
export interface Query {
  get(name: string): string | undefined;
  getAll(name: string): readonly string[];
  /** Every parameter in order, decoded. */
  readonly entries: readonly (readonly [string, string])[];
}

/** Splits a request target into its path and query. */
export function parseTarget(rawUrl: string): { readonly target: Target; readonly query: Query } {
  const mark = rawUrl.indexOf('?');
  const path = mark < 0 ? rawUrl : rawUrl.slice(0, mark);
  return { target: parsePath(path), query: parseQuery(mark < 0 ? '' : rawUrl.slice(mark + 1)) };
}

function parsePath(path: string): Target {
  if (path === '/v2' || path === '/v2/') return { kind: 'ping' };
  if (path === '/v2/_catalog') return { kind: 'catalog' };
  if (path === '/v2/token') return { kind: 'token' };
  if (!path.startsWith('/v2/')) return { kind: 'unknown' };
  const raw = path.slice('/v2/'.length).split('/');
  // Only the start of an upload may end with a slash.
  if (raw.length > 2 && raw.at(-1) === '' && raw.at(-2) === 'uploads' && raw.at(-3) === 'blobs') raw.pop();
  const segments: string[] = [];
  for (const text of raw) {
    const segment = decodeSegment(text);
    if (segment === undefined) return { kind: 'malformed' };
    segments.push(segment);
  }
  return matchTail(segments);
}

function matchTail(segments: readonly string[]): Target {
  const last = segments.at(-1) ?? '';
  const second = segments.at(-2);
  const third = segments.at(-3);
  const nameBefore = (tailLength: number): string => segments.slice(0, -tailLength).join('/');
  const found = ((): Exclude<Target, { kind: 'ping' | 'catalog' | 'token' | 'malformed' | 'unknown' }> | undefined => {
    if (third === 'blobs' && second === 'uploads') return { kind: 'upload', name: nameBefore(3), id: last };
    if (second === 'blobs' && last === 'uploads') return { kind: 'uploads', name: nameBefore(2) };
    if (second === 'tags' && last === 'list') return { kind: 'tags', name: nameBefore(2) };
    if (second === 'manifests') return { kind: 'manifest', name: nameBefore(2), reference: last };
    if (second === 'referrers') return { kind: 'referrers', name: nameBefore(2), digest: last };
    if (second === 'blobs') return { kind: 'blob', name: nameBefore(2), digest: last };
    return undefined;
  })();
  return found === undefined || found.name === '' ? { kind: 'unknown' } : found;
}

/** Undefined for what no repository, tag or digest can contain. */
function decodeSegment(text: string): string | undefined {
  const decoded = decodeOnce(text);
  if (decoded === undefined || decoded === '' || decoded === '.' || decoded === '..') return undefined;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
  return /[/\\\u0000-\u001f\u007f]/.test(decoded) ? undefined : decoded;
}

function decodeOnce(text: string): string | undefined {
  if (!text.includes('%')) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** A `+` stays a plus: media types contain it and no parameter of a registry contains a space. Undecodable values stay as they came. */
function parseQuery(text: string): Query {
  const entries: (readonly [string, string])[] = [];
  for (const pair of text.split('&')) {
    if (pair === '') continue;
    const equals = pair.indexOf('=');
    const name = equals < 0 ? pair : pair.slice(0, equals);
    const value = equals < 0 ? '' : pair.slice(equals + 1);
    entries.push([decodeOnce(name) ?? name, decodeOnce(value) ?? value]);
  }
  return {
    entries,
    get: (name) => entries.find(([key]) => key === name)?.[1],
    getAll: (name) => entries.filter(([key]) => key === name).map(([, value]) => value),
  };
}
