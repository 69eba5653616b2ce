/** Manifests as the index knows them, for tests: the digest is that of the name. */
import type { ManifestEntry } from '#cluster';
import { digestOf } from '#core';

export function manifestEntry(name: string, parts: Partial<ManifestEntry> = {}): ManifestEntry {
  return {
    digest: digestOf(Buffer.from(name)),
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    sizeBytes: 100,
    subject: undefined,
    artifactType: undefined,
    annotations: {},
    blobs: [],
    manifests: [],
    either: [],
    pushedMs: 0,
    ...parts,
  };
}
