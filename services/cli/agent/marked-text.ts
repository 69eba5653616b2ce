/** A block of lines in somebody else's file, between marks, so that it can be found and taken out again. */

const begin = '# shoal: begin. Written by "shoal agent configure"; "shoal agent configure --remove" takes it out.';
const beginPrefix = '# shoal: begin.';
const end = '# shoal: end.';

/** The block with its marks, each line ended. */
export function marked(lines: readonly string[]): string {
  return `${[begin, ...lines, end].join('\n')}\n`;
}

/** `text` without the blocks; undefined when nothing else was in it. A begin without an end is somebody's edit and stays. */
export function withoutMarked(text: string): string | undefined {
  const kept: string[] = [];
  const lines = text.split('\n');
  for (let at = 0; at < lines.length; at += 1) {
    const line = lines[at] ?? '';
    const endAt = line.startsWith(beginPrefix) ? lines.indexOf(end, at) : -1;
    if (endAt < 0) kept.push(line);
    else at = endAt;
  }
  const rest = kept.join('\n');
  return rest.trim() === '' && rest !== text ? undefined : rest;
}
