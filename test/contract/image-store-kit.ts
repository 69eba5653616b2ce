/** What the parts of the ImageStore contract share: content to push, ways to read it back, and the shape of a test. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import {
  type CallOptions,
  type Digest,
  type DigestAlgorithm,
  digestOf,
  type ErrorCode,
  type ImageStore,
  type ImageWriter,
  isAppError,
  type ManifestUpload,
  parseRepositoryName,
  parseTag,
  type RepositoryName,
} from '#core';

/** Registers a test against a fresh store. */
export type Test = (title: string, body: (store: ImageStore, writer: ImageWriter) => Promise<void>) => void;

export const options: CallOptions = { signal: new AbortController().signal };
export const here = parseRepositoryName('contract/here');
export const there = parseRepositoryName('contract/there');
export const imageType = 'application/vnd.oci.image.manifest.v1+json';

interface ManifestParts {
  readonly tags?: readonly string[];
  readonly blobs?: readonly Digest[];
  readonly manifests?: readonly Digest[];
  readonly either?: readonly Digest[];
  readonly subject?: Digest;
  readonly artifactType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly algorithm?: DigestAlgorithm;
}

/** The store does not read manifests, so their bytes need no meaning here, only to differ. */
export function manifestOf(parts: ManifestParts): ManifestUpload {
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, unique: randomBytes(8).toString('hex') }));
  return {
    digest: digestOf(bytes, parts.algorithm ?? 'sha256'),
    mediaType: imageType,
    bytes,
    tags: (parts.tags ?? []).map(parseTag),
    blobs: parts.blobs ?? [],
    manifests: parts.manifests ?? [],
    either: parts.either ?? [],
    subject: parts.subject,
    artifactType: parts.artifactType,
    annotations: parts.annotations ?? {},
  };
}

export async function image(writer: ImageWriter, repository: RepositoryName, parts: ManifestParts): Promise<ManifestUpload> {
  const blobs = [await push(writer, repository, randomBytes(32)), await push(writer, repository, randomBytes(64))];
  return manifestOf({ ...parts, blobs });
}

export async function push(
  writer: ImageWriter,
  repository: RepositoryName,
  bytes: Buffer,
  algorithm: DigestAlgorithm = 'sha256',
): Promise<Digest> {
  const { id } = await writer.startUpload(repository, {}, options);
  if (bytes.byteLength > 0) await writer.appendUpload(repository, id, { body: chunksOf(bytes) }, options);
  return (await writer.commitUpload(repository, id, digestOf(bytes, algorithm), options)).digest;
}

export async function readAll(store: ImageStore, repository: RepositoryName, digest: Digest): Promise<Buffer> {
  await using reader = await store.reader.openBlob(repository, digest, options);
  return collect(reader.read({ startByte: 0, endByte: reader.sizeBytes }, options));
}

export async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(Uint8Array.from(chunk));
  return Buffer.concat(parts);
}

export async function* chunksOf(bytes: Buffer): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += 65_536) yield bytes.subarray(at, at + 65_536);
}

export async function* breaksOff(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield* chunksOf(bytes);
  throw new Error('the client went away');
}

export async function sessionIsGone(writer: ImageWriter, id: string): Promise<void> {
  await rejects(writer.statUpload(here, id, options), 'not-found', 'upload');
  await rejects(writer.appendUpload(here, id, { body: chunksOf(Buffer.from('x')) }, options), 'not-found', 'upload');
  await rejects(writer.commitUpload(here, id, digestOf(Buffer.alloc(0)), options), 'not-found', 'upload');
  await rejects(writer.cancelUpload(here, id, options), 'not-found', 'upload');
}

export async function rejects(promise: Promise<unknown>, code: ErrorCode, kind?: string): Promise<void> {
  await assert.rejects(promise, (error) => isAppError(error, code) && (kind === undefined || error.data['kind'] === kind));
}
