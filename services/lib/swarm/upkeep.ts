/** What a running download does from time to time: gives up dead dials, relieves late links, exchanges useless ones, notices a stall. */
import type { SwarmContext } from './context.ts';
import type { Download } from './download.ts';
import type { OutboundLink } from './outbound-link.ts';

/** Late so often in a row, a link is given up. */
const lateCountMax = 3;

/** One round of upkeep; sets when the next one is due. */
export function upkeep(download: Download, context: SwarmContext, nowMs: number): void {
  download.checkMs = nowMs + context.options.checkIntervalMs;
  giveUpDials(download, context, nowMs);
  if (!context.readingPaused) {
    relieveLate(download, context, nowMs);
    exchangeUseless(download, context, nowMs);
    noticeStall(download, context, nowMs);
  }
  download.recruit(nowMs);
  download.maybeAnnounce(nowMs);
  download.fillAll(nowMs);
}

/** The host reads pieces again: the time before is nobody's fault. */
export function readAgain(download: Download, nowMs: number): void {
  download.progressMs = nowMs;
  for (const link of download.links) link.pace.restart(nowMs);
}

function giveUpDials(download: Download, context: SwarmContext, nowMs: number): void {
  for (const link of download.links.slice()) {
    if (link.state !== 'dialing' || nowMs - link.dialledMs < context.options.dialTimeoutMs) continue;
    const untilMs = context.penalties.strike(link.peer, 'unreachable', nowMs, context.options);
    download.candidates.pause(link.candidate, untilMs);
    download.close(link, 'useless', nowMs);
  }
}

/** A link far below the pace of the others loses what it was asked for, if another source can bring it. */
function relieveLate(download: Download, context: SwarmContext, nowMs: number): void {
  for (const link of download.links.slice()) {
    const { requests } = link;
    const [first] = requests;
    if (link.state !== 'open' || first === undefined) continue;
    const waitedMs = nowMs - Math.max(link.pace.clockMs, first.askedMs);
    if (waitedMs <= patienceMs(download, context, link, first.sizeBytes)) continue;
    if (!hasOtherSource(download, link, first.piece, nowMs)) continue;
    link.lateCount += 1;
    link.pace.late(nowMs);
    link.restUntilMs = nowMs + waitedMs;
    for (const { piece } of requests.slice()) {
      download.withdraw(link, piece);
      download.reopen(piece);
    }
    if (link.lateCount < lateCountMax) continue;
    download.candidates.pause(link.candidate, context.penalties.strike(link.peer, 'slow', nowMs, context.options));
    download.close(link, 'slow', nowMs);
  }
}

/** How long a piece may take on this link, by the mean rate of the others. */
function patienceMs(download: Download, context: SwarmContext, link: OutboundLink, sizeBytes: number): number {
  const { slowAfterMs, slowFactor, stallAfterMs } = context.options;
  let rateSum = 0;
  let count = 0;
  for (const other of download.links) {
    if (other === link || other.pace.rateBytesPerSec === 0) continue;
    rateSum += other.pace.rateBytesPerSec;
    count += 1;
  }
  return count === 0 ? stallAfterMs / 2 : Math.max(slowAfterMs, (slowFactor * sizeBytes * count * 1000) / rateSum);
}

function hasOtherSource(download: Download, link: OutboundLink, piece: number, nowMs: number): boolean {
  return download.links.some((other) => other !== link && other.isAskable(nowMs) && other.source.have.has(piece));
}

/** A link that had nothing new for a while makes room for a peer that may have; one a round. Without such a peer, the tracker is asked. */
function exchangeUseless(download: Download, context: SwarmContext, nowMs: number): void {
  let useless: OutboundLink | undefined;
  for (const link of download.links) {
    if (link.state !== 'open') continue;
    const busy = link.requests.length > 0 || download.picker.openCount === 0;
    if (busy || download.picker.usefulCount(link.source) > 0) link.usefulMs = nowMs;
    else if (useless === undefined || link.usefulMs < useless.usefulMs) useless = link;
  }
  if (useless === undefined || nowMs - useless.usefulMs < context.options.uselessAfterMs) return;
  if (!download.candidates.has('ordinary', nowMs)) {
    download.announcer.ask(nowMs);
    return;
  }
  download.candidates.pause(useless.candidate, nowMs + context.options.uselessAfterMs * 4);
  download.close(useless, 'exchanged', nowMs);
}

function noticeStall(download: Download, context: SwarmContext, nowMs: number): void {
  if (download.yielding.isResting(nowMs)) download.progressMs = nowMs;
  const idleMs = nowMs - download.progressMs;
  if (idleMs < context.options.stallAfterMs * (download.stallCount + 1)) return;
  download.stallCount += 1;
  const worst = worstLink(download);
  if (worst !== undefined) {
    download.candidates.pause(worst.candidate, nowMs + context.options.slowPenaltyMs);
    download.close(worst, 'slow', nowMs);
  }
  download.announcer.askNow(nowMs);
  context.emit({ type: 'stalled', digest: download.digest, idleMs });
}

/** The link that has owed a piece for longest, or else was useless for longest. */
function worstLink(download: Download): OutboundLink | undefined {
  let worst: OutboundLink | undefined;
  let worstMs = Number.POSITIVE_INFINITY;
  for (const link of download.links) {
    if (link.state !== 'open') continue;
    const owes = link.requests.length > 0;
    const sinceMs = owes ? link.pace.clockMs - 1e12 : link.usefulMs;
    if (sinceMs < worstMs) {
      worst = link;
      worstMs = sinceMs;
    }
  }
  return worst;
}
