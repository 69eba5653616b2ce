/** The ways of pushing a blob that clients use, and what must hold after each of them. */
import assert from 'node:assert/strict';
import type { Content } from './content.ts';
import { Skip } from './recorder.ts';
import { type Ask, checkHeader, locationOf, type Registry, type Reply } from './registry.ts';

export const waysOfPushing = ['post only', 'post+put', 'chunked single', 'stream'] as const;
export type WayOfPushing = (typeof waysOfPushing)[number];

export const uploadsPath = (repository: string): string => `/v2/${repository}/blobs/uploads/`;
export const blobPath = (repository: string, digest: string): string => `/v2/${repository}/blobs/${digest}`;

/** Begins a session and returns its location. */
export async function startSession(registry: Registry, repository: string): Promise<string> {
  return locationOf(await registry.expect(202, 'POST', uploadsPath(repository)));
}

/** `Content-Range` of a chunk. */
export const chunkHeaders = (firstByte: number, bytes: Uint8Array): Record<string, string> => ({
  'content-range': `${firstByte}-${firstByte + bytes.byteLength - 1}`,
  'content-type': 'application/octet-stream',
});

const octets = { 'content-type': 'application/octet-stream' };

/** Go's client knows no length of an empty body that is there, so it sends it in chunks: a single one, which ends it. */
const bodyOf = (bytes: Uint8Array): Pick<Ask, 'body' | 'chunked'> => ({ body: bytes, chunked: bytes.byteLength === 0 });

/** What one chunk after the other is sent in. */
const chunkBytes = 1024;

/** Sends the body of a session in chunks and returns where it goes on. The last one is left out, and returned, when it is to come with the PUT. */
export async function sendChunks(
  registry: Registry,
  repository: string,
  bytes: Buffer,
  { keepLast = false }: { readonly keepLast?: boolean } = {},
): Promise<{ readonly session: string; readonly last: Ask }> {
  let session = await startSession(registry, repository);
  for (let from = 0; from < bytes.byteLength; from += chunkBytes) {
    const chunk = bytes.subarray(from, from + chunkBytes);
    const ask = { body: chunk, headers: chunkHeaders(from, chunk) };
    const end = from + chunk.byteLength;
    if (keepLast && end === bytes.byteLength) return { session, last: ask };
    const reply = await registry.expect(202, 'PATCH', session, ask);
    checkHeader(reply, 'range', `0-${end - 1}`, true);
    session = locationOf(reply);
  }
  return { session, last: { headers: octets } };
}

/** Pushes `body` as `digest` and returns the last reply, whatever its status. Throws when an earlier step fails. */
export async function pushBody(registry: Registry, repository: string, way: WayOfPushing, { digest, bytes }: Content): Promise<Reply> {
  switch (way) {
    case 'post only':
      return registry.ask('POST', uploadsPath(repository), { query: { digest }, ...bodyOf(bytes), headers: octets });
    case 'post+put':
      return registry.ask('PUT', await startSession(registry, repository), { query: { digest }, ...bodyOf(bytes), headers: octets });
    case 'chunked single': {
      const session = await startSession(registry, repository);
      const ask = bytes.byteLength === 0 ? { body: bytes } : { body: bytes, headers: chunkHeaders(0, bytes) };
      const patched = await registry.expect(202, 'PATCH', session, ask);
      return registry.ask('PUT', locationOf(patched), { query: { digest }, headers: octets });
    }
    case 'stream': {
      const session = await startSession(registry, repository);
      const patched = await registry.expect(202, 'PATCH', session, { body: bytes, chunked: true, headers: octets });
      return registry.ask('PUT', locationOf(patched), { query: { digest }, headers: octets });
    }
  }
}

/** Pushes a blob; its Location must then return exactly its bytes. */
export async function pushBlob(registry: Registry, repository: string, way: WayOfPushing, content: Content): Promise<void> {
  const reply = await pushBody(registry, repository, way, content);
  if (way === 'post only' && reply.status === 202) {
    const ask = { query: { digest: content.digest }, ...bodyOf(content.bytes), headers: octets };
    await checkCreated(registry, await registry.ask('PUT', locationOf(reply), ask), content);
    throw new Skip('a POST with a digest and a body only began a session');
  }
  await checkCreated(registry, reply, content);
}

/** A 201 whose Location gives the blob, in the digest the client used. */
export async function checkCreated(registry: Registry, reply: Reply, { digest, bytes }: Content): Promise<void> {
  assert.equal(reply.status, 201, reply.body.toString('utf8').slice(0, 400));
  checkHeader(reply, 'docker-content-digest', digest, true);
  const got = await registry.expect(200, 'GET', locationOf(reply));
  assert.ok(got.body.equals(bytes), 'the Location returns other bytes');
}

export async function headBlob(registry: Registry, repository: string, { digest, bytes }: Content): Promise<void> {
  const reply = await registry.expect(200, 'HEAD', blobPath(repository, digest));
  assert.equal(reply.body.byteLength, 0);
  checkHeader(reply, 'content-length', String(bytes.byteLength), true);
  checkHeader(reply, 'docker-content-digest', digest, true);
}

export async function getBlob(registry: Registry, repository: string, { digest, bytes }: Content): Promise<void> {
  const reply = await registry.expect(200, 'GET', blobPath(repository, digest));
  assert.ok(reply.body.equals(bytes), 'other bytes than were pushed');
  checkHeader(reply, 'content-length', String(bytes.byteLength), true);
  checkHeader(reply, 'docker-content-digest', digest, true);
}

/** Deletes a blob, which must be gone at once. Several data sets share blobs, so one that is gone already is fine. */
export async function deleteBlob(registry: Registry, repository: string, { digest }: Content): Promise<void> {
  const reply = await registry.expect([202, 404, 405], 'DELETE', blobPath(repository, digest));
  if (reply.status === 405) throw new Skip('blobs cannot be deleted');
  await registry.expect(404, 'HEAD', blobPath(repository, digest));
}
