/**
 * What a manifest of another registry refers to. Lenient: it was accepted there, and its bytes are served unchanged; what is read here only serves
 * the index, so a field that makes no sense counts as absent.
 */
import { AppError, type Digest, isDigest } from '#core';

export interface UpstreamManifestFacts {
  readonly mediaType: string;
  readonly subject: Digest | undefined;
  readonly artifactType: string | undefined;
  readonly annotations: Readonly<Record<string, string>>;
  /** Config and layers. */
  readonly blobs: readonly Digest[];
  /** Children of an index that are manifests. */
  readonly manifests: readonly Digest[];
  /** Other children of an index. */
  readonly either: readonly Digest[];
}

const indexTypes: ReadonlySet<string> = new Set([
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
]);
const imageTypes: ReadonlySet<string> = new Set([
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.oci.artifact.manifest.v1+json',
]);
const foreignLayer = /\.nondistributable\.|\.foreign\./;

/** Throws `unsupported` (kind `upstream`) for what is no manifest of today, such as Docker's schema 1. */
export function readManifestFacts(bytes: Uint8Array, contentType: string): UpstreamManifestFacts {
  const json = parse(bytes);
  const inside = stringAt(json, 'mediaType') ?? '';
  const isKnown = (type: string): boolean => indexTypes.has(type) || imageTypes.has(type);
  const guessed = Array.isArray(json['manifests'])
    ? 'application/vnd.oci.image.index.v1+json'
    : 'application/vnd.oci.image.manifest.v1+json';
  const mediaType = [contentType, inside].find(isKnown) ?? guessed;
  if (json['schemaVersion'] === 1 || (!isKnown(contentType) && !isKnown(inside) && json['schemaVersion'] !== 2)) {
    throw new AppError('unsupported', 'the upstream has this image only in a form that is no longer used (Docker schema 1)', {
      data: { kind: 'upstream' },
    });
  }
  const config = descriptorOf(json['config']);
  const layers = descriptorsOf(json['layers'] ?? json['blobs']).filter(({ foreign }) => !foreign);
  const children = indexTypes.has(mediaType) ? descriptorsOf(json['manifests']) : [];
  const isManifest = ({ mediaType: type }: Descriptor): boolean => isKnown(type);
  return {
    mediaType,
    subject: descriptorOf(json['subject'])?.digest,
    artifactType: stringAt(json, 'artifactType') ?? (indexTypes.has(mediaType) ? undefined : config?.mediaType),
    annotations: annotationsOf(json['annotations']),
    blobs: unique([...(config === undefined ? [] : [config]), ...layers]),
    manifests: unique(children.filter(isManifest)),
    either: unique(children.filter((child) => !isManifest(child))),
  };
}

type Json = Readonly<Record<string, unknown>>;

interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly foreign: boolean;
}

function parse(bytes: Uint8Array): Json {
  try {
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    if (isObject(value)) return value;
  } catch {
    // Said below, without quoting what the upstream sent.
  }
  throw new AppError('unsupported', 'the upstream sent something that is no manifest', { data: { kind: 'upstream' } });
}

function descriptorsOf(value: unknown): readonly Descriptor[] {
  return Array.isArray(value) ? value.map(descriptorOf).filter((descriptor) => descriptor !== undefined) : [];
}

function descriptorOf(value: unknown): Descriptor | undefined {
  if (!isObject(value)) return undefined;
  const digest = stringAt(value, 'digest');
  if (digest === undefined || !isDigest(digest)) return undefined;
  const mediaType = stringAt(value, 'mediaType') ?? '';
  const { urls } = value;
  return { mediaType, digest, foreign: (Array.isArray(urls) && urls.length > 0) || foreignLayer.test(mediaType) };
}

function annotationsOf(value: unknown): Readonly<Record<string, string>> {
  if (!isObject(value)) return {};
  return Object.fromEntries(Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === 'string'));
}

function stringAt(json: Json, key: string): string | undefined {
  const value = json[key];
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function unique(descriptors: readonly Descriptor[]): readonly Digest[] {
  return [...new Set(descriptors.map(({ digest }) => digest))];
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
