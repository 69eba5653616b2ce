/** Gives the memory of large buffers back without V8's collection of garbage. */

/** Buffers below this may be parts of Node's shared pool, and are cheap to collect. */
const sizeBytesMin = 16 * 1024;
/** What the memory of a buffer may hold besides it: the prefix of a message. More means that others have parts of the same memory. */
const besideBytesMax = 64;

/** A port that nobody listens to: what is transferred to it is gone. */
const { port1: sink, port2 } = new MessageChannel();
sink.close();
port2.close();

/**
 * Frees the bytes at once: every view of their memory is empty afterwards. For the only user of bytes that nothing native (a write to a file or a
 * socket) works on any more. V8 runs a collection for each 64 MiB that are allocated beside its heap, and pieces pass by at twenty times that each
 * second; this takes a microsecond. Does nothing to small buffers and to parts of larger ones.
 */
export function giveBack({ buffer, byteLength }: Uint8Array): void {
  if (byteLength < sizeBytesMin || buffer.byteLength - byteLength > besideBytesMax || !(buffer instanceof ArrayBuffer)) return;
  sink.postMessage(undefined, [buffer]);
}
