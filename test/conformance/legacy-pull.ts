/** What the older suites ask of a registry: reading. */
import assert from 'node:assert/strict';
import { type Content, contentOf, descriptorOf, jsonContent, mediaTypes, randomContent } from './content.ts';
import type { DataContext } from './data-checks.ts';
import { manifestPath } from './data-checks.ts';
import { blobPath, pushBlob } from './push-blob.ts';
import { type Ask, checkHeader, jsonOf, type Registry } from './registry.ts';

/** The codes that clients of the first generation know. */
const knownCodes = [
  'BLOB_UNKNOWN',
  'BLOB_UPLOAD_INVALID',
  'BLOB_UPLOAD_UNKNOWN',
  'DENIED',
  'DIGEST_INVALID',
  'MANIFEST_BLOB_UNKNOWN',
  'MANIFEST_INVALID',
  'MANIFEST_UNKNOWN',
  'MANIFEST_UNVERIFIED',
  'NAME_INVALID',
  'NAME_UNKNOWN',
  'SIZE_INVALID',
  'TAG_INVALID',
  'TOOMANYREQUESTS',
  'UNAUTHORIZED',
  'UNSUPPORTED',
];

export interface LegacyImage {
  readonly config: Content;
  readonly layer: Content;
  readonly manifest: Content;
}

/** Fields of a descriptor that nobody has specified, and one that is there without a value. */
const unspecified = { newUnspecifiedField: Buffer.from('anything').toString('base64'), data: null };

/** An image as the older suites push it: indented, with fields nobody knows, and without a mediaType. */
export function legacyImage(layers: readonly Content[] = [randomContent(256)]): LegacyImage {
  const config = jsonContent({
    architecture: 'amd64',
    os: 'linux',
    author: randomContent(8).digest,
    rootfs: { type: 'layers', diff_ids: [] },
  });
  const document = {
    schemaVersion: 2,
    config: descriptorOf(config, mediaTypes.config, { ...unspecified, data: config.bytes.toString('base64') }),
    layers: layers.map((layer) => descriptorOf(layer, mediaTypes.layerGzip, unspecified)),
  };
  const manifest = contentOf(Buffer.from(JSON.stringify(document, undefined, '\t')));
  return { config, layer: layers[0] ?? config, manifest };
}

export async function putLegacy(registry: Registry, repository: string, reference: string, manifest: Content): Promise<void> {
  const headers = { 'content-type': mediaTypes.manifest };
  const reply = await registry.expect(201, 'PUT', manifestPath(repository, reference), { body: manifest.bytes, headers });
  assert.ok(reply.headers.location, 'no Location');
}

interface NamedImage {
  readonly image: LegacyImage;
  readonly tag: string | undefined;
  readonly name: string;
}

export async function checkLegacyPull(context: DataContext): Promise<void> {
  const { registry, repository, check } = context;
  const images: readonly [NamedImage, NamedImage] = [
    { image: legacyImage(), tag: 'tagtest0', name: 'manifest[0]' },
    { image: legacyImage(), tag: undefined, name: 'manifest[1]' },
  ];
  for (const { image, tag, name } of images) {
    await check(`setup ${name}`, async () => {
      for (const blob of [image.config, image.layer]) await pushBlob(registry, repository, 'post+put', blob);
      await putLegacy(registry, repository, tag ?? image.manifest.digest, image.manifest);
    });
  }
  await readBlobs(context, images[0].image.config.digest);
  for (const method of ['HEAD', 'GET']) await readManifests(context, method, images);
  const nonsense = { body: Buffer.from('nonsense'), headers: { 'content-type': mediaTypes.manifest } };
  const wrongs: readonly (readonly [string, Ask])[] = [
    ['GET', {}],
    ['PUT', nonsense],
  ];
  for (const [method, ask] of wrongs) {
    await check(`a 400 to a ${method} has the JSON body of the specification`, async () => {
      const reply = await registry.expect([400, 404], method, manifestPath(repository, 'sha256:totallywrong'), ask);
      if (reply.status === 404) return;
      const { errors } = jsonOf(reply) as { readonly errors: readonly { readonly code: string }[] };
      assert.ok(errors.length > 0 && errors.every(({ code }) => knownCodes.includes(code)), JSON.stringify(errors));
    });
  }
  const [first, second] = images;
  await check(`teardown ${first.name}`, async () => tearDown(registry, repository, first.image));
  await check(`teardown ${second.name}, blobs first`, async () => {
    for (const { digest } of [second.image.config, second.image.layer]) await registry.expect(202, 'DELETE', blobPath(repository, digest));
    await registry.expect(202, 'DELETE', manifestPath(repository, second.image.manifest.digest));
  });
}

async function readBlobs({ registry, repository, check }: DataContext, digest: string): Promise<void> {
  const unknown = randomContent(32).digest;
  for (const method of ['HEAD', 'GET']) {
    await check(`${method} of a nonexistent blob is 404`, async () => {
      await registry.expect(404, method, blobPath(repository, unknown));
    });
    await check(`${method} of an existing blob is 200`, async () => {
      const reply = await registry.expect(200, method, blobPath(repository, digest));
      checkHeader(reply, 'docker-content-digest', digest);
    });
  }
}

async function readManifests({ registry, repository, check }: DataContext, method: string, images: readonly NamedImage[]): Promise<void> {
  await check(`${method} of a nonexistent manifest is 404`, async () => {
    await registry.expect(404, method, manifestPath(repository, '.INVALID_MANIFEST_NAME'));
  });
  const asked = images.flatMap(({ image, tag, name }) => [
    { image, reference: image.manifest.digest, name: `${name} by digest` },
    ...(tag === undefined ? [] : [{ image, reference: tag, name: `${name} by tag` }]),
  ]);
  for (const { image, reference, name } of asked) {
    await check(`${method} of ${name} is 200`, async () => {
      const headers = { accept: mediaTypes.manifest };
      const reply = await registry.expect(200, method, manifestPath(repository, reference), { headers });
      checkHeader(reply, 'docker-content-digest', image.manifest.digest);
    });
  }
}

/** Deletes what an image consists of; its manifest must be there. */
export async function tearDown(registry: Registry, repository: string, image: LegacyImage): Promise<void> {
  await registry.expect(202, 'DELETE', manifestPath(repository, image.manifest.digest));
  for (const { digest } of [image.config, image.layer]) await registry.expect([202, 404], 'DELETE', blobPath(repository, digest));
}
