/** Manifests as they arrive: checks their schema and finds what they refer to. Pure; the bytes themselves are never changed. */
import { algorithmOf, type Digest, digestOf, isDigest, type ManifestUpload } from '#core';
import { RegistryError } from './errors.ts';

/** What the manifest says, ready for the store but for its digest and tags. */
export type ParsedManifest = Omit<ManifestUpload, 'digest' | 'tags' | 'bytes'>;

type Shape = 'image' | 'index' | 'artifact';
type Json = Readonly<Record<string, unknown>>;

const ociImage = 'application/vnd.oci.image.manifest.v1+json';
const ociIndex = 'application/vnd.oci.image.index.v1+json';

const shapes: ReadonlyMap<string, Shape> = new Map([
  [ociImage, 'image'],
  ['application/vnd.docker.distribution.manifest.v2+json', 'image'],
  [ociIndex, 'index'],
  ['application/vnd.docker.distribution.manifest.list.v2+json', 'index'],
  // Early ORAS releases pushed this; it was dropped from the specification.
  ['application/vnd.oci.artifact.manifest.v1+json', 'artifact'],
]);

/** The media type of an OCI index, which is also that of a list of referrers. */
export const indexMediaType = ociIndex;

/** Says nothing about a manifest; its own `mediaType` or its shape decides. */
const vagueTypes: ReadonlySet<string> = new Set(['', 'application/json', 'application/octet-stream']);
const mediaTypePattern = /^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}\/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}$/;
/** Layers that need not be in the registry, because their licence forbids it. */
const foreignLayer = /\.nondistributable\.|\.foreign\./;

/**
 * Parses and checks a manifest. `contentType` is the header as sent. Throws a {@link RegistryError}: `manifestInvalid`, or
 * `digestInvalid` for a malformed digest. That a referenced blob exists is for the store to check.
 */
export function parseManifest(bytes: Uint8Array, contentType: string | undefined): ParsedManifest {
  const json = parseJson(bytes);
  const mediaType = mediaTypeOf(json, contentType);
  const shape = shapeOf(mediaType);
  if (shape !== 'artifact' && json['schemaVersion'] !== 2)
    throw invalid('schemaVersion must be 2; push an OCI or Docker schema 2 manifest');
  if (isPresent(json['manifests']) && (isPresent(json['layers']) || isPresent(json['config']))) {
    throw invalid('a manifest is either an index or an image; remove "manifests" or "config" and "layers"');
  }
  const subject = isPresent(json['subject']) ? descriptorOf(json['subject'], 'subject').digest : undefined;
  const annotations = annotationsOf(json['annotations']);
  const artifactType = json['artifactType'];
  if (isPresent(artifactType) && typeof artifactType !== 'string') throw invalid('artifactType must be a string');
  const own = typeof artifactType === 'string' && artifactType !== '' ? artifactType : undefined;
  const common = { mediaType, subject, annotations };
  switch (shape) {
    case 'image':
      return { ...common, ...imageReferences(json), artifactType: own ?? descriptorOf(json['config'], 'config').mediaType };
    case 'index':
      return { ...common, ...indexReferences(json), artifactType: own };
    case 'artifact':
      return { ...common, blobs: blobsOf(json['blobs'] ?? [], 'blobs'), manifests: [], either: [], artifactType: own };
  }
}

function shapeOf(mediaType: string): Shape {
  const shape = shapes.get(mediaType);
  if (shape !== undefined) return shape;
  throw invalid(`media type ${mediaType.slice(0, 120)} is not a manifest's; push an OCI or Docker schema 2 manifest`);
}

type References = Pick<ParsedManifest, 'blobs' | 'manifests' | 'either'>;

function imageReferences(json: Json): References {
  const config = descriptorOf(json['config'], 'config');
  return { blobs: unique([config.digest, ...blobsOf(json['layers'], 'layers')]), manifests: [], either: [] };
}

