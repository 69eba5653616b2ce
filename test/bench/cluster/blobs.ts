/** Random blobs of any size, pushed without holding them in memory. */
import { createHash, randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { request } from 'node:http';
import type { ScenarioBlob } from '#sim';

const blockBytes = 4 * 1024 * 1024;

/** A blob that can be read again and again. */
export interface BenchBlob extends ScenarioBlob {
  readonly digest: string;
  chunks(): Iterable<Buffer>;
}

/** Random bytes, no two pieces alike. */
export function randomBlob({ name, sizeBytes }: ScenarioBlob): BenchBlob {
  const block = randomFillSync(Buffer.allocUnsafe(Math.min(blockBytes, sizeBytes)));
  const chunks = function* (): Generator<Buffer> {
    for (let at = 0; at < sizeBytes; at += block.byteLength) {
      const chunk = Buffer.from(block.subarray(0, Math.min(block.byteLength, sizeBytes - at)));
      // The smallest piece is 256 KiB.
      for (let piece = 0; piece + 8 <= chunk.byteLength; piece += 256 * 1024) chunk.writeDoubleLE(at + 1, piece);
      yield chunk;
    }
  };
  const hash = createHash('sha256');
  for (const chunk of chunks()) hash.update(chunk);
  return { name, sizeBytes, digest: `sha256:${hash.digest('hex')}`, chunks };
}

/** Pushes a blob to `host:port`, as docker would. */
export async function pushStream(registry: string, repository: string, blob: BenchBlob): Promise<void> {
  const start = await fetch(`http://${registry}/v2/${repository}/blobs/uploads/`, { method: 'POST' });
  if (start.status !== 202) throw new Error(`the upload to ${registry} was refused: ${start.status} ${await start.text()}`);
  const location = new URL(start.headers.get('location') ?? '', `http://${registry}`);
  location.searchParams.set('digest', blob.digest);
  const put = request(location, {
    method: 'PUT',
    headers: { 'content-length': blob.sizeBytes, 'content-type': 'application/octet-stream' },
  });
  const answered = once(put, 'response');
  for (const chunk of blob.chunks()) if (!put.write(chunk)) await Promise.race([once(put, 'drain'), answered]);
  put.end();
  const [response] = await answered;
  let text = '';
  for await (const chunk of response) text += chunk;
  if (response.statusCode !== 201) throw new Error(`the upload to ${registry} failed: ${response.statusCode} ${text}`);
}
