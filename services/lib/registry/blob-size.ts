/** The limit on the size of a blob while it is being uploaded. */
import type { Call } from './call.ts';
import { RegistryError } from './errors.ts';

/** Watches one chunk. The session may hold bytes before it, so the whole is checked once more afterwards. */
export class SizeLimit {
  readonly #call: Call;
  readonly #startByte: number;
  readonly #sizeBytesMax: number;
  #exceeded: RegistryError | undefined;

  /** Throws `blobTooLarge` when the declared length says so already. */
  constructor(call: Call, startByte: number, sizeBytesMax: number) {
    this.#call = call;
    this.#startByte = startByte;
    this.#sizeBytesMax = sizeBytesMax;
    this.check(startByte + (call.contentLength ?? 0));
  }

  /** The refusal, once the limit was passed; stores may translate what their source throws. */
  get exceeded(): RegistryError | undefined {
    return this.#exceeded;
  }

  /** Throws `blobTooLarge` when the blob has more bytes than the limit. */
  check(sizeBytes: number): void {
    if (sizeBytes <= this.#sizeBytesMax) return;
    this.#exceeded = new RegistryError('blobTooLarge', `the blob is too large: at most ${this.#sizeBytesMax} bytes`);
    throw this.#exceeded;
  }

  /** The body, up to the limit. */
  async *body(): AsyncGenerator<Uint8Array> {
    let sizeBytes = this.#startByte;
    for await (const chunk of this.#call.body()) {
      sizeBytes += chunk.byteLength;
      this.check(sizeBytes);
      yield chunk;
    }
  }
}
