/** Where the CPU time of a profile went, by library: our own by their folders, packages by name, Node by module, the rest by what it is. */
import { existsSync, readFileSync } from 'node:fs';
import { SourceMap } from 'node:module';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';

interface Frame {
  readonly functionName: string;
  readonly url: string;
  readonly lineNumber: number;
  readonly columnNumber: number;
}

interface Profile {
  readonly nodes: readonly { readonly id: number; readonly callFrame: Frame; readonly children?: readonly number[] }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

export interface Share {
  readonly name: string;
  readonly seconds: number;
}

/** Self time by group and by function, most first; waiting is left out. */
export function groupProfile(file: string): { readonly groups: readonly Share[]; readonly functions: readonly Share[] } {
  const profile = JSON.parse(readFileSync(file, 'utf8')) as Profile;
  const parents = new Map<number, number>();
  const frames = new Map<number, Frame>();
  for (const { id, callFrame, children = [] } of profile.nodes) {
    frames.set(id, callFrame);
    for (const child of children) parents.set(child, id);
  }
  const maps = new SourceMaps();
  const groups = new Map<string, number>();
  const functions = new Map<string, number>();
  for (const [index, id] of profile.samples.entries()) {
    const frame = frames.get(id);
    if (frame === undefined || frame.functionName === '(idle)') continue;
    const seconds = (profile.timeDeltas[index + 1] ?? profile.timeDeltas[index] ?? 0) / 1e6;
    const caller = scriptOf(id, frames, parents);
    const group = groupOf(frame, caller, maps);
    groups.set(group, (groups.get(group) ?? 0) + seconds);
    const where = frame.url === '' ? `native, from ${caller?.functionName ?? '?'} ${maps.place(caller)}` : maps.place(frame);
    const name = `${frame.functionName || '(anonymous)'} ${where}`;
    functions.set(name, (functions.get(name) ?? 0) + seconds);
  }
  return { groups: sorted(groups), functions: sorted(functions) };
}

/** The nearest frame of a script: itself, or who called the native code. */
function scriptOf(id: number, frames: ReadonlyMap<number, Frame>, parents: ReadonlyMap<number, number>): Frame | undefined {
  let at = id;
  while (frames.get(at)?.url === '' && parents.has(at)) at = parents.get(at) ?? at;
  return frames.get(at);
}

function sorted(seconds: ReadonlyMap<string, number>): readonly Share[] {
  return [...seconds].map(([name, value]) => ({ name, seconds: value })).sort((a, b) => b.seconds - a.seconds);
}

function groupOf(frame: Frame, caller: Frame | undefined, maps: SourceMaps): string {
  if (frame.functionName === '(garbage collector)') return 'garbage collection';
  if (frame.functionName === '(program)') return 'native: TLS records read, sockets, libuv';
  if (frame.url === '' && /^(update|digest|Hash|oneShotDigest|_handle)$/.test(frame.functionName)) return 'hashing';
  if (frame.url === '' && /^(write|writev|writeBuffer|writeUtf8String|writeLatin1String)$/.test(frame.functionName))
    return 'native: TLS and socket writes';
  const place = maps.place(frame.url === '' ? caller : frame);
  if (/internal\/crypto\/hash/.test(place)) return 'hashing';
  const own = /services\/(lib\/)?([^/]+)\//.exec(place)?.[2];
  if (own !== undefined) return `ours: ${own}`;
  const pack = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(place)?.[1];
  if (pack !== undefined) return pack;
  return /^node:/.test(place) ? `node: ${/^node:(?:internal\/)?([a-z0-9_]+)/.exec(place)?.[1] ?? ''}` : 'other native code';
}

/** Finds the source behind a place in a bundle. */
class SourceMaps {
  readonly #maps = new Map<string, SourceMap | undefined>();

  place(frame: Frame | undefined): string {
    if (frame === undefined || frame.url === '') return '';
    if (!frame.url.startsWith('file:')) return `${frame.url}:${frame.lineNumber + 1}`;
    const file = fileURLToPath(frame.url);
    const entry = this.#map(file)?.findEntry(frame.lineNumber, frame.columnNumber);
    if (entry !== undefined && 'originalSource' in entry)
      return `${entry.originalSource.replace(/^(\.\.\/)+/, '')}:${entry.originalLine + 1}`;
    return `${relative('.', file)}:${frame.lineNumber + 1}`;
  }

  #map(file: string): SourceMap | undefined {
    if (!this.#maps.has(file)) {
      const known = existsSync(`${file}.map`) ? new SourceMap(JSON.parse(readFileSync(`${file}.map`, 'utf8'))) : undefined;
      this.#maps.set(file, known);
    }
    return this.#maps.get(file);
  }
}

if (process.argv[1]?.endsWith('profile-groups.ts') === true) {
  for (const file of process.argv.slice(2)) {
    const { groups, functions } = groupProfile(file);
    const total = groups.reduce((sum, { seconds }) => sum + seconds, 0);
    process.stdout.write(`${file}: ${total.toFixed(2)} s\n`);
    for (const [title, shares] of Object.entries({ groups, functions })) {
      process.stdout.write(`  ${title}\n`);
      for (const { name, seconds } of shares.slice(0, 40)) {
        process.stdout.write(`  ${((100 * seconds) / total).toFixed(1).padStart(5)} %  ${seconds.toFixed(3)} s  ${name}\n`);
      }
    }
  }
}
