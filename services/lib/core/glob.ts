/** Patterns for names that people write in config files: `*` is any text without a slash, `**` any text, everything else itself. */
import { AppError } from './errors.ts';

const patternLengthMax = 256;

/**
 * Compiles patterns into one question: does a name match any of them? Takes time in proportion to pattern and name, whatever they are. Throws
 * `invalid-argument` for an empty pattern or one of more than 256 characters.
 */
export function globMatcher(patterns: readonly string[]): (name: string) => boolean {
  const compiled = patterns.map(tokensOf);
  return (name) => compiled.some((tokens) => matches(tokens, name));
}

type Token = { readonly any: 'segment' | 'all' } | { readonly char: string };

function tokensOf(pattern: string): readonly Token[] {
  if (pattern === '' || pattern.length > patternLengthMax) {
    throw new AppError('invalid-argument', `a pattern has 1 to ${patternLengthMax} characters; "**" matches everything`);
  }
  const parts = pattern.match(/\*+|[^*]/gu) ?? [];
  return parts.map((part) => (part.startsWith('*') ? { any: part.length === 1 ? 'segment' : 'all' } : { char: part }));
}

/** Follows all ways through the pattern at once: `states` are the tokens that may come next. */
function matches(tokens: readonly Token[], name: string): boolean {
  let states = withEmptyStars(tokens, new Set([0]));
  for (const char of name) {
    const next = new Set<number>();
    for (const at of states) {
      const to = step(tokens[at], char, at);
      if (to !== undefined) next.add(to);
    }
    if (next.size === 0) return false;
    states = withEmptyStars(tokens, next);
  }
  return states.has(tokens.length);
}

/** Where `char` leads from the token at `at`; undefined when it does not fit. */
function step(token: Token | undefined, char: string, at: number): number | undefined {
  if (token === undefined) return undefined;
  if ('char' in token) return token.char === char ? at + 1 : undefined;
  return token.any === 'all' || char !== '/' ? at : undefined;
}

/** A star may also stand for nothing. */
function withEmptyStars(tokens: readonly Token[], states: Set<number>): Set<number> {
  for (const at of states) {
    const token = tokens[at];
    // A set that is added to while it is walked through is walked on.
    if (token !== undefined && 'any' in token) states.add(at + 1);
  }
  return states;
}
