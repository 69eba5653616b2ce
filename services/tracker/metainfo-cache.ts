/**
 * Metainfo of blobs that agents ask for: one question to the owners however many ask, answers kept within a bound of bytes. Absence is never
 * remembered: a blob may be pushed and acknowledged in the next moment, and whoever asks after that must find it.
 */
import { AppError, type Digest, isAppError, type Metainfo } from '#core';

export interface MetainfoCacheOptions {
  /** Bytes of cached metainfo; 64 MiB by default, enough for 2 TiB of blobs in pieces of 1 MiB. */
  readonly sizeBytesMax?: number;
  /** Questions under way at a time; 1,000 by default. */
  readonly flightsMax?: number;
}

export interface MetainfoCacheDeps {
  readonly origins: { getMetainfo(digest: Digest, options: { readonly signal: AbortSignal }): Promise<Metainfo> };
}

/** What an entry costs beside its hashes. */
const overheadBytes = 512;

export class MetainfoCache implements AsyncDisposable {
  readonly #options: Required<MetainfoCacheOptions>;
  readonly #deps: MetainfoCacheDeps;
  /** Least recently used first. */
  readonly #known = new Map<Digest, Metainfo>();
  readonly #flights = new Map<Digest, Promise<Metainfo>>();
  readonly #abort = new AbortController();
  #sizeBytes = 0;

  constructor(options: MetainfoCacheOptions, deps: MetainfoCacheDeps) {
    this.#options = { sizeBytesMax: 64 * 1024 * 1024, flightsMax: 1000, ...options };
    this.#deps = deps;
  }

  /** Bytes of cached metainfo. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Throws `not-found` when the owners have no such blob, `unavailable` when they do not answer or too many questions are under way. */
  async get(digest: Digest): Promise<Metainfo> {
    const known = this.#known.get(digest);
    if (known !== undefined) {
      this.#known.delete(digest);
      this.#known.set(digest, known);
      return known;
    }
    const running = this.#flights.get(digest);
    if (running === undefined) return this.#ask(digest);
    try {
      return await running;
    } catch (error) {
      // That question was older than this one: the blob may have been pushed in between.
      if (!isAppError(error, 'not-found')) throw error;
      return this.#flights.get(digest) ?? this.#ask(digest);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort(new AppError('cancelled', 'the tracker is stopping'));
    await Promise.allSettled(this.#flights.values());
  }

  #ask(digest: Digest): Promise<Metainfo> {
    if (this.#flights.size >= this.#options.flightsMax)
      throw new AppError('unavailable', 'too many blobs are looked up at once; try again');
    const flight = this.#fetch(digest).finally(() => this.#flights.delete(digest));
    this.#flights.set(digest, flight);
    return flight;
  }

  async #fetch(digest: Digest): Promise<Metainfo> {
    const metainfo = await this.#deps.origins.getMetainfo(digest, { signal: this.#abort.signal });
    this.#keep(metainfo);
    return metainfo;
  }

  #keep(metainfo: Metainfo): void {
    this.#known.set(metainfo.digest, metainfo);
    this.#sizeBytes += costOf(metainfo);
    for (const [digest, oldest] of this.#known) {
      if (this.#sizeBytes <= this.#options.sizeBytesMax) return;
      this.#known.delete(digest);
      this.#sizeBytes -= costOf(oldest);
    }
  }
}

function costOf(metainfo: Metainfo): number {
  return metainfo.pieceHashes.byteLength + overheadBytes;
}
