/** What was asked from whom and is still to come. Bounded; a wrong entry is a programmer error and throws. */
import { assert } from '#core';
import type { LinkId } from './types.ts';

/** One request on one link. */
export interface Request {
  readonly piece: number;
  readonly sizeBytes: number;
  readonly askedMs: number;
}

export class RequestLedger {
  readonly #links = new Map<LinkId, Request[]>();
  readonly #requesters: Uint8Array;
  readonly #requestsPerLinkMax: number;
  readonly #requestersPerPieceMax: number;
  #totalBytes = 0;
  #raceCount = 0;
  #requestCount = 0;
  #owingLinkCount = 0;

  constructor(pieceCount: number, bounds: { readonly requestsPerLinkMax: number; readonly requestersPerPieceMax: number }) {
    assert(bounds.requestersPerPieceMax <= 255, 'requesters of a piece are counted in a byte');
    this.#requesters = new Uint8Array(pieceCount);
    this.#requestsPerLinkMax = bounds.requestsPerLinkMax;
    this.#requestersPerPieceMax = bounds.requestersPerPieceMax;
  }

  /** Bytes asked for and not settled, over all links; a piece asked twice counts twice. */
  get totalBytes(): number {
    return this.#totalBytes;
  }

  /** How often a piece was asked from a further source while another owed it. */
  get raceCount(): number {
    return this.#raceCount;
  }

  /** Requests not settled, over all links. */
  get requestCount(): number {
    return this.#requestCount;
  }

  /** Links that owe something. */
  get owingLinkCount(): number {
    return this.#owingLinkCount;
  }

  /** Records a request. The link must not have asked for the piece, and neither bound may be exceeded. */
  add(link: LinkId, piece: number, sizeBytes: number, askedMs: number): void {
    assert(piece >= 0 && piece < this.#requesters.length, 'a requested piece lies inside the blob');
    const requests = this.#of(link);
    assert(requests.length < this.#requestsPerLinkMax, 'a link stays within its number of requests');
    assert(this.#indexOf(requests, piece) < 0, 'a link asks for a piece once');
    const requesters = this.#requesters[piece] ?? 0;
    assert(requesters < this.#requestersPerPieceMax, 'a piece stays within its number of requesters');
    this.#requesters[piece] = requesters + 1;
    if (requesters > 0) this.#raceCount += 1;
    this.#totalBytes += sizeBytes;
    this.#requestCount += 1;
    if (requests.length === 0) this.#owingLinkCount += 1;
    requests.push({ piece, sizeBytes, askedMs });
  }

  /** Removes a request that was answered, refused or cancelled; undefined when the link had not asked. */
  settle(link: LinkId, piece: number): Request | undefined {
    const requests = this.#links.get(link);
    const at = requests === undefined ? -1 : this.#indexOf(requests, piece);
    if (requests === undefined || at < 0) return undefined;
    const [request] = requests.splice(at, 1);
    assert(request !== undefined, 'the request was found');
    if (requests.length === 0) this.#owingLinkCount -= 1;
    this.#forget(request);
    return request;
  }

  /** Removes and returns everything asked on a link, in the order of asking. */
  settleAll(link: LinkId): readonly Request[] {
    const requests = this.#links.get(link) ?? [];
    this.#links.delete(link);
    if (requests.length > 0) this.#owingLinkCount -= 1;
    for (const request of requests) this.#forget(request);
    return requests;
  }

  /** What the link still owes, in the order of asking: the same array until {@link settleAll}. */
  of(link: LinkId): readonly Request[] {
    return this.#of(link);
  }

  /** How many links were asked for the piece. */
  requesterCount(piece: number): number {
    return this.#requesters[piece] ?? 0;
  }

  /** Adds the links that were asked for `piece` to `into`, oldest link first. */
  requestersOf(piece: number, into: LinkId[]): LinkId[] {
    if (this.requesterCount(piece) === 0) return into;
    for (const [link, requests] of this.#links) if (this.#indexOf(requests, piece) >= 0) into.push(link);
    return into;
  }

  #of(link: LinkId): Request[] {
    let requests = this.#links.get(link);
    if (requests === undefined) {
      requests = [];
      this.#links.set(link, requests);
    }
    return requests;
  }

  #indexOf(requests: readonly Request[], piece: number): number {
    for (let at = 0; at < requests.length; at += 1) if (requests[at]?.piece === piece) return at;
    return -1;
  }

  #forget(request: Request): void {
    const requesters = this.#requesters[request.piece] ?? 0;
    assert(requesters > 0, 'a settled piece had a requester');
    this.#requesters[request.piece] = requesters - 1;
    this.#totalBytes -= request.sizeBytes;
    this.#requestCount -= 1;
  }
}
