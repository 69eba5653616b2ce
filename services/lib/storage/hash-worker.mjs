/**
 * The thread behind hash-thread.ts: reads files in order and keeps their running hashes. Plain JavaScript without imports of ours, so that it runs as it
 * is, from the sources and from a bundle.
 */
import { createHash } from 'node:crypto';
import { readSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';

const { leafSizeBytes } = workerData;
const buffer = Buffer.allocUnsafeSlow(1024 * 1024);

/** The hashes of one file; those of its leaves only when they are wanted. */
class Hashes {
  sizeBytes = 0;
  #whole;
  #leaves;
  #leaf;

  constructor(algorithm, withLeaves) {
    this.#whole = createHash(algorithm);
    this.#leaves = withLeaves ? [] : undefined;
  }

  update(bytes) {
    this.#whole.update(bytes);
    if (this.#leaves !== undefined) for (let at = 0; at < bytes.byteLength; ) at += this.#updateLeaf(bytes, at);
    this.sizeBytes += bytes.byteLength;
  }

  digest() {
    return this.#whole.copy().digest();
  }

  /** SHA-256 values of 32 bytes each, one after the other. */
  leaves() {
    return Buffer.concat(this.#leaf === undefined ? this.#leaves : [...this.#leaves, this.#leaf.hash.copy().digest()]);
  }

  /** Hashes what belongs to the leaf in which `at` lies; returns how many bytes that were. */
  #updateLeaf(bytes, at) {
    this.#leaf ??= { hash: createHash('sha256'), sizeBytes: 0 };
    const part = bytes.subarray(at, at + leafSizeBytes - this.#leaf.sizeBytes);
    this.#leaf.hash.update(part);
    this.#leaf.sizeBytes += part.byteLength;
    if (this.#leaf.sizeBytes === leafSizeBytes) {
      this.#leaves.push(this.#leaf.hash.digest());
      this.#leaf = undefined;
    }
    return part.byteLength;
  }
}

const files = new Map();

/** Carries out an order (`HashOrder` in hash-thread.ts). */
function carryOut(order) {
  if (order.what === 'start') files.set(order.file, new Hashes(order.algorithm, order.leaves));
  else if (order.what === 'end') files.delete(order.file);
  else {
    const hashes = files.get(order.file);
    if (hashes === undefined) throw new Error('the file was not begun');
    if (order.what === 'read') return read(hashes, order);
    return order.what === 'digest' ? hashes.digest() : hashes.leaves();
  }
  return undefined;
}

function read(hashes, { descriptor, startByte, endByte }) {
  if (hashes.sizeBytes !== startByte) throw new Error('a file is hashed in order');
  for (let at = startByte; at < endByte; ) {
    const count = readSync(descriptor, buffer, 0, Math.min(buffer.byteLength, endByte - at), at);
    if (count === 0) throw new Error(`the file ends at byte ${at} and not at ${endByte}`);
    hashes.update(buffer.subarray(0, count));
    at += count;
  }
  return undefined;
}

parentPort.on('message', (order) => {
  const { ticket } = order;
  try {
    parentPort.postMessage({ ticket, result: carryOut(order) });
  } catch ({ message, code }) {
    // The rest of an error does not get through to another thread.
    parentPort.postMessage({ ticket, failed: { message, code } });
  }
});
