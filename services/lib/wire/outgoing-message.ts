/** Messages that are encoded where their bytes are, and copied once: into the memory that grpc-js makes for a message and its prefix. */
import { giveBack } from '#core';

/**
 * What a serializer may hand to grpc-js instead of a Buffer: of that it asks `byteLength`, and then to be copied behind the prefix. A test fails
 * when a later grpc-js asks for more.
 */
export class OutgoingMessage {
  readonly byteLength: number;
  #parts: readonly Uint8Array[];
  readonly #copied: () => void;
  #copy: Buffer | undefined;

  /** `copied` is called when the parts are not needed any more. */
  constructor(parts: readonly Uint8Array[], copied: () => void) {
    this.#parts = parts;
    this.#copied = copied;
    this.byteLength = parts.reduce((sum, part) => sum + part.byteLength, 0);
  }

  /** Called by grpc-js, once. */
  copy(target: Buffer, targetStart: number): number {
    let at = targetStart;
    for (const part of this.#parts) {
      target.set(part, at);
      at += part.byteLength;
    }
    this.#parts = [];
    this.#copy = target;
    this.#copied();
    return at - targetStart;
  }

  /** The transport has written the message, without an error. */
  written(): void {
    if (this.#copy !== undefined) giveBack(this.#copy);
    this.#copy = undefined;
  }
}

/** The serializer of methods whose handlers send encoded messages. */
export const serializeOutgoing = (message: OutgoingMessage | Buffer): Buffer => message as Buffer;
