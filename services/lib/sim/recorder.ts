/** What happened when: the completion curve, and the graph of links around the origins. */
import type { SimHost } from './host.ts';
import type { SimNetwork } from './network.ts';

/** The state at one moment. */
export interface Sample {
  readonly timeMs: number;
  /** Share of the bytes that are wanted and verified, 0 to 1. */
  readonly bytesShare: number;
  /** Share of the hosts that have everything, 0 to 1. */
  readonly hostsShare: number;
  readonly linkCount: number;
  readonly originBytes: number;
}

export interface GraphNode {
  readonly name: string;
  readonly origin: boolean;
  /** Share of the pieces it has, 0 to 1. */
  readonly haveShare: number;
}

/** The links among some hosts at one moment; `from` serves `to`, both count from zero in `nodes`. */
export interface GraphFrame {
  readonly timeMs: number;
  readonly nodes: readonly GraphNode[];
  readonly links: readonly { readonly from: number; readonly to: number; readonly sending: boolean }[];
}

/** More nodes than that are a ball of wool. */
const nodeCountMax = 60;

export class Recorder {
  readonly samples: Sample[] = [];
  readonly frames: GraphFrame[] = [];
  readonly #network: SimNetwork;
  readonly #origins: readonly SimHost[];
  readonly #wantedBytes: number;
  readonly #pieceCount: number;

  constructor(network: SimNetwork, origins: readonly SimHost[], wanted: { readonly sizeBytes: number; readonly pieceCount: number }) {
    this.#network = network;
    this.#origins = origins;
    this.#wantedBytes = wanted.sizeBytes;
    this.#pieceCount = wanted.pieceCount;
  }

  sample(hostsShare: number): void {
    const { nowMs, verifiedBytes, openLinkCount } = this.#network;
    let originBytes = 0;
    for (const { sentBytes } of this.#origins) originBytes += sentBytes;
    this.samples.push({ timeMs: nowMs, bytesShare: verifiedBytes / this.#wantedBytes, hostsShare, linkCount: openLinkCount, originBytes });
  }

  /** The hosts nearest to the origins by links, and the links among them. */
  frame(): void {
    const order = [...this.#origins];
    const at = new Map<SimHost, number>(order.map((host, index) => [host, index]));
    for (let next = 0; next < order.length; next += 1) {
      for (const { client, server } of order[next]?.connections.values() ?? []) {
        const other = client === order[next] ? server : client;
        if (order.length >= nodeCountMax || at.has(other)) continue;
        at.set(other, order.length);
        order.push(other);
      }
    }
    const links = order.flatMap((server, from) =>
      Array.from(server.connections.values()).flatMap((connection) => {
        const to = at.get(connection.client);
        return connection.server !== server || to === undefined ? [] : [{ from, to, sending: connection.flows.length > 0 }];
      }),
    );
    this.frames.push({ timeMs: this.#network.nowMs, nodes: order.map((host) => this.#node(host)), links });
  }

  #node(host: SimHost): GraphNode {
    const origin = this.#origins.includes(host);
    let haveCount = 0;
    for (const counts of host.verifiedCounts.values()) for (const count of counts) if (count > 0) haveCount += 1;
    return { name: host.peer, origin, haveShare: origin ? 1 : haveCount / this.#pieceCount };
  }
}
