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
    const asPut = putLast && (isLast || wrongStart + chunkBytes >= bytes.byteLength);
    await tryWrong(registry, { session, digest, wrong, wrongStart, asPut, offsetBytes: from });
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
  readonly asPut: boolean;
  readonly offsetBytes: number;
}

async function tryWrong(registry: Registry, { session, digest, wrong, wrongStart, asPut, offsetBytes }: WrongChunk): Promise<void> {
  const query = asPut ? { digest } : {};
  await registry.expect(416, asPut ? 'PUT' : 'PATCH', session, { body: wrong, headers: chunkHeaders(wrongStart, wrong), query });
  const status = await registry.expect(204, 'GET', session, { query });
  assert.ok(locationOf(status).includes('/blobs/uploads/'));
  checkHeader(status, 'range', `0-${Math.max(0, offsetBytes - 1)}`, true);
}
