import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type Digest, digestOf } from '#core';
import { RegistryError } from '../../../services/lib/registry/errors.ts';
import { type ParsedManifest, parseManifest } from '../../../services/lib/registry/manifest.ts';

const image = 'application/vnd.oci.image.manifest.v1+json';
const index = 'application/vnd.oci.image.index.v1+json';
const dockerImage = 'application/vnd.docker.distribution.manifest.v2+json';
const layerType = 'application/vnd.oci.image.layer.v1.tar+gzip';

const digest = (text: string): Digest => digestOf(Buffer.from(text));
const descriptor = (text: string, mediaType = layerType, extra: object = {}): object => ({
  mediaType,
  digest: digest(text),
  size: text.length,
  ...extra,
});
const config = descriptor('config', 'application/vnd.oci.image.config.v1+json');
const parse = (value: unknown, contentType: string | undefined = image): ParsedManifest =>
  parseManifest(Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)), contentType);

function refuses(value: unknown, contentType: string | undefined = image, problem = 'manifestInvalid'): void {
  assert.throws(
    () => parse(value, contentType),
    (error) => error instanceof RegistryError && error.problem === problem,
    JSON.stringify(value),
  );
}

describe('parseManifest', () => {
  it('finds what an image refers to, each once', () => {
    const value = {
      schemaVersion: 2,
      mediaType: image,
      config,
      layers: [descriptor('a'), descriptor('b'), descriptor('a')],
      extra: { kept: true },
    };
    assert.deepEqual(parse(value), {
      mediaType: image,
      blobs: [digest('config'), digest('a'), digest('b')],
      manifests: [],
      either: [],
      subject: undefined,
      artifactType: 'application/vnd.oci.image.config.v1+json',
      annotations: {},
    });
  });

  it('leaves out layers that need not be here', () => {
    const layers = [
      descriptor('a', 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip'),
      descriptor('b', 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip'),
      descriptor('c', layerType, { urls: ['https://example.com/c'] }),
      descriptor('d', layerType, { urls: [] }),
    ];
    assert.deepEqual(parse({ schemaVersion: 2, config, layers }).blobs, [digest('config'), digest('d')]);
  });

  it('tells manifests from other children of an index', () => {
    const manifests = [descriptor('m', image), descriptor('d', dockerImage), descriptor('n', index), descriptor('l')];
    const parsed = parse({ schemaVersion: 2, manifests, artifactType: 'a/b' }, index);
    assert.deepEqual(parsed.manifests, [digest('m'), digest('d'), digest('n')]);
    assert.deepEqual(parsed.either, [digest('l')]);
    assert.equal(parsed.artifactType, 'a/b');
    assert.equal(parse({ schemaVersion: 2, manifests: [] }, index).artifactType, undefined);
  });

  it('reads subject, artifact type and annotations', () => {
    const parsed = parse({
      schemaVersion: 2,
      config,
      layers: [],
      subject: descriptor('s', image),
      artifactType: 'a/b',
      annotations: { k: 'v', __proto__x: '' },
    });
    assert.equal(parsed.subject, digest('s'));
    assert.equal(parsed.artifactType, 'a/b');
    assert.deepEqual(parsed.annotations, { k: 'v', __proto__x: '' });
    assert.equal(
      parse({ schemaVersion: 2, config, layers: [], artifactType: '' }).artifactType,
      'application/vnd.oci.image.config.v1+json',
    );
  });

  it('takes the early ORAS artifact manifest', () => {
    const type = 'application/vnd.oci.artifact.manifest.v1+json';
    const parsed = parse({ mediaType: type, artifactType: 'a/b', blobs: [descriptor('x')] }, type);
    assert.deepEqual([parsed.blobs, parsed.artifactType], [[digest('x')], 'a/b']);
  });

  it('decides the media type by header, then by field, then by shape', () => {
    const value = { schemaVersion: 2, config, layers: [] };
    assert.equal(parse(value, `${dockerImage.toUpperCase()}; charset=utf-8`).mediaType, dockerImage);
    for (const vague of [undefined, '', 'application/json', 'application/octet-stream']) {
      assert.equal(parse({ ...value, mediaType: dockerImage }, vague ?? '').mediaType, dockerImage);
      assert.equal(parseManifest(Buffer.from(JSON.stringify(value)), vague).mediaType, image);
      assert.equal(parse({ schemaVersion: 2, manifests: [] }, vague ?? '').mediaType, index);
      refuses({ schemaVersion: 2 }, vague ?? '');
    }
    refuses({ ...value, mediaType: index });
    refuses(value, 'text/plain');
    refuses(value, 'application/vnd.docker.distribution.manifest.v1+prettyjws');
  });

  it('refuses what is ambiguous, old or no JSON object', () => {
    refuses({ schemaVersion: 2, config, layers: [], manifests: [] });
    refuses({ schemaVersion: 2, config, manifests: [] }, index);
    refuses({ schemaVersion: 1, config, layers: [] });
    refuses({ config, layers: [] });
    for (const text of ['', 'null', '[]', '"x"', '{', '\uFEFF{}', '{"schemaVersion":2}{}']) refuses(text);
    assert.throws(() => parseManifest(Buffer.from([0x7b, 0xff, 0x7d]), image), RegistryError);
  });

  it('refuses malformed descriptors', () => {
    const broken: object[] = [
      { mediaType: '' },
      { mediaType: 'x\r\ny/z' },
      { mediaType: 1 },
      { size: -1 },
      { size: 1.5 },
      { size: '1' },
      { data: 5 },
    ];
    for (const extra of broken) refuses({ schemaVersion: 2, config, layers: [descriptor('a', layerType, extra)] });
    for (const layers of [undefined, null, {}, [null], ['x']]) refuses({ schemaVersion: 2, config, layers });
    for (const bad of ['sha256:x', 'md5:00', `sha256:${'A'.repeat(64)}`, 5, undefined]) {
      refuses({ schemaVersion: 2, config, layers: [descriptor('a', layerType, { digest: bad })] }, image, 'digestInvalid');
    }
    refuses({ schemaVersion: 2, config, layers: [], subject: {} });
    refuses({ schemaVersion: 2, layers: [] });
    refuses({ schemaVersion: 2, config, layers: [], annotations: { k: 1 } });
    refuses({ schemaVersion: 2, config, layers: [], artifactType: 5 });
  });

  it('checks embedded data', () => {
    const data = (text: string): object => descriptor('abc', layerType, { data: Buffer.from(text).toString('base64') });
    assert.deepEqual(parse({ schemaVersion: 2, config, layers: [data('abc')] }).blobs, [digest('config'), digest('abc')]);
    refuses({ schemaVersion: 2, config, layers: [data('abcd')] });
    refuses({ schemaVersion: 2, config, layers: [data('abd')] }, image, 'digestInvalid');
  });

  it('answers any JSON with a manifest or a refusal', () => {
    fc.assert(
      fc.property(fc.json(), fc.constantFrom(image, index, ''), (text, type) => {
        try {
          parse(text, type);
        } catch (error) {
          assert.ok(error instanceof RegistryError);
        }
      }),
    );
  });
});
