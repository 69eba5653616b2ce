/** Chunks in the wrong place: each is refused with 416, the session says how far it is, and the upload goes on. */
import assert from 'node:assert/strict';
import type { BlobChecks, PushAndRead } from './blobs.ts';
import { type Content, randomContent } from './content.ts';
import { checkCreated, chunkHeaders, startSession } from './push-blob.ts';
import { checkHeader, locationOf, type Registry } from './registry.ts';

const chunkBytes = 1024;

export async function chunksOutOfOrder(context: BlobChecks, pushAndRead: PushAndRead): Promise<void> {
  const { registry, repository, algorithm } = context;
  await pushAndRead(context, 'chunked out-of-order', randomContent(3067, algorithm), async (content) =>
    push(registry, repository, content, false),
  );
  await pushAndRead(context, 'chunked out-of-order and put chunk', randomContent(3067, algorithm), async (content) =>
    push(registry, repository, content, true),
  );
}

/** Where a wrong chunk is tried before each good one: on an empty session, one chunk too far, and at the start again. */
const wrongStarts = [1024, 2048, 0] as const;

async function push(registry: Registry, repository: string, { digest, bytes }: Content, putLast: boolean): Promise<void> {
  let session = await startSession(registry, repository);
  for (const [index, wrongStart] of wrongStarts.entries()) {
    const from = index * chunkBytes;
    const isLast = index === wrongStarts.length - 1;
    const wrong = bytes.subarray(wrongStart, wrongStart + chunkBytes);
    const isWrongLast = wrongStart + chunkBytes >= bytes.byteLength;
    // What ends the blob is sent by PUT there, and before the last chunk the start is tried both ways.
    const methods = putLast && isWrongLast ? ['PUT'] : putLast && isLast ? ['PATCH', 'PUT'] : ['PATCH'];
    for (const method of methods) session = await tryWrong(registry, { session, digest, wrong, wrongStart, method, offsetBytes: from });
    const chunk = bytes.subarray(from, from + chunkBytes);
    const headers = chunkHeaders(from, chunk);
    if (putLast && isLast) {
      await checkCreated(registry, await registry.ask('PUT', session, { query: { digest }, body: chunk, headers }), { digest, bytes });
      return;
    }
    session = locationOf(await registry.expect(202, 'PATCH', session, { body: chunk, headers }));
  }
  await checkCreated(registry, await registry.ask('PUT', session, { query: { digest } }), { digest, bytes });
}

interface WrongChunk {
  readonly session: string;
  readonly digest: string;
  readonly wrong: Buffer;
  readonly wrongStart: number;
  readonly method: string;
  readonly offsetBytes: number;
}

/** Sends it, asks at the very same address how far the session is, and returns where that says it goes on. */
async function tryWrong(registry: Registry, { session, digest, wrong, wrongStart, method, offsetBytes }: WrongChunk): Promise<string> {
  const query = method === 'PUT' ? { digest } : {};
  await registry.expect(416, method, session, { body: wrong, headers: chunkHeaders(wrongStart, wrong), query });
  const status = await registry.expect(204, 'GET', session, { query });
  checkHeader(status, 'range', `0-${Math.max(0, offsetBytes - 1)}`, true);
  const next = locationOf(status);
  assert.ok(next.includes('/blobs/uploads/'), next);
  return next;
}
