/** What the build-index keeps of a manifest, and its form on the wire and on disk. */
import type { Digest, ManifestStat } from '#core';
import type { ManifestRecord } from '#gen/shoal/buildindex/v1/image';
import { digestFromProto, digestToProto, safeNumber, timestampFromProto, timestampToProto } from '#wire';

/** A manifest of a repository as the index knows it; its bytes are a blob. */
export interface ManifestEntry extends ManifestStat {
  readonly subject: Digest | undefined;
  /** Undefined when it has none. */
  readonly artifactType: string | undefined;
  readonly annotations: Readonly<Record<string, string>>;
  /** Config and layers. */
  readonly blobs: readonly Digest[];
  /** Children of an index. */
  readonly manifests: readonly Digest[];
  /** Children that may be either. */
  readonly either: readonly Digest[];
  /** Unix time of the last push, in milliseconds; 0 until the index has set it. */
  readonly pushedMs: number;
}

/** A tag as the index stores it. */
export interface TagEntry {
  readonly tag: string;
  readonly digest: Digest;
  /** Hybrid logical clock: the highest wins. */
  readonly version: bigint;
}

/** When a tag was set, in Unix milliseconds: a version is 48 bits of them and 16 bits of counter. */
export function taggedMs({ version }: TagEntry): number {
  return Number(version >> 16n);
}

export function manifestToProto(entry: ManifestEntry): ManifestRecord {
  return {
    digest: digestToProto(entry.digest),
    mediaType: entry.mediaType,
    sizeBytes: BigInt(entry.sizeBytes),
    subject: entry.subject === undefined ? undefined : digestToProto(entry.subject),
    artifactType: entry.artifactType ?? '',
    annotations: { ...entry.annotations },
    blobs: entry.blobs.map(digestToProto),
    manifests: entry.manifests.map(digestToProto),
    either: entry.either.map(digestToProto),
    pushTime: entry.pushedMs === 0 ? undefined : timestampToProto(entry.pushedMs),
  };
}

/** Throws `invalid-argument` for malformed digests or numbers. */
export function manifestFromProto(record: ManifestRecord): ManifestEntry {
  return {
    digest: digestFromProto(record.digest, 'manifest.digest'),
    mediaType: record.mediaType,
    sizeBytes: safeNumber(record.sizeBytes, 'manifest.size_bytes'),
    subject: record.subject === undefined ? undefined : digestFromProto(record.subject, 'manifest.subject'),
    artifactType: record.artifactType === '' ? undefined : record.artifactType,
    annotations: record.annotations,
    blobs: record.blobs.map((digest) => digestFromProto(digest, 'manifest.blobs')),
    manifests: record.manifests.map((digest) => digestFromProto(digest, 'manifest.manifests')),
    either: record.either.map((digest) => digestFromProto(digest, 'manifest.either')),
    pushedMs: record.pushTime === undefined ? 0 : timestampFromProto(record.pushTime, 'manifest.push_time'),
  };
}
