/** Ranges of a blob: exact slices, what cannot be satisfied, several at once, and conditions. */
import assert from 'node:assert/strict';
import type { Algorithm } from './content.ts';
import { type Content, randomContent } from './content.ts';
import { blobPath, deleteBlob, pushBlob } from './push-blob.ts';
import { type Check, Skip } from './recorder.ts';
import { checkHeader, type Registry, type Reply } from './registry.ts';

export interface RangeChecks {
  readonly registry: Registry;
  readonly repository: string;
  readonly algorithm: Algorithm;
  readonly check: Check;
  readonly prefix: string;
}

const satisfiable: readonly (readonly [range: string, first: number, end: number])[] = [
  ['500-1499', 500, 1500],
  ['500-', 500, 2048],
  ['-500', 1548, 2048],
  ['2000-5000', 2000, 2048],
  ['0-', 0, 2048],
  ['-5000', 0, 2048],
  ['2047-2047', 2047, 2048],
];

const unsatisfiable = ['500-0', '5000-10000', '2048-', '-0', 'abc', '1-2-3'];

export async function checkRanges({ registry, repository, algorithm, check, prefix }: RangeChecks): Promise<void> {
  const content = randomContent(2048, algorithm);
  await check(`${prefix}/blob-push`, async () => pushBlob(registry, repository, 'post+put', content));
  await checkRangesOf({ registry, repository, check, prefix, content });
  await check(`${prefix}/blob-delete`, async () => deleteBlob(registry, repository, content));
}

/** The same against a blob of 2048 bytes that is there already. */
export async function checkRangesOf(context: Omit<RangeChecks, 'algorithm'> & { readonly content: Content }): Promise<void> {
  const { registry, repository, check, prefix, content } = context;
  const path = blobPath(repository, content.digest);
  for (const [range, first, end] of satisfiable) {
    await check(`${prefix}/range ${range}`, async () => {
      const reply = await registry.expect([200, 206], 'GET', path, { headers: { range: `bytes=${range}` } });
      if (reply.status === 200) throw new Skip('ranges are ignored');
      checkSlice(reply, content.bytes, first, end);
    });
  }
  for (const range of unsatisfiable) {
    await check(`${prefix}/range ${range}`, async () => {
      const reply = await registry.expect([200, 416], 'GET', path, { headers: { range: `bytes=${range}` } });
      if (reply.status === 200) throw new Skip('ranges are ignored');
      checkHeader(reply, 'content-range', 'bytes */2048', true);
    });
  }
  await check(`${prefix}/several ranges`, async () => {
    const reply = await registry.expect(206, 'GET', path, { headers: { range: 'bytes=1000-1099,0-9,2040-2047' } });
    assert.deepEqual(partsOf(reply), [
      { range: 'bytes 1000-1099/2048', bytes: content.bytes.subarray(1000, 1100) },
      { range: 'bytes 0-9/2048', bytes: content.bytes.subarray(0, 10) },
      { range: 'bytes 2040-2047/2048', bytes: content.bytes.subarray(2040, 2048) },
    ]);
  });
  await check(`${prefix}/another unit is ignored`, async () => {
    await registry.expect(200, 'GET', path, { headers: { range: 'items=0-1' } });
  });
  await check(`${prefix}/if-range with another tag gives the whole`, async () => {
    await registry.expect(200, 'GET', path, { headers: { range: 'bytes=0-9', 'if-range': '"other"' } });
  });
  await check(`${prefix}/if-none-match`, async () => {
    for (const value of [`"${content.digest}"`, content.digest, `W/"${content.digest}"`, '*', `"x", "${content.digest}"`]) {
      const reply = await registry.expect(304, 'GET', path, { headers: { 'if-none-match': value } });
      assert.equal(reply.body.byteLength, 0);
    }
  });
  await check(`${prefix}/if-match with another tag`, async () => {
    await registry.expect(412, 'GET', path, { headers: { 'if-match': '"other"' } });
  });
}

export function checkSlice(reply: Reply, whole: Buffer, first: number, end: number): void {
  assert.ok(reply.body.equals(whole.subarray(first, end)), `${reply.body.byteLength} bytes that are not the slice ${first}-${end - 1}`);
  checkHeader(reply, 'content-length', String(end - first), true);
  const value = reply.headers['content-range'];
  assert.ok(value === `bytes ${first}-${end - 1}/${whole.byteLength}` || value === `bytes ${first}-${end - 1}/*`, `content-range ${value}`);
}

export interface Part {
  readonly range: string;
  readonly bytes: Buffer;
}

/** Takes a `multipart/byteranges` reply apart. Throws when it is not exactly one. */
export function partsOf(reply: Reply): Part[] {
  const boundary = /^multipart\/byteranges; ?boundary=([A-Za-z0-9-]+)$/.exec(reply.headers['content-type'] ?? '')?.[1];
  assert.ok(boundary !== undefined, `content-type ${reply.headers['content-type']}`);
  checkHeader(reply, 'content-length', String(reply.body.byteLength), true);
  const parts: Part[] = [];
  let at: number = 0;
  for (;;) {
    const line: string = `${at === 0 ? '' : '\r\n'}--${boundary}`;
    assert.equal(reply.body.toString('latin1', at, at + line.length), line, `a boundary at byte ${at}`);
    at += line.length;
    if (reply.body.toString('latin1', at, at + 2) === '--') return parts;
    const headEnd = reply.body.indexOf('\r\n\r\n', at);
    const head = reply.body.toString('latin1', at, headEnd);
    const range = /content-range: (bytes (\d+)-(\d+)\/\d+)/i.exec(head);
    assert.ok(range?.[1] !== undefined, `no Content-Range in ${head}`);
    const sizeBytes = Number(range[3]) - Number(range[2]) + 1;
    parts.push({ range: range[1], bytes: reply.body.subarray(headEnd + 4, headEnd + 4 + sizeBytes) });
    at = headEnd + 4 + sizeBytes;
  }
}
