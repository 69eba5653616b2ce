/** TransferService: shows operators the transfers, links, penalties and limits of this node, and changes the limits. */
import { AppError, assertNever, type Clock, identityOf } from '#core';
import {
  LinkDirection,
  type Link as LinkMessage,
  type Penalty as PenaltyMessage,
  PenaltyReason,
  type Transfer as TransferMessage,
  type TransferServiceService,
} from '#gen/shoal/peer/v1/transfer_service';
import type { LinkSnapshot, PenaltySnapshot, TransferSnapshot } from '#swarm';
import { digestFromProto, digestToProto, type Handlers, nodeIdentityToProto, timestampToProto } from '#wire';
import { type Limits, limitsFromProto, limitsToProto } from './limits.ts';
import { type TransferLog, wallTimeOf } from './transfer-log.ts';

const pageSizeDefault = 100;
const pageSizeMax = 1000;
/** Links and penalties come in one answer. */
const listCountMax = 10_000;

/** The handlers of TransferService. */
export function transferHandlers(log: TransferLog, limits: Limits, clock: Clock): Handlers<typeof TransferServiceService> {
  return {
    listTransfers: async ({ pageSize, pageToken }) => {
      if (pageSize > pageSizeMax) throw new AppError('invalid-argument', `page_size must be 0 to ${pageSizeMax}`);
      const count = pageSize === 0 ? pageSizeDefault : pageSize;
      const start = parsePageToken(pageToken);
      const all = log.list();
      const end = Math.min(all.length, start + count);
      return {
        transfers: all.slice(start, end).map((transfer) => transferMessage(transfer, clock)),
        nextPageToken: end < all.length ? `o${end}` : '',
      };
    },
    getTransfer: async (request) => {
      const digest = digestFromProto(request.digest);
      const transfer = log.list().find((other) => other.digest === digest);
      if (transfer === undefined) {
        throw new AppError('not-found', 'this node knows of no transfer of the blob', { data: { kind: 'transfer' } });
      }
      return { transfer: transferMessage(transfer, clock) };
    },
    listLinks: async () => ({
      links: log
        .links()
        .slice(0, listCountMax)
        .map((link) => linkMessage(link, clock)),
    }),
    listPenalties: async () => ({
      penalties: log
        .penalties()
        .slice(0, listCountMax)
        .map((penalty) => penaltyMessage(penalty, clock)),
    }),
    getLimits: async () => ({ limits: limitsToProto(limits.current) }),
    updateLimits: async (request) => {
      const { before, after } = limits.update(limitsFromProto(request.limits));
      return { before: limitsToProto(before), after: limitsToProto(after) };
    },
  };
}

/** A token is the place in the list, which may move by the transfers that end meanwhile. */
function parsePageToken(token: string): number {
  if (token === '') return 0;
  const place = /^o(\d{1,9})$/.exec(token)?.[1];
  if (place === undefined) throw new AppError('invalid-argument', 'page_token must be the next_page_token of an earlier answer');
  return Number(place);
}

function transferMessage(transfer: TransferSnapshot, clock: Clock): TransferMessage {
  const sources = [...transfer.sources].sort((a, b) => b.sizeBytes - a.sizeBytes || (a.peer < b.peer ? -1 : 1));
  return {
    digest: digestToProto(transfer.digest),
    sizeBytes: BigInt(transfer.sizeBytes),
    pieceCount: transfer.pieceCount,
    verifiedCount: transfer.verifiedCount,
    complete: transfer.complete,
    startTime: timestampToProto(wallTimeOf(clock, transfer.startedMs)),
    completeTime: transfer.completedMs === undefined ? undefined : timestampToProto(wallTimeOf(clock, transfer.completedMs)),
    sources: sources.map(({ peer, pieceCount, sizeBytes, corruptCount, duplicateCount }) => ({
      peer: nodeIdentityToProto(identityOf(peer)),
      pieceCount,
      sizeBytes: BigInt(sizeBytes),
      corruptCount,
      duplicateCount,
    })),
    outboundLinkCount: transfer.outboundLinkCount,
    inboundLinkCount: transfer.inboundLinkCount,
    servedBytes: BigInt(transfer.servedBytes),
  };
}

function linkMessage(link: LinkSnapshot, clock: Clock): LinkMessage {
  return {
    digest: digestToProto(link.digest),
    peer: nodeIdentityToProto(identityOf(link.peer)),
    direction: link.direction === 'outbound' ? LinkDirection.OUTBOUND : LinkDirection.INBOUND,
    inFlightCount: link.inFlightCount,
    rateBytesPerSec: BigInt(Math.round(link.rateBytesPerSec)),
    openTime: timestampToProto(wallTimeOf(clock, link.openedMs)),
  };
}

function penaltyMessage(penalty: PenaltySnapshot, clock: Clock): PenaltyMessage {
  return {
    peer: nodeIdentityToProto(identityOf(penalty.peer)),
    reason: penaltyReason(penalty.reason),
    strikeCount: penalty.strikeCount,
    untilTime: timestampToProto(wallTimeOf(clock, penalty.untilMs)),
  };
}

function penaltyReason(reason: PenaltySnapshot['reason']): PenaltyReason {
  switch (reason) {
    case 'corrupt':
      return PenaltyReason.CORRUPT;
    case 'unreachable':
      return PenaltyReason.UNREACHABLE;
    case 'slow':
      return PenaltyReason.SLOW;
    default:
      return assertNever(reason);
  }
}
