import assert from 'node:assert/strict';
import { test } from 'node:test';
import { giveBack, giveBackMessage, share } from '#core';

const mib = 1024 * 1024;

test('the memory of a buffer is given back at once, and every view of it is empty', () => {
  const bytes = Buffer.allocUnsafeSlow(mib);
  const views = [bytes.subarray(10), new Uint8Array(bytes.buffer, 7, 100)];
  giveBack(bytes);
  assert.deepEqual(
    [bytes, ...views].map(({ byteLength }) => byteLength),
    [0, 0, 0],
  );
});

test('the field of bytes at the end of a message stands for the whole of its memory', () => {
  const message = Buffer.allocUnsafeSlow(mib + 16);
  giveBackMessage(message.subarray(16));
  assert.equal(message.byteLength, 0);
});

test('a message that somebody else may have a part of is left alone', () => {
  const message = Buffer.allocUnsafeSlow(mib);
  for (const part of [message.subarray(16, mib - 1), message.subarray(65), message.subarray(0, mib - 16)]) giveBackMessage(part);
  assert.equal(message.byteLength, mib);
});

test('parts of larger memory, small buffers and shared memory are left alone', () => {
  const whole = Buffer.alloc(mib, 1);
  const kept = [
    whole.subarray(0, mib / 2),
    whole.subarray(0, mib - 40),
    Buffer.alloc(1000, 1),
    Buffer.from('pooled'),
    new Uint8Array(new SharedArrayBuffer(mib)),
  ];
  const sizes = kept.map(({ byteLength }) => byteLength);
  for (const bytes of kept) giveBack(bytes);
  assert.deepEqual(
    kept.map(({ byteLength }) => byteLength),
    sizes,
  );
  assert.equal(whole.byteLength, mib);
});

test('gigabytes pass through without filling the memory', () => {
  const before = process.memoryUsage().arrayBuffers;
  for (let turn = 0; turn < 2000; turn += 1) giveBack(Buffer.allocUnsafeSlow(mib));
  assert.ok(process.memoryUsage().arrayBuffers < before + 8 * mib);
});

test('shared memory is given back by the last of its users', () => {
  const bytes = Buffer.allocUnsafeSlow(mib);
  share(bytes);
  share(bytes);
  giveBack(bytes);
  giveBack(bytes);
  assert.equal(bytes.byteLength, mib);
  giveBack(bytes);
  assert.equal(bytes.byteLength, 0);
});
