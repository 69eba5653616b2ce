/** What must hold in every simulation. Violations are collected with their first occurrence, so that a run can be looked at. */
import type { SwarmOptions } from '#swarm';
import type { Connection, SimHost } from './host.ts';

export interface Violation {
  readonly rule: string;
  /** The first time. */
  readonly example: string;
  readonly count: number;
}

export class Checks {
  readonly #options: SwarmOptions;
  readonly #violations = new Map<string, { example: string; count: number }>();

  constructor(options: SwarmOptions) {
    this.#options = options;
  }

  get violations(): Violation[] {
    return Array.from(this.#violations, ([rule, { example, count }]) => ({ rule, example, count }));
  }

  /** A link was dialled and is among the client's connections. */
  dialled({ client, metainfo }: Connection): void {
    const linkCount = client.outboundCount(metainfo.digest);
    client.outboundPeak = Math.max(client.outboundPeak, linkCount);
    this.#expect(linkCount <= this.#options.outboundLinksPerBlob, 'a host stays within its outbound links of a blob', client);
  }

  accepted({ server, metainfo }: Connection): void {
    const linkCount = server.inboundCount(metainfo.digest);
    this.#expect(linkCount <= this.#options.inboundLinksPerBlob, 'a host stays within its inbound links of a blob', server);
  }

  /** A request left; it is counted already. `again` when the piece was asked for and is still to come. */
  requested({ client, asked, askedBytes, metainfo }: Connection, again: boolean): void {
    const { inFlightBytes, inFlightBytesPerLink, requestQueuePerLink } = this.#options;
    this.#expect(!again, 'a link asks for a piece once', client);
    this.#expect(asked.length <= requestQueuePerLink, 'a link stays within its requests', client);
    this.#expect(
      askedBytes <= Math.max(inFlightBytesPerLink, metainfo.pieceLengthBytes),
      'a link stays within its bytes in flight',
      client,
    );
    this.#expect(
      client.inFlightBytes <= Math.max(inFlightBytes, metainfo.pieceLengthBytes),
      'a host stays within its bytes in flight',
      client,
    );
    client.inFlightBytesPeak = Math.max(client.inFlightBytesPeak, client.inFlightBytes);
  }

  verified(host: SimHost, counts: Uint8Array, piece: number): void {
    const count = (counts[piece] ?? 0) + 1;
    counts[piece] = count;
    this.#expect(count === 1, 'a piece is verified once', host);
  }

  /** The end of a run: everybody alive has everything it wanted. */
  finished(host: SimHost, wantedCount: number): void {
    this.#expect(host.completedMs.size >= wantedCount, 'every host that lives finishes', host);
  }

  #expect(holds: boolean, rule: string, host: SimHost): void {
    if (holds) return;
    const known = this.#violations.get(rule);
    if (known === undefined) this.#violations.set(rule, { example: host.peer, count: 1 });
    else known.count += 1;
  }
}
