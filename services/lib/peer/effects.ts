/** Carries out what the engine decides: each effect goes to the part that does it. */

import type { PeerDirectory } from '#cluster';
import { assertNever } from '#core';
import type { Effect } from '#swarm';
import type { Downloads } from './downloads.ts';
import type { Engine } from './engine.ts';
import type { InboundLinks } from './inbound-links.ts';
import type { PeerMetrics } from './metrics.ts';
import type { NetworkEvents } from './network-events.ts';
import type { OutboundLinks } from './outbound-links.ts';

export interface EffectParts {
  readonly engine: Engine;
  readonly downloads: Downloads;
  readonly inbound: InboundLinks;
  readonly outbound: OutboundLinks;
  readonly directory: PeerDirectory;
  readonly metrics: PeerMetrics;
  readonly events: NetworkEvents;
}

/** Never throws for operating errors: they come back to the engine as events. */
export function carryOut(effect: Effect, parts: EffectParts): void {
  const { downloads, inbound, outbound } = parts;
  switch (effect.type) {
    case 'dial':
      dial(effect, parts);
      break;
    case 'request':
      outbound.request(effect.link, effect.pieces);
      break;
    case 'cancel':
      outbound.cancel(effect.link, effect.pieces);
      break;
    case 'write-piece':
      write(effect, parts);
      break;
    case 'drop-piece':
      drop(effect, parts);
      break;
    case 'accept':
      inbound.accept(effect.link, effect.have);
      break;
    case 'refuse':
      inbound.refuse(effect.link, effect.reason, effect.retryAfterMs);
      break;
    case 'refuse-piece':
      inbound.refusePiece(effect.link, effect.piece, effect.reason);
      break;
    case 'tell-have':
      inbound.tellHave(effect.link, effect.pieces);
      break;
    case 'serve-piece':
      inbound.serve(effect.link, effect.piece, effect.untilArrived);
      break;
    case 'close':
      inbound.close(effect.link, effect.reason);
      outbound.close(effect.link, effect.reason);
      break;
    case 'announce':
      announce(effect, parts);
      break;
    case 'stalled':
      downloads.get(effect.digest)?.stalled();
      break;
    case 'complete':
      downloads.get(effect.digest)?.completed();
      break;
    default:
      assertNever(effect);
  }
}

function dial(effect: Extract<Effect, { type: 'dial' }>, { engine, downloads, outbound }: EffectParts): void {
  const download = downloads.get(effect.digest);
  if (download?.metainfo === undefined) engine.post({ type: 'link-closed', link: effect.link, failed: false });
  else outbound.dial(effect.link, effect, { pieceCount: download.metainfo.pieceCount, observer: download });
}

function write({ link, digest, piece }: Extract<Effect, { type: 'write-piece' }>, { engine, downloads }: EffectParts): void {
  const download = downloads.get(digest);
  if (download === undefined) engine.post({ type: 'piece-unwritable', digest, piece });
  else download.write(link, piece);
}

function drop({ link, digest, piece }: Extract<Effect, { type: 'drop-piece' }>, { metrics, events, outbound }: EffectParts): void {
  metrics.droppedPieces.add(1);
  if (!events.active) return;
  const peer = outbound.take(link, piece)?.peer;
  if (peer !== undefined) events.emit({ type: 'piece-rejected', digest, peer, direction: 'outbound', piece, reason: 'duplicate' });
}

/** That a blob is complete is told once it is committed; of a blob that is loaded to be served it has been told before. */
function announce({ digest, complete, peersWanted }: Extract<Effect, { type: 'announce' }>, { directory }: EffectParts): void {
  if (!complete) directory.update(digest, { state: 'wanted', peersWanted });
}
