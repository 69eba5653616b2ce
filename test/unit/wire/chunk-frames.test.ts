import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ReadChunkResponse } from '#gen/shoal/proxy/v1/upload_source_service';
import { ChunkFrame, ChunkFrames, chunkSizeBytesMax } from '#wire';

test('a chunk is encoded as the generated code would encode it', () => {
  const parts = fc.array(fc.oneof(fc.uint8Array({ minLength: 1, maxLength: 300 }), fc.constantFrom(new Uint8Array(70_000).fill(7))), {
    minLength: 1,
    maxLength: 4,
  });
  fc.assert(
    fc.property(parts, (chunks) => {
      const frame = new ChunkFrame();
      let addedBytes = 0;
      const taken = chunks.map((chunk) => {
        const count = frame.add(chunk);
        addedBytes += count;
        return chunk.subarray(0, count);
      });
      assert.equal(
        addedBytes,
        Math.min(
          chunkSizeBytesMax,
          chunks.reduce((sum, { byteLength }) => sum + byteLength, 0),
        ),
      );
      assert.equal(frame.isFull, addedBytes === chunkSizeBytesMax);
      assert.ok(frame.encode().equals(ReadChunkResponse.encode({ data: Buffer.concat(taken) }).finish()));
    }),
    { numRuns: 60 },
  );
});

test('the frames of a body take turns: three of one size, the used one empty again', () => {
  const frames = new ChunkFrames();
  const small = Array.from({ length: 7 }, (_, index) => {
    const frame = frames.next(1000);
    assert.ok(frame.isEmpty);
    frame.add(Buffer.alloc(10, index));
    return { frame, bytes: frame.encode().subarray(-10)[0] };
  });
  assert.deepEqual(
    small.map(({ frame }) => small.findIndex((other) => other.frame === frame)),
    [0, 1, 2, 0, 1, 2, 0],
  );
  assert.deepEqual(
    small.map(({ bytes }) => bytes),
    [0, 1, 2, 3, 4, 5, 6],
  );
  const larger = frames.next(2000);
  assert.equal(larger.sizeBytes, 2000);
  assert.notEqual(frames.next(2000), larger);
});
