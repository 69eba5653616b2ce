/** Reading and deleting blobs. */
import type { BlobReader, ByteRange, Digest, RepositoryName } from '#core';
import { type Answer, type AnswerHeaders, accepted, described, notModified, ok, partial, type StreamBody } from './answer.ts';
import { type Call, headerOf, type Surface, writerOf } from './call.ts';
import { RegistryError } from './errors.ts';
import { contentRangeOf, parseRange } from './http-range.ts';
import { type Conditions, etagOf, judge, rangeApplies } from './preconditions.ts';

const contentType = 'application/octet-stream';

/** `GET` and `HEAD` of a blob. A HEAD never opens the blob, and never answers with a part of it. */
export async function readBlob(call: Call, repository: RepositoryName, digest: Digest, { store, settings }: Surface): Promise<Answer> {
  const conditions = conditionsOf(call);
  const verdict = judge(conditions, digest);
  const headers = contentHeaders(digest);
  if (call.method === 'HEAD' || verdict !== 'proceed') {
    const { sizeBytes } = await store.reader.statBlob(repository, digest, call);
    if (verdict === 'precondition-failed') throw preconditionFailed();
    if (verdict === 'not-modified') return notModified(headers);
    return described({ ...headers, 'content-type': contentType, 'content-length': String(sizeBytes) });
  }
  const reader = await store.reader.openBlob(repository, digest, call);
  try {
    const range = rangeApplies(conditions, digest) ? call.headers.range : undefined;
    const request = parseRange(range, reader.sizeBytes, settings.limits.ranges);
    if (request.kind === 'unsatisfiable') throw unsatisfiable(reader.sizeBytes);
    if (request.kind === 'full') {
      const whole = { startByte: 0, endByte: reader.sizeBytes };
      return ok({ ...headers, 'content-type': contentType }, singleBody(reader, whole, call));
    }
    return partialAnswer(reader, request.ranges, digest, headers, call);
  } catch (error) {
    await reader[Symbol.asyncDispose]();
    throw error;
  }
}

/** `DELETE` of a blob: this repository's link to it. */
export async function deleteBlob(call: Call, repository: RepositoryName, digest: Digest, surface: Surface): Promise<Answer> {
  await writerOf(surface).deleteBlob(repository, digest, call);
  return accepted();
}

/** The conditional headers of a request. */
export function conditionsOf(call: Call): Conditions {
  return {
    ifMatch: headerOf(call.headers, 'if-match'),
    ifNoneMatch: headerOf(call.headers, 'if-none-match'),
    ifRange: headerOf(call.headers, 'if-range'),
  };
}

export function preconditionFailed(): RegistryError {
  return new RegistryError('preconditionFailed', 'If-Match does not name the content; ask again without it');
}

function contentHeaders(digest: Digest): AnswerHeaders {
  return {
    'docker-content-digest': digest,
    etag: etagOf(digest),
    'accept-ranges': 'bytes',
    'cache-control': 'private, max-age=31536000, immutable',
  };
}

function unsatisfiable(sizeBytes: number): RegistryError {
  return new RegistryError('rangeInvalid', 'the range lies outside the blob', {
    detail: { sizeBytes },
    headers: { 'content-range': `bytes */${sizeBytes}` },
  });
}

function partialAnswer(reader: BlobReader, ranges: readonly ByteRange[], digest: Digest, headers: AnswerHeaders, call: Call): Answer {
  const [only, ...others] = ranges;
  if (only !== undefined && others.length === 0) {
    const single = { ...headers, 'content-type': contentType, 'content-range': contentRangeOf(only, reader.sizeBytes) };
    return partial(single, singleBody(reader, only, call));
  }
  // Nobody can make content that holds its own digest, so the digest never occurs between two parts.
  const boundary = digest.slice(7, 71);
  return partial(
    { ...headers, 'content-type': `multipart/byteranges; boundary=${boundary}` },
    multipartBody(reader, ranges, boundary, call),
  );
}

function singleBody(reader: BlobReader, range: ByteRange, { signal }: Call): StreamBody {
  const sizeBytes = range.endByte - range.startByte;
  return {
    sizeBytes,
    isAtHand: reader.isAtHand === true && sizeBytes > 0,
    chunks: sizeBytes === 0 ? nothing() : reader.read(range, { signal, lend: true }),
    release: async () => reader[Symbol.asyncDispose](),
  };
}

/** One part for each range, in the order of the request. */
function multipartBody(reader: BlobReader, ranges: readonly ByteRange[], boundary: string, { signal }: Call): StreamBody {
  const heads = ranges.map((range, index) =>
    Buffer.from(
      `${index === 0 ? '' : '\r\n'}--${boundary}\r\nContent-Type: ${contentType}\r\nContent-Range: ${contentRangeOf(range, reader.sizeBytes)}\r\n\r\n`,
    ),
  );
  const tail = Buffer.from(`\r\n--${boundary}--\r\n`);
  const chunks = async function* (): AsyncGenerator<Uint8Array> {
    for (const [index, range] of ranges.entries()) {
      const head = heads[index];
      if (head !== undefined) yield head;
      yield* reader.read(range, { signal, lend: true });
    }
    yield tail;
  };
  const headBytes = heads.reduce((sum, head) => sum + head.byteLength, 0);
  const partBytes = ranges.reduce((sum, range) => sum + range.endByte - range.startByte, 0);
  return {
    sizeBytes: headBytes + partBytes + tail.byteLength,
    chunks: chunks(),
    release: async () => reader[Symbol.asyncDispose](),
  };
}

async function* nothing(): AsyncGenerator<Uint8Array> {
  // An empty blob has no range to read.
}
