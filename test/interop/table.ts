/** The table of what each client did, as it stands in the README between two markers. */

export type Outcome = { readonly state: 'yes' } | { readonly state: 'cannot' } | { readonly state: 'failed'; readonly message: string };

export interface Row {
  readonly name: string;
  readonly version: string;
  readonly remarks: string;
  readonly push: Outcome;
  readonly pull: Outcome;
  readonly index: Outcome;
  readonly artifact: Outcome;
}

const begin = '<!-- make interop: begin -->';
const end = '<!-- make interop: end -->';
const words: Readonly<Record<Outcome['state'], string>> = { yes: 'yes', cannot: '–', failed: '**failed**' };

export function markdown(rows: readonly Row[]): string {
  const lines = rows.map(({ name, version, remarks, push, pull, index, artifact }) => [
    name,
    version,
    ...[push, pull, index, artifact].map(({ state }) => words[state]),
    remarks,
  ]);
  const head = ['client', 'version', 'push to a proxy', 'pull from an agent', 'multi-arch index', 'artifact', 'how'];
  return [head, head.map(() => '---'), ...lines]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n')
    .replaceAll(/ ?--- ?/g, '---');
}

/** The README with the table in its place. Throws when a marker is missing. */
export function withTable(readme: string, table: string): string {
  const [from, to] = [readme.indexOf(begin), readme.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`the README has no lines "${begin}" and "${end}"`);
  return `${readme.slice(0, from + begin.length)}\n${table}\n${readme.slice(to)}`;
}

/** The same text without the versions, which differ from machine to machine. */
export function withoutVersions(text: string): string {
  return text.replaceAll(/^\| ([^|]+) \| [^|]+ \| (yes|–|\*\*failed\*\*) \|/gm, '| $1 | $2 |');
}
