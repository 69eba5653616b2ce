/**
 * The chunks of `UploadSourceService.ReadChunk`, gathered where they are sent from. The layout is the one of `ReadChunkResponse{data}`: the header
 * (`0A <length>`, a varint) is written right before the bytes.
 */
import { assert } from '#core';
import { UploadSourceServiceService } from '#gen/shoal/proxy/v1/upload_source_service';
import { writeByteBefore, writeVarintBefore } from './varint.ts';

/** A message costs as much as copying some 100 KiB; bodies come in chunks of at most 64 KiB. */
export const chunkSizeBytesMax = 256 * 1024;
/** A tag of one byte and a varint of at most five. */
const headerRoomBytes = 6;
const tagOfData = 0x0a;
/** One message fills the transport while the next one is gathered. */
const waitingCountMax = 2;
/** When a frame is asked for, one message at most waits for the transport; the frames of those before it are free, and one is to spare. */
const framesOfBody = waitingCountMax + 1;

/** A message that is being gathered. */
export class ChunkFrame {
  // Not from Node's shared pool: a frame lives as long as the transport needs it.
  readonly #bytes: Buffer;
  #endByte = headerRoomBytes;

  /** Room for `sizeBytes`, at most {@link chunkSizeBytesMax}. */
  constructor(sizeBytes: number = chunkSizeBytesMax) {
    assert(sizeBytes > 0 && sizeBytes <= chunkSizeBytesMax, 'a message has its bounds');
    this.#bytes = Buffer.allocUnsafeSlow(headerRoomBytes + sizeBytes);
  }

  get sizeBytes(): number {
    return this.#bytes.byteLength - headerRoomBytes;
  }

  clear(): this {
    this.#endByte = headerRoomBytes;
    return this;
  }

  get isEmpty(): boolean {
    return this.#endByte === headerRoomBytes;
  }

  get isFull(): boolean {
    return this.#endByte === this.#bytes.byteLength;
  }

  /** Copies as much as fits; returns how many bytes that were. */
  add(bytes: Uint8Array): number {
    const taken = Math.min(bytes.byteLength, this.#bytes.byteLength - this.#endByte);
    this.#bytes.set(taken === bytes.byteLength ? bytes : bytes.subarray(0, taken), this.#endByte);
    this.#endByte += taken;
    return taken;
  }

  /** The encoded message: a view of the frame's memory. Nothing is added afterwards, until it is cleared. */
  encode(): Buffer {
    assert(!this.isEmpty, 'a chunk has bytes');
    const start = writeVarintBefore(this.#bytes, headerRoomBytes, this.#endByte - headerRoomBytes);
    return this.#bytes.subarray(writeByteBefore(this.#bytes, start, tagOfData), this.#endByte);
  }
}

/** The frames of one body, which take turns: V8 collects garbage after every 64 MiB that were allocated beside its heap. */
export class ChunkFrames {
  #frames: ChunkFrame[] = [];
  #turn = 0;

  /** An empty frame for `sizeBytes`. Its bytes were those of the message three before, which must have been written; see `rawUploadSourceService`. */
  next(sizeBytes: number): ChunkFrame {
    if (this.#frames[0] !== undefined && this.#frames[0].sizeBytes !== sizeBytes) this.#frames = [];
    this.#turn = (this.#turn + 1) % framesOfBody;
    const used = this.#frames[this.#turn];
    if (used !== undefined) return used.clear();
    const frame = new ChunkFrame(sizeBytes);
    this.#turn = this.#frames.push(frame) - 1;
    return frame;
  }
}

/** `UploadSourceService` for its server, whose handler yields encoded messages. */
export const rawUploadSourceService = {
  readChunk: {
    ...UploadSourceServiceService.readChunk,
    responseSerialize: (encoded: Buffer): Buffer => encoded,
    responseDeserialize: (encoded: Buffer): Buffer => encoded,
    responsesWaitingMax: waitingCountMax,
  },
};
