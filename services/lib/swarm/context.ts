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
  /** Blobs that are wanted and not complete. */
  readonly downloadCount: number;
  /** A blob much smaller than `sizeBytes` is wanted too, and goes first. */
  isPressed(sizeBytes: number, nowMs: number): boolean;
  readonly self: PeerId;
  readonly rng: Rng;
  readonly penalties: PenaltyBook;
  readonly intake: Intake;
  emit(effect: Effect): void;
  newLink(): LinkId;
  /** Events about the link go to the download of the blob. */
  opened(link: OutboundLink, digest: Digest): void;
  /** The link is gone; events about it are ignored. */
  forgetLink(link: LinkId): void;
  /** The link has requests to send; they leave in one effect at the end of the event. */
  markAsked(link: OutboundLink): void;
}
