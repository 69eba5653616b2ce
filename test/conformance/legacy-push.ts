/** What the older suites ask of a registry: writing. */
import assert from 'node:assert/strict';
import { contentOf, digestOf, randomContent } from './content.ts';
import { type DataContext, manifestPath } from './data-checks.ts';
import { legacyImage, putLegacy, tearDown } from './legacy-pull.ts';
import { blobPath, chunkHeaders, getBlob, pushBlob, startSession, uploadsPath } from './push-blob.ts';
import { checkHeader, locationOf } from './registry.ts';

export interface LegacyPushContext extends DataContext {
  readonly otherRepository: string;
}

export async function checkLegacyPush(context: LegacyPushContext): Promise<void> {
  await streamed(context);
  await monolithic(context);
  await chunked(context);
  await mounts(context);
  await manifests(context);
}

async function streamed({ registry, repository, check }: DataContext): Promise<void> {
  const { digest, bytes } = randomContent(600);
  let session = '';
  await check('streamed: PATCH with the blob is 202', async () => {
    const headers = { 'content-type': 'application/octet-stream' };
    session = await startSession(registry, repository);
    session = locationOf(await registry.expect(202, 'PATCH', session, { body: bytes, headers }));
  });
  await check('streamed: PUT with the digest is 201', async () => {
    locationOf(await registry.expect(201, 'PUT', session, { query: { digest } }));
  });
}

async function monolithic({ registry, repository, check }: DataContext): Promise<void> {
  const hello = contentOf(Buffer.from('hello world'));
  await check('monolithic: GET of a nonexistent blob is 404', async () => {
    await registry.expect(404, 'GET', blobPath(repository, hello.digest));
  });
  await check('monolithic: POST with digest and blob is 201 or 202, and the blob is there or not accordingly', async () => {
    const headers = { 'content-type': 'application/octet-stream' };
    const { digest, bytes } = hello;
    const reply = await registry.expect([201, 202], 'POST', uploadsPath(repository), { body: bytes, headers, query: { digest } });
    await registry.expect(reply.status === 201 ? 200 : 404, 'GET', blobPath(repository, digest));
  });
  for (const kind of ['blob', 'layer']) {
    const content = randomContent(kind === 'blob' ? 100 : 5000);
    await check(`monolithic: POST gives a session, PUT of a ${kind} is 201`, async () =>
      pushBlob(registry, repository, 'post+put', content),
    );
    await check(`monolithic: GET of the ${kind} is 200`, async () => getBlob(registry, repository, content));
  }
}

async function chunked({ registry, repository, check }: DataContext): Promise<void> {
  const { digest, bytes } = randomContent(2345);
  const [first, second] = [bytes.subarray(0, 1024), bytes.subarray(1024)];
  await check('chunked: a chunk out of order is 416', async () => {
    const session = await startSession(registry, repository);
    await registry.expect(416, 'PATCH', session, { body: second, headers: chunkHeaders(1024, second) });
  });
  let [older, session] = ['', ''];
  await check('chunked: PATCH with the first chunk is 202 with its range', async () => {
    older = await startSession(registry, repository);
    const reply = await registry.expect(202, 'PATCH', older, { body: first, headers: chunkHeaders(0, first) });
    checkHeader(reply, 'range', '0-1023', true);
    session = locationOf(reply);
  });
  await check('chunked: the first chunk again is 416', async () => {
    await registry.expect(416, 'PATCH', older, { body: first, headers: chunkHeaders(0, first) });
  });
  await check('chunked: GET of the older location is 204 with range and location', async () => {
    const reply = await registry.expect(204, 'GET', older);
    checkHeader(reply, 'range', '0-1023', true);
    session = locationOf(reply);
  });
  await check('chunked: PATCH with the second chunk is 202 with the whole range', async () => {
    const reply = await registry.expect(202, 'PATCH', session, { body: second, headers: chunkHeaders(1024, second) });
    checkHeader(reply, 'range', '0-2344', true);
    session = locationOf(reply);
  });
  await check('chunked: PUT with the digest is 201', async () => {
    locationOf(await registry.expect(201, 'PUT', session, { query: { digest } }));
  });
}

async function mounts({ registry, repository, otherRepository, check }: LegacyPushContext): Promise<void> {
  const [known, unknown] = [randomContent(333), randomContent(333)];
  await check('mount: without from and of an unknown blob gives a session', async () => {
    locationOf(await registry.expect(202, 'POST', uploadsPath(otherRepository), { query: { mount: unknown.digest } }));
  });
  await check('mount: of a blob of another repository is 201, at the address of the blob', async () => {
    await pushBlob(registry, repository, 'post+put', known);
    const query = { mount: known.digest, from: repository };
    const reply = await registry.expect(201, 'POST', uploadsPath(otherRepository), { query });
    assert.equal(new URL(locationOf(reply), 'http://registry').pathname, blobPath(otherRepository, known.digest));
    await getBlob(registry, otherRepository, known);
  });
  await check('mount: of a nonexistent blob gives a session of this repository', async () => {
    const query = { mount: unknown.digest, from: repository };
    const reply = await registry.expect(202, 'POST', uploadsPath(otherRepository), { query });
    assert.ok(new URL(locationOf(reply), 'http://registry').pathname.startsWith(uploadsPath(otherRepository)));
  });
  await check('mount: without from, found by itself, is 201', async () => {
    const content = randomContent(333);
    await pushBlob(registry, repository, 'post+put', content);
    await registry.expect(201, 'POST', uploadsPath(otherRepository), { query: { mount: content.digest } });
  });
}

async function manifests({ registry, repository, check }: DataContext): Promise<void> {
  const [image, bare] = [legacyImage(), legacyImage([])];
  await check('manifest: GET of a nonexistent manifest is 404', async () => {
    await registry.expect(404, 'GET', manifestPath(repository, '.INVALID_MANIFEST_NAME'));
  });
  await check('manifest: setup', async () => {
    for (const blob of [image.config, image.layer, bare.config]) await pushBlob(registry, repository, 'post+put', blob);
  });
  for (const tag of ['test0', 'test1', 'test2', 'test3']) {
    await check(`manifest: PUT of ${tag} is 201`, async () => putLegacy(registry, repository, tag, image.manifest));
  }
  await check('manifest: PUT without layers is 201', async () => putLegacy(registry, repository, 'emptylayer', bare.manifest));
  await check('manifest: GET by digest is 200', async () => {
    const reply = await registry.expect(200, 'GET', manifestPath(repository, image.manifest.digest));
    assert.equal(digestOf(reply.body), image.manifest.digest);
  });
  await check('manifest: teardown', async () => {
    for (const each of [image, bare]) await tearDown(registry, repository, each);
  });
}
