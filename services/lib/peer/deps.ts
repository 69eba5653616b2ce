/** What the peer library needs from others, and no more. */

import type { PeerDirectory } from '#cluster';
import type { Clock, Digest, Logger, Meter, NodeIdentity, Rng } from '#core';
import type { BlobStore } from '#storage';
import type { Client, OutboundExchange, OutboundExchangeEvents, Target, WireService } from '#wire';
import type { NetworkEvents } from './network-events.ts';

/** The part of the wire's channel pool that is used here. */
export interface PeerChannels {
  /** Opens an exchange for one blob. What becomes of it is told by `events`. */
  dialExchange(target: Target, digest: Digest, events: OutboundExchangeEvents): OutboundExchange;
  client<S extends WireService>(service: S, target: Target): Client<S>;
}

export interface PeerNodeDeps {
  readonly self: NodeIdentity;
  readonly store: BlobStore;
  readonly channels: PeerChannels;
  readonly directory: PeerDirectory;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
  readonly meter: Meter;
  /** Where network events go; its own when absent. */
  readonly events?: NetworkEvents;
}
