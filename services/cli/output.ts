/** What the command prints: tables for people, JSON for machines. */
import Table from 'cli-table3';
import pc from 'picocolors';

/** Draws a table without inner borders. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const drawn = new Table({
    head: head.map((title) => pc.bold(title)),
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 2 },
    chars: Object.fromEntries(
      [
        'top',
        'top-mid',
        'top-left',
        'top-right',
        'bottom',
        'bottom-mid',
        'bottom-left',
        'bottom-right',
        'left',
        'left-mid',
        'mid',
        'mid-mid',
        'right',
        'right-mid',
        'middle',
      ].map((name) => [name, '']),
    ),
  });
  drawn.push(...rows.map((row) => [...row]));
  return drawn.toString();
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** One JSON document; 64-bit numbers become numbers. */
export function printJson(value: unknown): void {
  print(JSON.stringify(value, (_, item: unknown) => (typeof item === 'bigint' ? Number(item) : item), 2));
}

/** The algorithm and the first 12 digits: enough to tell blobs of one table apart. */
export function shortDigest(digest: string): string {
  return digest.slice(0, digest.indexOf(':') + 13);
}