/** BuildKit's cache indexes list layers as children, and attestations have no platform: neither is an error. */
function indexReferences(json: Json): References {
  const children = listOf(json['manifests'], 'manifests').map((child) => descriptorOf(child, 'manifests'));
  const isManifest = (child: Descriptor): boolean => shapes.has(child.mediaType);
  return {
    blobs: [],
    manifests: unique(children.filter(isManifest).map((child) => child.digest)),
    either: unique(children.filter((child) => !isManifest(child)).map((child) => child.digest)),
  };
}

function blobsOf(value: unknown, field: string): Digest[] {
  const layers = listOf(value, field).map((layer) => descriptorOf(layer, field));
  return unique(layers.filter((layer) => !layer.isForeign).map((layer) => layer.digest));
}

interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly isForeign: boolean;
}

function descriptorOf(value: unknown, field: string): Descriptor {
  if (!isObject(value)) throw invalid(`${field} must be a descriptor`);
  const { mediaType, digest, size, urls, data } = value;
  if (typeof mediaType !== 'string' || !mediaTypePattern.test(mediaType)) throw invalid(`${field}: mediaType must be a media type`);
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) throw invalid(`${field}: size must be a whole number of bytes`);
  if (typeof digest !== 'string' || !isDigest(digest)) {
    throw new RegistryError('digestInvalid', `${field}: expected sha256:<64 hex> or sha512:<128 hex>`, {
      detail: { digest: String(digest).slice(0, 160) },
    });
  }
  if (isPresent(data)) checkData(data, size, digest, field);
  const isForeign = (Array.isArray(urls) && urls.length > 0) || foreignLayer.test(mediaType);
  return { mediaType, digest, isForeign };
}

/** Embedded content must be what its descriptor says, or clients that trust it would run something else. */
function checkData(data: unknown, sizeBytes: number, digest: Digest, field: string): void {
  if (typeof data !== 'string') throw invalid(`${field}: data must be base64`);
  const bytes = Buffer.from(data, 'base64');
  if (bytes.byteLength !== sizeBytes) throw invalid(`${field}: data does not have the size of its descriptor`);
  if (digestOf(bytes, algorithmOf(digest)) !== digest) {
    throw new RegistryError('digestInvalid', `${field}: data does not have the digest of its descriptor`, { detail: { digest } });
  }
}

function parseJson(bytes: Uint8Array): Json {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (error) {
    throw new RegistryError('manifestInvalid', 'the manifest is not UTF-8 JSON', { cause: error });
  }
  if (!isObject(value)) throw invalid('the manifest must be a JSON object');
  return value;
}

function mediaTypeOf(json: Json, contentType: string | undefined): string {
  const header = (contentType ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? '';
  const inside = json['mediaType'];
  if (isPresent(inside) && typeof inside !== 'string') throw invalid('mediaType must be a string');
  const own = typeof inside === 'string' ? inside : '';
  if (vagueTypes.has(header)) return own === '' ? guessMediaType(json) : own;
  if (own !== '' && own !== header) throw invalid('mediaType differs from the Content-Type of the request');
  return header;
}

/** OCI lets a manifest leave its mediaType out. */
function guessMediaType(json: Json): string {
  if (Array.isArray(json['manifests'])) return ociIndex;
  if (isObject(json['config']) && Array.isArray(json['layers'])) return ociImage;
  throw invalid('cannot tell what kind of manifest this is; send its media type as Content-Type');
}

function annotationsOf(value: unknown): Readonly<Record<string, string>> {
  if (!isPresent(value)) return {};
  if (!isObject(value)) throw invalid('annotations must be an object');
  const entries: [string, string][] = [];
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string') throw invalid('annotations must be strings');
    entries.push([key, text]);
  }
  return Object.fromEntries(entries);
}

function listOf(value: unknown, field: string): readonly unknown[] {
  if (!Array.isArray(value)) throw invalid(`${field} must be a list`);
  return value;
}

function unique(digests: readonly Digest[]): Digest[] {
  return [...new Set(digests)];
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isPresent(value: unknown): boolean {
  return value !== undefined && value !== null;
}

function invalid(message: string): RegistryError {
  return new RegistryError('manifestInvalid', message);
}
