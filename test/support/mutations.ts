/** Changed requests from a seed, the same ones each time. */

export interface MutationOptions {
  readonly count: number;
  readonly seed: number;
}

const hostileBytes = [
  '\u0000',
  '\r',
  '\n',
  '\r\n',
  ' ',
  ':',
  '/',
  '%',
  '%2F',
  '..',
  '"',
  ',',
  ';',
  '\u00ff',
  '-',
  '9'.repeat(30),
  'A'.repeat(3000),
];

/** Each is one of `texts` with one to four changes: a piece overwritten, lost, doubled, moved, or something hostile put in. */
export function* mutations(texts: readonly string[], { count, seed }: MutationOptions): Generator<string> {
  const below = randomBelow(seed);
  for (let made = 0; made < count; made += 1) {
    let text = texts[below(texts.length)] ?? '';
    for (let changes = 1 + below(4); changes > 0; changes -= 1) text = changed(text, below);
    yield text;
  }
}

function changed(text: string, below: (limit: number) => number): string {
  const from = below(text.length + 1);
  const to = Math.min(text.length, from + below(16));
  const [head, piece, tail] = [text.slice(0, from), text.slice(from, to), text.slice(to)];
  switch (below(5)) {
    case 0:
      return head + tail;
    case 1:
      return head + piece + piece + tail;
    case 2:
      return head + [...piece].map(() => String.fromCharCode(below(256))).join('') + tail;
    case 3:
      return tail + piece + head;
    default:
      return head + (hostileBytes[below(hostileBytes.length)] ?? '') + piece + tail;
  }
}

/** The linear congruential generator of Numerical Recipes; its high bits are random enough. */
function randomBelow(seed: number): (limit: number) => number {
  let state = seed >>> 0;
  return (limit) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}
