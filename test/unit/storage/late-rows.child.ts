/** Saves rows late while the disk takes no more, and later when it does again; see blob-records.test.ts. */
import { type Digest, digestOf, type Metainfo, metainfoOf } from '#core';
import { BlobRecords } from '../../../services/lib/storage/blob-records.ts';

const root = process.argv[2] as string;
const pieceLengthBytes = 256 * 1024;

/** A blob whose metainfo takes 32 bytes a piece. */
function blob(name: string, pieceCount: number): Metainfo {
  const digest: Digest = digestOf(Buffer.from(name));
  return metainfoOf({
    digest,
    sizeBytes: pieceCount * pieceLengthBytes,
    pieceLengthBytes,
    pieceHashes: Buffer.alloc(32 * pieceCount, name),
  });
}

const row = (metainfo: Metainfo, durable: boolean) => ({ sizeBytes: metainfo.sizeBytes, pinned: false, durable, lastUsedMs: 0 });
let refused = (): void => undefined;
const refusal = new Promise<void>((resolve) => {
  refused = resolve;
});
const records = await BlobRecords.open(root, () => refused());
const large: Digest[] = [];
try {
  for (let count = 0; ; count += 1) {
    const metainfo = blob(`large ${count}`, 1000);
    await records.putBlob(metainfo, row(metainfo, true));
    large.push(metainfo.digest);
  }
} catch {
  // As it should be: the disk is full.
}
const late = blob('late', 1000);
await records.putBlobSoon(late, row(late, false));
await refusal;
const listedWhileRefused = [...records.blobKeys(undefined)].includes(late.digest) && records.metainfo(late.digest) !== undefined;
await records.removeAll(large, 'complete', { keepMetainfo: false });
// LMDB uses freed pages two transactions later.
for (let count = 0; count < 3; count += 1) await records.setRun({ bootId: `boot ${count}`, closedCleanly: false });
await records[Symbol.asyncDispose]();

const again = await BlobRecords.open(root, () => undefined);
const saved = [...again.blobRows()].map(([digest, found]) => ({ isLate: digest === late.digest, durable: found?.durable }));
const metainfoSaved = again.metainfo(late.digest)?.pieceCount === late.pieceCount;
await again[Symbol.asyncDispose]();
process.stdout.write(`${JSON.stringify({ largeCount: large.length, listedWhileRefused, saved, metainfoSaved })}\n`);
