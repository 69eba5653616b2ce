/** A directory whose updates are told as network events. */
import type { PeerDirectory } from '#cluster';
import type { NetworkEvents } from './network-events.ts';

/** `directory`, with an event for each thing a tracker is told. Disposing it disposes `directory`. */
export function watchedDirectory(directory: PeerDirectory, events: NetworkEvents): PeerDirectory {
  return {
    lookup: (digest, options) => directory.lookup(digest, options),
    askOwners: (digest, options) => directory.askOwners(digest, options),
    onOffer: (listener) => directory.onOffer(listener),
    owners: (digest) => directory.owners(digest),
    update: (digest, update) => {
      if (events.active) events.emit({ type: 'announced', digest, ...update });
      directory.update(digest, update);
    },
    [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose](),
  };
}
