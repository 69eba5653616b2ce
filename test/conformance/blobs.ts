/** Blobs, for one digest algorithm: every way of pushing, mounting, cancelling, chunks out of order, ranges, and digests that do not match. */
import assert from 'node:assert/strict';
import { chunksOutOfOrder } from './chunks.ts';
import { type Algorithm, type Content, contentOf, randomContent } from './content.ts';
import {
  blobPath,
  checkCreated,
  deleteBlob,
  getBlob,
  headBlob,
  pushBlob,
  pushBody,
  sendChunks,
  startSession,
  uploadsPath,
  waysOfPushing,
} from './push-blob.ts';
import { checkRanges } from './ranges.ts';
import { type Check, Skip } from './recorder.ts';
import { type Ask, locationOf, type Registry } from './registry.ts';

export interface BlobChecks {
  readonly registry: Registry;
  readonly repository: string;
  /** Mounts come from it. */
  readonly otherRepository: string;
  readonly algorithm: Algorithm;
  readonly check: Check;
}

/** Two chunks of 1024 bytes and one that is shorter. */
const threeChunks = 3067;

export async function checkBlobs(context: BlobChecks): Promise<void> {
  const { registry, repository, algorithm, check } = context;
  await check('get-missing', async () => {
    await registry.expect(404, 'GET', blobPath(repository, randomContent(64, algorithm).digest));
  });
  for (const way of waysOfPushing) {
    await pushAndRead(context, way, randomContent(512, algorithm), async (content) => pushBlob(registry, repository, way, content));
  }
  await checkMounts(context);
  await check('post cancel (dev)', async () => {
    const session = await startSession(registry, repository);
    await registry.expect(204, 'DELETE', session);
    await registry.expect(404, 'GET', session);
    await registry.expect(404, 'PATCH', session, { body: Buffer.from('late') });
  });
  await check('post cancel (dev)/blob-delete', async () => deleteBlob(registry, repository, randomContent(512, algorithm)));
  for (const putLast of [false, true]) {
    const name = putLast ? 'chunked multi and put chunk' : 'chunked multi';
    await pushAndRead(context, name, randomContent(threeChunks, algorithm), async (content) => pushChunks(context, content, putLast));
  }
  await chunksOutOfOrder(context, pushAndRead);
  await checkRanges({ ...context, prefix: 'range requests' });
  for (const [name, bytes] of [
    ['empty', Buffer.alloc(0)],
    ['emptyJSON', Buffer.from('{}')],
  ] as const) {
    for (const way of waysOfPushing) {
      await pushAndRead(context, `${name} ${way}`, contentOf(bytes, algorithm), async (content) =>
        pushBlob(registry, repository, way, content),
      );
    }
  }
  await checkEmptyBodies(context);
  await checkBadDigests(context);
}

/** A push and what must hold afterwards, as checks of their own. */
async function pushAndRead(
  { registry, repository, check }: BlobChecks,
  name: string,
  content: Content,
  push: (content: Content) => Promise<void>,
): Promise<void> {
  await check(name, async () => push(content));
  await check(`${name}/blob-head`, async () => headBlob(registry, repository, content));
  await check(`${name}/blob-get`, async () => getBlob(registry, repository, content));
  await check(`${name}/blob-delete`, async () => deleteBlob(registry, repository, content));
}

export type PushAndRead = typeof pushAndRead;

async function checkMounts(context: BlobChecks): Promise<void> {
  const { registry, repository, otherRepository, algorithm, check } = context;
  for (const anonymous of [false, true]) {
    const name = anonymous ? 'mount anonymous' : 'mount';
    const content = randomContent(512, algorithm);
    await pushAndRead(context, name, content, async () => {
      await pushBlob(registry, otherRepository, 'post+put', content);
      const query = { mount: content.digest, ...(anonymous ? {} : { from: otherRepository }) };
      const reply = await registry.expect([201, 202], 'POST', uploadsPath(repository), { query });
      if (reply.status === 201) return checkCreated(registry, reply, content);
      const ask = { query: { digest: content.digest }, body: content.bytes };
      await checkCreated(registry, await registry.ask('PUT', locationOf(reply), ask), content);
      throw new Skip('the blob was not mounted but had to be pushed again');
    });
    await check(`${name}/blob-delete in the other repository`, async () => deleteBlob(registry, otherRepository, content));
  }
  const missing = randomContent(512, algorithm);
  await pushAndRead(context, 'mount missing', missing, async () => {
    const query = { mount: missing.digest, from: otherRepository };
    const session = locationOf(await registry.expect(202, 'POST', uploadsPath(repository), { query }));
    await checkCreated(registry, await registry.ask('PUT', session, { query: { digest: missing.digest }, body: missing.bytes }), missing);
  });
}

async function pushChunks({ registry, repository }: BlobChecks, content: Content, keepLast: boolean): Promise<void> {
  const { session, last } = await sendChunks(registry, repository, content.bytes, { keepLast });
  await checkCreated(registry, await registry.ask('PUT', session, { ...last, query: { digest: content.digest } }), content);
}

/** What has no bytes is sent in every way there is: with a length, without one, and not at all. */
async function checkEmptyBodies(context: BlobChecks): Promise<void> {
  const { registry, repository, algorithm } = context;
  const empty = contentOf(Buffer.alloc(0), algorithm);
  const { digest } = empty;
  const asks: readonly (readonly [string, Ask])[] = [
    ['with a length of zero', { body: empty.bytes, headers: { 'content-type': 'application/octet-stream' } }],
    ['without a body', {}],
  ];
  for (const [name, ask] of asks) {
    await pushAndRead(context, `empty post only ${name}`, empty, async () =>
      checkCreated(registry, await registry.ask('POST', uploadsPath(repository), { ...ask, query: { digest } }), empty),
    );
    await pushAndRead(context, `empty post+put ${name}`, empty, async () => pushWith(context, empty, ask));
  }
}

async function pushWith({ registry, repository }: BlobChecks, content: Content, ask: Ask): Promise<void> {
  const session = await startSession(registry, repository);
  await checkCreated(registry, await registry.ask('PUT', session, { ...ask, query: { digest: content.digest } }), content);
}

/** A body that is five bytes too long for its digest must be refused, and must not appear. */
async function checkBadDigests({ registry, repository, algorithm, check }: BlobChecks): Promise<void> {
  const spoiled = (): Content => {
    const { digest, bytes } = randomContent(threeChunks, algorithm);
    return { digest, bytes: Buffer.concat([bytes, Buffer.from('extra')]) };
  };
  for (const way of waysOfPushing) {
    await check(`bad digest ${way === 'chunked single' ? 'chunked' : way}`, async () => {
      const content = spoiled();
      const reply = await pushBody(registry, repository, way, content);
      assert.equal(reply.status, 400, reply.body.toString('utf8'));
      await registry.expect(404, 'HEAD', blobPath(repository, content.digest));
    });
  }
  for (const keepLast of [false, true]) {
    await check(keepLast ? 'bad digest chunked and put chunk' : 'bad digest chunked multi', async () => {
      const { digest, bytes } = spoiled();
      const { session, last } = await sendChunks(registry, repository, bytes, { keepLast });
      await registry.expect(400, 'PUT', session, { ...last, query: { digest } });
      await registry.expect(404, 'HEAD', blobPath(repository, digest));
    });
  }
}
