/** Protobuf headers written backwards: right before bytes that are already where they are sent from. */

/** Writes a varint that ends at `end`; returns where it starts. `value` is at most 2^32 - 1. */
export function writeVarintBefore(bytes: Buffer, end: number, value: number): number {
  let length = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) length += 1;
  const start = end - length;
  let rest = value;
  for (let at = start; at < end - 1; at += 1) {
    bytes[at] = (rest % 0x80) | 0x80;
    rest = Math.floor(rest / 0x80);
  }
  bytes[end - 1] = rest;
  return start;
}

export function writeByteBefore(bytes: Buffer, end: number, byte: number): number {
  bytes[end - 1] = byte;
  return end - 1;
}
