/** One open blob with several users: the last to release it closes it. */
import { assert, type Logger, type Metainfo, toAppError } from '#core';
import type { ReadableBlob } from '#storage';

export class SharedBlob<B extends ReadableBlob = ReadableBlob> {
  readonly blob: B;
  readonly #logger: Logger;
  #userCount = 1;
  #closed: Promise<void> | undefined;

  /** The maker is the first user. */
  constructor(blob: B, logger: Logger) {
    this.blob = blob;
    this.#logger = logger;
  }

  get metainfo(): Metainfo {
    return this.blob.metainfo;
  }

  retain(): this {
    assert(this.#userCount > 0, 'a closed blob gets no new user');
    this.#userCount += 1;
    return this;
  }

  /** Resolves when the blob is closed if this was the last user, at once otherwise. Never rejects. */
  async release(): Promise<void> {
    assert(this.#userCount > 0, 'a blob is released once by each user');
    this.#userCount -= 1;
    if (this.#userCount > 0) return;
    this.#closed ??= this.#close();
    await this.#closed;
  }

  async #close(): Promise<void> {
    try {
      await this.blob[Symbol.asyncDispose]();
    } catch (error) {
      this.#logger.warn('closing a blob failed', { error: toAppError(error) });
    }
  }
}
