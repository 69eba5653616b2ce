/** What `shoal gc` shows to people: one line of progress, then what went and why. */
import { SingleBar } from 'cli-progress';
import pc from 'picocolors';
import { formatSize } from '#runtime';
import type { BytesReport, NamesReport } from './gc-calls.ts';
import { table } from './output.ts';

/** More lines than anybody reads; `--json` has all. */
const rowsMax = 50;

export interface ProgressLine {
  /** How far one part is. */
  show(part: string, done: { readonly count: number; readonly total: number }): void;
  end(): void;
}

/** Draws on `stream`; nothing without one. */
export function progressLine(stream: NodeJS.WritableStream | undefined): ProgressLine {
  if (stream === undefined) return { show: () => undefined, end: () => undefined };
  const bar = new SingleBar({ format: '{bar} {percentage}% | {part}', hideCursor: true, stream });
  const parts = new Map<string, { readonly count: number; readonly total: number }>();
  bar.start(1, 0, { part: '' });
  return {
    show(part, done) {
      parts.set(part, done);
      const all = [...parts.values()];
      bar.setTotal(
        Math.max(
          1,
          all.reduce((sum, { count, total }) => sum + Math.max(count, total), 0),
        ),
      );
      bar.update(
        all.reduce((sum, { count }) => sum + count, 0),
        { part },
      );
    },
    end: () => bar.stop(),
  };
}

export function reportText(names: NamesReport, origins: readonly BytesReport[], { dryRun }: { readonly dryRun: boolean }): string {
  return [...namesText(names, dryRun), ...originsText(origins, dryRun)].join('\n');
}

const why: Readonly<Record<string, string>> = {
  tag: 'a retention rule',
  manifest: 'no tag for longer than a rule allows',
  blob: 'no manifest reaches it',
  tombstone: 'deleted long ago',
};

function namesText({ items }: NamesReport, dryRun: boolean): readonly string[] {
  const shown = items.filter(({ kind }) => kind !== 'tombstone');
  const tombstoneCount = items.length - shown.length;
  const rows = shown
    .slice(0, rowsMax)
    .map(({ kind, repository, tag, digest, sizeBytes, freesBytes }) => [
      kind,
      repository,
      tag === '' ? digest.slice(0, 19) : tag,
      kind === 'tag' ? '-' : `${formatSize(sizeBytes)}${freesBytes ? '' : ' (shown elsewhere)'}`,
      why[kind] ?? '',
    ]);
  const freed = new Map(items.filter(({ freesBytes }) => freesBytes).map(({ digest, sizeBytes }) => [digest, sizeBytes]));
  const freedBytes = [...freed.values()].reduce((sum, sizeBytes) => sum + sizeBytes, 0);
  return [
    ...(rows.length === 0 ? [] : [table(['WHAT', 'REPOSITORY', 'NAME', 'SIZE', 'WHY'], rows)]),
    ...(shown.length > rowsMax ? [`… and ${shown.length - rowsMax} more: --json shows all`] : []),
    `Names: ${shown.length} ${dryRun ? 'would go' : 'gone'}; ${formatSize(freedBytes)} that no repository ${dryRun ? 'would show' : 'shows'} any more` +
      `${tombstoneCount === 0 ? '' : `; ${tombstoneCount} old tombstones`}`,
    '',
  ];
}

function originsText(origins: readonly BytesReport[], dryRun: boolean): readonly string[] {
  const rows = origins.map(({ origin, blobs, error }) => {
    if (error !== undefined) return [origin, pc.red('failed'), '', '', '', error];
    const deleted = blobs.filter(({ outcome }) => outcome === 'deleted');
    const count = (outcome: string): number => blobs.filter((blob) => blob.outcome === outcome).length;
    const waitingBytes = blobs.filter(({ outcome }) => outcome === 'waiting').reduce((sum, { diskBytes }) => sum + diskBytes, 0);
    const notes = [
      count('kept') > 0 ? `${count('kept')} in use by pushes` : '',
      count('failed') > 0 ? `${count('failed')} failed: see its log` : '',
    ];
    return [
      origin,
      String(deleted.length),
      formatSize(deleted.reduce((sum, { diskBytes }) => sum + diskBytes, 0)),
      formatSize(deleted.reduce((sum, { storageBytes }) => sum + storageBytes, 0)),
      `${count('waiting')} (${formatSize(waitingBytes)})`,
      notes.filter((note) => note !== '').join('; '),
    ];
  });
  return [table(['ORIGIN', dryRun ? 'WOULD GO' : 'DELETED', 'ON DISK', 'IN STORAGE', 'WAIT FOR THEIR GRACE', ''], rows)];
}
