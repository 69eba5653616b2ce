/** What the checks push: bytes with their digests, and descriptors of them. */
import { createHash, randomBytes } from 'node:crypto';

export type Algorithm = 'sha256' | 'sha512';

export const mediaTypes = {
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  index: 'application/vnd.oci.image.index.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar',
  layerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  layerLocal: 'application/vnd.oci.image.layer.nondistributable.v1.tar',
  layerLocalGzip: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
  empty: 'application/vnd.oci.empty.v1+json',
  octets: 'application/octet-stream',
} as const;

export interface Content {
  readonly digest: string;
  readonly bytes: Buffer;
}

export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly [field: string]: unknown;
}

export function digestOf(bytes: Uint8Array, algorithm: Algorithm = 'sha256'): string {
  return `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`;
}

export function contentOf(bytes: Uint8Array, algorithm: Algorithm = 'sha256'): Content {
  return { digest: digestOf(bytes, algorithm), bytes: Buffer.from(bytes) };
}

/** Random content: nobody has pushed it before. */
export function randomContent(sizeBytes: number, algorithm: Algorithm = 'sha256'): Content {
  return contentOf(randomBytes(sizeBytes), algorithm);
}

/** Text that names its run, so that it is pushed for the first time too. */
export function jsonContent(value: unknown, algorithm: Algorithm = 'sha256'): Content {
  return contentOf(Buffer.from(JSON.stringify(value)), algorithm);
}

export function descriptorOf({ digest, bytes }: Content, mediaType: string, extra: Readonly<Record<string, unknown>> = {}): Descriptor {
  return { mediaType, digest, size: bytes.byteLength, ...extra };
}
