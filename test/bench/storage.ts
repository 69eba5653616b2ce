/**
 * How fast the blob store moves bytes: fills a blob piece by piece (in order and shuffled), commits it and reads it back.
 * Prints MB/s and CPU seconds per GB. `node --import tsx test/bench/storage.ts [sizeMiB] [folder]`, 1024 MiB by default.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Clock, nullMeter, SeededRng, shuffle, silentLogger } from '#core';
import { DiskBlobStore, readRange } from '#storage';
import { bigBlob, pieceOf, type TestBlob } from '../support/storage-fixtures.ts';

const mib = 1024 * 1024;
/** Pieces written at once: as many as a downloader has on the way from its links. */
const writersCount = 4;

const clock: Clock = {
  nowMs: () => Math.round(performance.now()),
  wallMs: () => Date.now(),
  after: (delayMs, fn) => {
    const timer = setTimeout(fn, delayMs).unref();
    return () => clearTimeout(timer);
  },
  sleep: (delayMs) => new Promise((resolve) => setTimeout(resolve, delayMs)),
};

async function measure(name: string, sizeBytes: number, work: () => Promise<void>): Promise<void> {
  const cpu = process.cpuUsage();
  const startMs = performance.now();
  await work();
  const seconds = (performance.now() - startMs) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  const rate = sizeBytes / 1e6 / seconds;
  const cpuPerGb = (user + system) / 1e6 / (sizeBytes / 1e9);
  process.stdout.write(`${name.padEnd(48)} ${rate.toFixed(0).padStart(6)} MB/s  ${cpuPerGb.toFixed(2).padStart(5)} CPU-s/GB\n`);
}

async function fill(store: DiskBlobStore, blob: TestBlob, order: readonly number[], fsync: boolean): Promise<void> {
  await using partial = await store.openPartial(blob.metainfo);
  let at = 0;
  const writer = async (): Promise<void> => {
    for (let index = order[at++]; index !== undefined; index = order[at++]) await partial?.writePiece(index, pieceOf(blob, index));
  };
  await Promise.all(Array.from({ length: writersCount }, writer));
  await partial?.commit({ fsync });
}

async function read(store: DiskBlobStore, blob: TestBlob): Promise<void> {
  await using reader = await store.open(blob.metainfo.digest);
  if (reader === undefined) throw new Error('the blob is gone');
  const range = { startByte: 0, endByte: blob.bytes.byteLength };
  for await (const _ of readRange(reader, range, { signal: new AbortController().signal, chunkBytes: mib }));
}

const sizeBytes = Number(process.argv[2] ?? 1024) * mib;
const root = await mkdtemp(join(process.argv[3] ?? tmpdir(), 'shoal-bench-'));
try {
  const blob = bigBlob(sizeBytes);
  const { digest, pieceCount, pieceLengthBytes } = blob.metainfo;
  process.stdout.write(`${sizeBytes / mib} MiB in ${pieceCount} pieces of ${pieceLengthBytes / mib} MiB\n`);
  const inOrder = Array.from({ length: pieceCount }, (_, index) => index);
  const shuffled = shuffle([...inOrder], new SeededRng(1));
  await using store = await DiskBlobStore.open({ root, capacityBytes: 4 * sizeBytes }, { clock, logger: silentLogger, meter: nullMeter });
  for (const [name, order, fsync] of [
    ['warm-up: the system finds memory for the pages', inOrder, false],
    ['writePiece in order + commit', inOrder, false],
    ['writePiece shuffled + commit', shuffled, false],
    ['writePiece shuffled + commit with fsync', shuffled, true],
  ] as const) {
    await store.delete(digest);
    await measure(name, sizeBytes, () => fill(store, blob, order, fsync));
  }
  await measure('readRange in chunks of 1 MiB', sizeBytes, () => read(store, blob));
} finally {
  await rm(root, { recursive: true, force: true });
}
