import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ReadChunkResponse } from '#gen/shoal/proxy/v1/upload_source_service';
import { ChunkMessage } from '#wire';

test('a chunk is encoded as the generated code would encode it', () => {
  const parts = fc.array(fc.oneof(fc.uint8Array({ minLength: 1, maxLength: 300 }), fc.constantFrom(new Uint8Array(70_000).fill(7))), {
    minLength: 1,
    maxLength: 4,
  });
  fc.assert(
    fc.property(parts, (chunks) => {
      const expected = ReadChunkResponse.encode({ data: Buffer.concat(chunks) }).finish();
      const gathered = new ChunkMessage();
      // Each is given back when it has been copied.
      for (const chunk of chunks) gathered.add(Uint8Array.from(chunk));
      assert.equal(
        gathered.sizeBytes,
        chunks.reduce((sum, { byteLength }) => sum + byteLength, 0),
      );
      const message = gathered.encode();
      const target = Buffer.alloc(message.byteLength + 5);
      assert.equal(message.copy(target, 5), message.byteLength);
      assert.ok(target.subarray(5).equals(expected));
    }),
    { numRuns: 60 },
  );
});

test('large parts are given back once they are copied, the copy once it is written', () => {
  const part = Buffer.alloc(64 * 1024, 1);
  const gathered = new ChunkMessage();
  gathered.add(part);
  const message = gathered.encode();
  assert.equal(part.byteLength, 64 * 1024);
  const target = Buffer.allocUnsafeSlow(message.byteLength + 5);
  message.copy(target, 5);
  assert.equal(part.byteLength, 0);
  assert.equal(target.at(-1), 1);
  message.written();
  assert.equal(target.byteLength, 0);
});
