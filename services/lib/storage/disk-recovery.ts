/**
 * Brings a blob store's files and rows into agreement at the start. The rule is to trust nothing that is not recorded: a file
 * without a row goes, a row without its file goes, a file of the wrong size goes with its row.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, isDigest, type Logger, type Metainfo } from '#core';
import type { BlobRecords, BlobRow, PartialRow } from './blob-records.ts';
import { makeShards, removeFile } from './files.ts';
import { fsCode } from './fs-errors.ts';
import { algorithmDirs, blobPath, blobsDir, digestOfPartialName, partialDir, partialPath } from './paths.ts';

export interface Recovered {
  /** Least recently used first, partial and complete together. */
  readonly found: readonly RecoveredBlob[];
  /** Everything was synced at the last stop. */
  readonly closedCleanly: boolean;
}

export type RecoveredBlob =
  | ({ readonly state: 'complete'; readonly digest: Digest } & BlobRow)
  | {
      readonly state: 'partial';
      readonly digest: Digest;
      readonly sizeBytes: number;
      readonly lastUsedMs: number;
      readonly verified: boolean;
    };

export interface RecoveryDeps {
  readonly records: BlobRecords;
  readonly logger: Logger;
  readonly bootId: string;
}

/** Files looked at together; enough to keep a disk busy, few enough to leave the thread pool to others. */
const statBatch = 32;

/** Reconciles the store below `root` and says what it holds. Idempotent: a crash in the middle changes nothing. */
export async function recover(root: string, deps: RecoveryDeps): Promise<Recovered> {
  await makeShards(root);
  await mkdir(partialDir(root), { recursive: true });
  const lastRun = deps.records.lastRun();
  const closedCleanly = lastRun?.closedCleanly ?? true;
  // Written bytes are all there when they were synced, or when the machine has not restarted since.
  const trusted = closedCleanly || lastRun?.bootId === deps.bootId;
  const complete = await recoverComplete(root, trusted, deps.records);
  const partial = await recoverPartial(root, trusted, new Set(complete.found.map((blob) => blob.digest)), deps.records);
  const kept = new Set([...complete.found, ...partial.found].map((blob) => blob.digest));
  const unused = [...deps.records.metainfoKeys()].filter((digest) => !kept.has(digest));
  await deps.records.removeAll(unused, 'partial', { keepMetainfo: false });
  const droppedCount = complete.droppedCount + partial.droppedCount;
  if (droppedCount > 0) deps.logger.warn('leftovers of an unclean stop were dropped from the blob store', { droppedCount, trusted });
  const found = [...complete.found, ...partial.found].sort((a, b) => a.lastUsedMs - b.lastUsedMs || (a.digest < b.digest ? -1 : 1));
  return { found, closedCleanly };
}

/** Names the life of this machine's page cache; where the system does not tell, no two runs share one. */
export async function readBootId(): Promise<string> {
  try {
    return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  } catch (error) {
    if (fsCode(error) === undefined) throw error;
    return randomUUID();
  }
}

interface Found {
  readonly found: readonly RecoveredBlob[];
  readonly droppedCount: number;
}

async function recoverComplete(root: string, trusted: boolean, records: BlobRecords): Promise<Found> {
  const found: RecoveredBlob[] = [];
  const dropped: Digest[] = [];
  const sizes = await sizesOfBlobs(root);
  for (const [digest, row] of [...records.blobRows()]) {
    const sizeBytes = sizes.get(digest);
    const whole = row !== undefined && row.sizeBytes === sizeBytes && (row.durable || trusted) && records.metainfo(digest) !== undefined;
    if (whole) {
      sizes.delete(digest);
      found.push({ state: 'complete', digest, ...row });
    } else {
      dropped.push(digest);
    }
  }
  await records.removeAll(dropped, 'complete', { keepMetainfo: true });
  for (const digest of sizes.keys()) await removeFile(blobPath(root, digest));
  return { found, droppedCount: dropped.length + sizes.size };
}

async function recoverPartial(root: string, trusted: boolean, complete: ReadonlySet<Digest>, records: BlobRecords): Promise<Found> {
  const found: RecoveredBlob[] = [];
  let droppedCount = 0;
  const rows = new Map<Digest, PartialRow | undefined>(records.partialRows());
  for (const name of await readdir(partialDir(root))) {
    const digest = digestOfPartialName(name);
    const row = digest === undefined ? undefined : rows.get(digest);
    const metainfo = digest === undefined ? undefined : records.metainfo(digest);
    if (row !== undefined && metainfo !== undefined && !complete.has(metainfo.digest) && (await isWhole(root, metainfo))) {
      rows.delete(metainfo.digest);
      const verified = row.verified && trusted;
      // Kept in the row, or a clean stop before anyone opened the blob would make its pieces trusted.
      if (row.verified && !verified) await records.updatePartial(metainfo.digest, { ...row, verified });
      found.push({ state: 'partial', digest: metainfo.digest, sizeBytes: metainfo.sizeBytes, lastUsedMs: row.lastUsedMs, verified });
    } else {
      droppedCount += 1;
      await removeFile(join(partialDir(root), name));
    }
  }
  await records.removeAll([...rows.keys()], 'partial', { keepMetainfo: true });
  return { found, droppedCount: droppedCount + rows.size };
}

async function isWhole(root: string, metainfo: Metainfo): Promise<boolean> {
  const { size } = await stat(partialPath(root, metainfo.digest));
  return size === metainfo.sizeBytes;
}

/** Sizes of all files of the blob tree. */
async function sizesOfBlobs(root: string): Promise<Map<Digest, number>> {
  const sizes = new Map<Digest, number>();
  for (const algorithm of algorithmDirs) {
    for (const shard of await namesIn(join(blobsDir(root), algorithm))) {
      const digests = (await namesIn(join(blobsDir(root), algorithm, shard))).map((hex) => `${algorithm}:${hex}`).filter(isDigest);
      for (let at = 0; at < digests.length; at += statBatch) {
        const batch = digests.slice(at, at + statBatch).filter((digest) => digest.includes(`:${shard}`));
        const stats = await Promise.all(batch.map((digest) => stat(blobPath(root, digest))));
        for (const [index, digest] of batch.entries()) sizes.set(digest, stats[index]?.size ?? -1);
      }
    }
  }
  return sizes;
}

async function namesIn(path: string): Promise<readonly string[]> {
  try {
    return await readdir(path);
  } catch (error) {
    if (fsCode(error) === 'ENOENT') return [];
    throw error;
  }
}
