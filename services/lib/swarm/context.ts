/** What the parts of one engine share: options, randomness, the effects of the current event, penalties and the intake. */
import type { Digest, PeerId, Rng } from '#core';
import type { Intake } from './intake.ts';
import type { SwarmOptions } from './options.ts';
import type { OutboundLink } from './outbound-link.ts';
import type { PenaltyBook } from './penalty.ts';
import type { Effect, LinkId } from './types.ts';

export interface SwarmContext {
  /** Replaced as a whole by `setOptions`. */
  options: SwarmOptions;
  draining: boolean;
  /** The host reads no pieces for the moment. */
  readingPaused: boolean;
  readonly self: PeerId;
  readonly rng: Rng;
  readonly penalties: PenaltyBook;
  readonly intake: Intake;
  emit(effect: Effect): void;
  /** A fresh id for an outbound link of the blob; events about it go to its download. */
  newLink(digest: Digest): LinkId;
  /** The link is gone; events about it are ignored. */
  forgetLink(link: LinkId): void;
  /** The link has requests to send; they leave in one effect at the end of the event. */
  markAsked(link: OutboundLink): void;
}
