/**
 * Where things lie below a store's root. One file draws the layout; nothing else builds a path.
 *
 *     <root>/                        of a DiskBlobStore
 *       blobs/<alg>/<2 hex>/<hex>    complete blobs; a file appears here only by rename, after its whole digest was verified
 *       partial/<alg>-<hex>          sparse files of the full size, filled piece by piece
 *       partial/<number>.tmp         a small blob on its way in; removed at the next start
 *       db/                          LMDB: metainfo, sizes, pins, last use, bitfields of partial blobs, state of the last stop
 *
 *     <root>/                        of a FileBackend
 *       blobs/<alg>/<2 hex>/<hex>    blobs
 *       tmp/<uuid>                   writes under way; removed a day later
 *
 *     <root>/                        of an UploadStore
 *       <uuid>.json                  a session: repository, algorithm, start
 *       <uuid>.data                  its bytes so far; the file's size is the offset
 *       <uuid>.blob                  a second name of the data of a finished session, on its way to a blob store
 */
import { join } from 'node:path';
import { algorithmOf, type Digest, hexOf, isDigest } from '#core';

/** The folders of a blob tree, in digest order. */
export const algorithmDirs = ['sha256', 'sha512'] as const;

/** The folders below each of {@link algorithmDirs}, in order. */
export const shardNames: readonly string[] = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

export function blobsDir(root: string): string {
  return join(root, 'blobs');
}

/** The folder that holds a blob's file. */
export function blobShardDir(root: string, digest: Digest): string {
  return join(blobsDir(root), algorithmOf(digest), hexOf(digest).slice(0, 2));
}

export function blobPath(root: string, digest: Digest): string {
  return join(blobShardDir(root, digest), hexOf(digest));
}

export function partialDir(root: string): string {
  return join(root, 'partial');
}

export function partialPath(root: string, digest: Digest): string {
  return join(partialDir(root), `${algorithmOf(digest)}-${hexOf(digest)}`);
}

/** The digest behind a file name of `partial/`, or undefined for anything else. */
export function digestOfPartialName(name: string): Digest | undefined {
  const text = name.replace('-', ':');
  return isDigest(text) ? text : undefined;
}

export function dbDir(root: string): string {
  return join(root, 'db');
}

export function backendTmpDir(root: string): string {
  return join(root, 'tmp');
}

export function uploadHeaderPath(root: string, id: string): string {
  return join(root, `${id}.json`);
}

export const handoverSuffix = '.blob';

export function uploadHandoverPath(root: string, id: string): string {
  return join(root, `${id}${handoverSuffix}`);
}

export function uploadDataPath(root: string, id: string): string {
  return join(root, `${id}.data`);
}
