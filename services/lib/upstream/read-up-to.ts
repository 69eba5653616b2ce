/** A small body as a whole. */
import { AppError } from '#core';

/** Throws `resource-exhausted` for a body of more than `bytesMax`. */
export async function readUpTo(chunks: AsyncIterable<Uint8Array>, bytesMax: number): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of chunks) {
    sizeBytes += chunk.byteLength;
    if (sizeBytes > bytesMax) {
      throw new AppError('resource-exhausted', `the upstream sent more than ${bytesMax} bytes where less was expected`, {
        data: { kind: 'upstream' },
      });
    }
    parts.push(chunk);
  }
  return Buffer.concat(parts, sizeBytes);
}
