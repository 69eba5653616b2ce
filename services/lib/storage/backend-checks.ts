/** The checks and errors that every backend shares. */
import { AppError, type ByteRange, type Digest } from '#core';

export function backendNotFound(digest: Digest): AppError {
  return new AppError('not-found', 'the storage backend has no such blob', { data: { kind: 'blob', digest } });
}

/** A body that was shorter or longer than announced; nothing was stored. */
export function wrongSize(expectedBytes: number, gotBytes: number): AppError {
  return new AppError('data-loss', `the blob to store was announced with ${expectedBytes} bytes but had ${gotBytes}; read it again`, {
    data: { expectedBytes, gotBytes },
  });
}

/** The whole blob without a range. Throws `out-of-range` for a range that does not lie inside it. */
export function rangeWithin(range: ByteRange | undefined, sizeBytes: number): ByteRange {
  if (range === undefined) return { startByte: 0, endByte: sizeBytes };
  if (range.startByte < 0 || range.endByte > sizeBytes || range.startByte > range.endByte) {
    throw new AppError('out-of-range', `the range does not lie inside the blob's ${sizeBytes} bytes; ask for its size first`);
  }
  return range;
}
