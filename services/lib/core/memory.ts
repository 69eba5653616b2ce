/** Gives the memory of large buffers back without V8's collection of garbage. */

/** Buffers below this may be parts of Node's shared pool, and are cheap to collect. */
const sizeBytesMin = 16 * 1024;
/** A port that nobody listens to: what is transferred to it is gone. */
const { port1: sink, port2 } = new MessageChannel();
sink.close();
port2.close();

/**
 * Frees the bytes at once: every view of their memory is empty afterwards. For the only user of bytes that nothing native (a write to a file or a
 * socket) works on any more. V8 runs a collection for each 64 MiB that are allocated beside its heap, and pieces pass by at twenty times that each
 * second; this takes a microsecond. Does nothing to small buffers, and to parts of larger ones since others may have the rest.
 */
export function giveBack({ buffer, byteLength }: Uint8Array): void {
  if (byteLength === buffer.byteLength) free(buffer);
}

/** How many users of shared memory have not given it back. */
const sharers = new WeakMap<ArrayBufferLike, number>();

/** The bytes get one user more: their memory is free when each of them has given it back, or is left to V8 when one does not. */
export function share({ buffer }: Uint8Array): void {
  sharers.set(buffer, (sharers.get(buffer) ?? 1) + 1);
}

/** The most that a message has before its field of bytes: a tag and a length. */
const headerBytesMax = 64;

/** The same for the field of bytes at the end of a message that came: of its memory nobody has more than the header before it. */
export function giveBackMessage({ buffer, byteOffset, byteLength }: Uint8Array): void {
  if (byteOffset <= headerBytesMax && byteOffset + byteLength === buffer.byteLength) free(buffer);
}

function free(buffer: ArrayBufferLike): void {
  if (buffer.byteLength < sizeBytesMin || !(buffer instanceof ArrayBuffer)) return;
  const othersCount = (sharers.get(buffer) ?? 1) - 1;
  if (othersCount > 0) sharers.set(buffer, othersCount);
  else sink.postMessage(undefined, [buffer]);
}
