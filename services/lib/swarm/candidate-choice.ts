/** Whom a download dials next. */
import type { Candidate, CandidateList } from './candidate-list.ts';
import type { OutboundLink } from './outbound-link.ts';
import type { PenaltyBook } from './penalty.ts';

/**
 * One link goes to somebody who has everything; the rest spread over all others at random. Origins serve those who have no
 * complete source, and take the places that nobody else can fill. Undefined when nobody may be dialled now.
 */
export function chooseCandidate(
  { links, candidates }: { readonly links: readonly OutboundLink[]; readonly candidates: CandidateList },
  penalties: PenaltyBook,
  nowMs: number,
): Candidate | undefined {
  for (;;) {
    const candidate = links.some((link) => link.candidate.complete)
      ? (candidates.pick('ordinary', nowMs) ?? candidates.pick('origin', nowMs))
      : (candidates.pick('complete', nowMs) ?? candidates.pick('origin', nowMs) ?? candidates.pick('any', nowMs));
    if (candidate === undefined) return undefined;
    const untilMs = penalties.untilMs(candidate.peer, nowMs);
    if (untilMs === 0) return candidate;
    candidates.pause(candidate, untilMs);
  }
}
