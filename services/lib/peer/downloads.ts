/** All downloads of the process: one for a blob however many ask, kept while somebody is interested and for a short grace after. */
import { assert, type Digest, type Metainfo } from '#core';
import type { PeerOffer } from '#swarm';
import { Download, type DownloadDeps, type DownloadOutcome, type DownloadStart } from './download.ts';
import type { ResolvedPeerOptions } from './options.ts';

export interface DownloadsDeps extends Omit<DownloadDeps, 'ended'> {
  /** A download ended; it is out of the map already. */
  readonly ended: (download: Download, outcome: DownloadOutcome) => void;
}

/** Somebody's wish for a blob. Release it once. */
export interface Interest {
  readonly download: Download;
  release(): void;
}

interface Entry {
  readonly download: Download;
  interestCount: number;
  cancelGrace: (() => void) | undefined;
}

export class Downloads {
  readonly #options: ResolvedPeerOptions;
  readonly #deps: DownloadsDeps;
  readonly #entries = new Map<Digest, Entry>();

  constructor(options: ResolvedPeerOptions, deps: DownloadsDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  get count(): number {
    return this.#entries.size;
  }

  get(digest: Digest): Download | undefined {
    return this.#entries.get(digest)?.download;
  }

  /** Joins the download of a blob, or begins it. */
  join(start: DownloadStart): Interest {
    let entry = this.#entries.get(start.digest);
    if (entry === undefined) {
      entry = this.#begin(start);
    } else {
      if (start.fsync) entry.download.requireSync();
      if (start.sources !== undefined) entry.download.offer(start.sources);
    }
    const joined = entry;
    joined.interestCount += 1;
    joined.cancelGrace?.();
    joined.cancelGrace = undefined;
    let released = false;
    return {
      download: joined.download,
      release: () => {
        if (released) return;
        released = true;
        this.#leave(start.digest, joined);
      },
    };
  }

  /** Ends every download; their pieces stay on disk. */
  stopAll(): void {
    for (const { download } of [...this.#entries.values()]) download.stop();
  }

  /** Offers peers to the blob's download, if there is one. */
  offer(digest: Digest, peers: readonly PeerOffer[]): void {
    this.#entries.get(digest)?.download.offer(peers);
  }

  metainfo(digest: Digest): Metainfo | undefined {
    return this.#entries.get(digest)?.download.metainfo;
  }

  #begin(start: DownloadStart): Entry {
    const download = new Download(start, this.#options, {
      ...this.#deps,
      ended: (ended, outcome) => {
        const known = this.#entries.get(start.digest);
        if (known?.download === ended) {
          this.#entries.delete(start.digest);
          known.cancelGrace?.();
        }
        this.#deps.ended(ended, outcome);
      },
    });
    const entry: Entry = { download, interestCount: 0, cancelGrace: undefined };
    this.#entries.set(start.digest, entry);
    return entry;
  }

  #leave(digest: Digest, entry: Entry): void {
    entry.interestCount -= 1;
    assert(entry.interestCount >= 0, 'an interest is released once');
    if (entry.interestCount > 0 || this.#entries.get(digest) !== entry) return;
    entry.cancelGrace = this.#deps.clock.after(this.#options.abandonGraceMs, () => {
      if (entry.interestCount === 0) entry.download.abandon();
    });
  }
}
