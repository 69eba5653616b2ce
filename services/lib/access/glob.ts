/** Patterns of repository names and of subjects. No regular expressions, so that no pattern makes matching slow. Pure. */

/** Patterns longer than any repository name match nothing. */
export const patternLengthMax = 255;

/** Why a text is no pattern of repositories, for people; undefined when it is one. */
export function repositoryPatternFault(text: string): string | undefined {
  if (text === '' || text.length > patternLengthMax) return `use 1 to ${patternLengthMax} characters`;
  for (const component of text.split('/')) {
    if (component === '') return 'a component is empty: drop the extra "/"';
    if (component !== '**' && component.includes('**')) return '"**" stands for whole components: write it between slashes, as in team/**';
    if (!/^[a-z0-9._*-]+$/.test(component)) return 'use lower-case letters, digits, ".", "_", "-", "/" and "*"';
  }
  return undefined;
}

/**
 * Whether a repository matches. `*` is any part of one component; `**` is any number of components, none included, except that at the end it
 * is at least one: `team/**` is everything below `team` and not `team` itself.
 */
export function matchesRepository(pattern: string, repository: string): boolean {
  const components = repository.split('/');
  const steps = pattern.split('/').flatMap((step, index, all) => (step === '**' && index === all.length - 1 ? ['*', '**'] : [step]));
  // reached[i]: the steps so far match the first i components.
  let reached = components.map(() => false);
  reached = [true, ...reached];
  for (const step of steps) {
    const next = reached.map(() => false);
    for (let index = 0; index < next.length; index += 1) {
      const before = reached[index - 1] === true;
      if (step === '**') next[index] = reached[index] === true || next[index - 1] === true;
      else next[index] = before && matchesText(step, components[index - 1] ?? '');
    }
    reached = next;
  }
  return reached.at(-1) === true;
}

/** Whether a text matches a pattern in which `*` is any part, the empty one included. */
export function matchesText(pattern: string, text: string): boolean {
  const [first = '', ...rest] = pattern.split('*');
  const last = rest.pop();
  if (last === undefined) return text === first;
  if (text.length < first.length + last.length || !text.startsWith(first) || !text.endsWith(last)) return false;
  // What stands between two stars may be taken where it is found first: that leaves most for the others.
  let from = first.length;
  const end = text.length - last.length;
  for (const part of rest) {
    const at = text.indexOf(part, from);
    if (at < 0 || at + part.length > end) return false;
    from = at + part.length;
  }
  return true;
}
