/**
 * Byte ranges of HTTP: the `Range` header of downloads and the `Content-Range` header of upload chunks. Pure.
 *
 * Clients of container registries are stricter than RFC 9110 allows servers to be: the conformance suite wants 416 for a range
 * whose end is before its start, and podman counts the parts of a multipart reply, so none is merged, sorted or dropped.
 */
import type { ByteRange } from '#core';

/** What a `Range` header asks of a blob. */
export type RangeRequest =
  | { readonly kind: 'full' }
  | { readonly kind: 'unsatisfiable' }
  /** One or more non-empty ranges inside the blob, in the order of the request. */
  | { readonly kind: 'partial'; readonly ranges: readonly ByteRange[] };

/** The range that a chunk of an upload declares: its first byte and its length. */
export interface ChunkRange {
  readonly startByte: number;
  readonly lengthBytes: number;
}

const full: RangeRequest = { kind: 'full' };
const unsatisfiable: RangeRequest = { kind: 'unsatisfiable' };
const rangeSpec = /^(\d*)-(\d*)$/;
const chunkSpec = /^(?:bytes )?(\d{1,15})-(\d{1,15})(?:\/(?:\d+|\*))?$/;

/**
 * Reads a `Range` header for a blob of `sizeBytes`. A set that does not parse is unsatisfiable; an unknown unit is ignored. Of several
 * ranges, more than `rangesMax`, more bytes than the blob has, or one outside the blob means the whole blob: a legal answer that
 * every client takes, whereas a refusal is fatal to podman.
 */
export function parseRange(header: string | undefined, sizeBytes: number, rangesMax: number): RangeRequest {
  if (header === undefined) return full;
  const equals = header.indexOf('=');
  if (equals < 0 || header.slice(0, equals).trim().toLowerCase() !== 'bytes') return full;
  const specs = header
    .slice(equals + 1)
    .split(',')
    .map((spec) => spec.trim())
    .filter((spec) => spec !== '');
  if (specs.length === 0) return unsatisfiable;
  const ranges: ByteRange[] = [];
  let totalBytes = 0;
  let outside = 0;
  for (const spec of specs) {
    const range = parseSpec(spec, sizeBytes);
    if (range === 'malformed') return unsatisfiable;
    if (range === 'outside') {
      outside += 1;
      continue;
    }
    ranges.push(range);
    totalBytes += range.endByte - range.startByte;
  }
  if (outside === specs.length) return unsatisfiable;
  if (specs.length > 1 && (outside > 0 || specs.length > rangesMax || totalBytes > sizeBytes)) return full;
  return { kind: 'partial', ranges };
}

/** Numbers beyond 2^53 lose precision but stay larger than any blob, which is all that is asked of them. */
function parseSpec(spec: string, sizeBytes: number): ByteRange | 'malformed' | 'outside' {
  const match = rangeSpec.exec(spec);
  if (match === null) return 'malformed';
  const [, first = '', last = ''] = match;
  if (first === '') {
    if (last === '') return 'malformed';
    const length = Math.min(Number(last), sizeBytes);
    return length === 0 ? 'outside' : { startByte: sizeBytes - length, endByte: sizeBytes };
  }
  const startByte = Number(first);
  if (last !== '' && Number(last) < startByte) return 'malformed';
  if (startByte >= sizeBytes) return 'outside';
  return { startByte, endByte: last === '' ? sizeBytes : Math.min(Number(last) + 1, sizeBytes) };
}

/** The `Content-Range` of a download, such as `bytes 0-9/100`. */
export function contentRangeOf(range: ByteRange, sizeBytes: number): string {
  return `bytes ${range.startByte}-${range.endByte - 1}/${sizeBytes}`;
}

/** Reads the `Content-Range` of an upload chunk: `0-9`, also `bytes 0-9/100`. `malformed` when it is neither or ends before it starts. */
export function parseChunkRange(header: string): ChunkRange | 'malformed' {
  const match = chunkSpec.exec(header.trim());
  if (match === null) return 'malformed';
  const startByte = Number(match[1]);
  const lengthBytes = Number(match[2]) - startByte + 1;
  return lengthBytes > 0 ? { startByte, lengthBytes } : 'malformed';
}

/** The `Range` of an upload session: always from zero, and `0-0` for an empty one, which docker can parse and `0--1` is not. */
export function uploadRangeOf(offsetBytes: number): string {
  return `0-${Math.max(0, offsetBytes - 1)}`;
}
