/**
 * The messages of `UploadSourceService.ReadChunk`, gathered where they are sent from. The layout is the one of `ReadChunkResponse{data}`: a header
 * (`0A <length>`, a varint) before the bytes.
 */
import { assert, giveBack } from '#core';
import { UploadSourceServiceService } from '#gen/shoal/proxy/v1/upload_source_service';
import { OutgoingMessage, serializeOutgoing } from './outgoing-message.ts';
import { writeByteBefore, writeVarintBefore } from './varint.ts';

/** A tag of one byte and a varint of at most five. */
const headerRoomBytes = 6;
const tagOfData = 0x0a;

/** A message that is being gathered. What is added belongs to it: its memory is given back when the message is on its way. */
export class ChunkMessage {
  readonly #parts: Uint8Array[] = [];
  #sizeBytes = 0;

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  add(bytes: Uint8Array): void {
    this.#parts.push(bytes);
    this.#sizeBytes += bytes.byteLength;
  }

  /** Nothing is added afterwards. */
  encode(): OutgoingMessage {
    assert(this.#sizeBytes > 0, 'a chunk has bytes');
    const header = Buffer.alloc(headerRoomBytes);
    const start = writeByteBefore(header, writeVarintBefore(header, headerRoomBytes, this.#sizeBytes), tagOfData);
    return new OutgoingMessage([header.subarray(start), ...this.#parts], () => {
      for (const part of this.#parts) giveBack(part);
    });
  }
}

/** `UploadSourceService` for its server, whose handler yields encoded messages. One fills the transport while the next one is gathered. */
export const rawUploadSourceService = {
  readChunk: {
    ...UploadSourceServiceService.readChunk,
    responseSerialize: serializeOutgoing,
    responseDeserialize: (encoded: Buffer): OutgoingMessage => new OutgoingMessage([encoded], () => undefined),
    responsesWaitingMax: 2,
  },
};
