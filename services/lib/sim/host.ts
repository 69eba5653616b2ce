/** What a simulated network is made of: hosts, the exchange streams between them, and pieces under way. */
import { type Digest, type Metainfo, type PeerId, pieceSize } from '#core';
import type { LinkId, Swarm } from '#swarm';
import { Flow, Port } from './fluid.ts';

export interface HostOptions {
  /** `<role>/<id>`. */
  readonly name: string;
  readonly upBytesPerSec: number;
  readonly downBytesPerSec: number;
  /** Every piece it serves is wrong. */
  readonly corrupt?: boolean;
}

/** One simulated host and what was counted on it. Times are virtual milliseconds. */
export class SimHost {
  readonly index: number;
  readonly peer: PeerId;
  readonly swarm: Swarm;
  readonly options: HostOptions;
  readonly up: Port;
  readonly down: Port;
  /** Changed by {@link connect} and {@link disconnect}. */
  readonly connections = new Map<LinkId, Connection>();
  readonly #linkCounts = new Map<Digest, { outbound: number; inbound: number }>();
  /** How often each piece was verified, by blob. */
  readonly verifiedCounts = new Map<Digest, Uint8Array>();
  readonly completedMs = new Map<Digest, number>();
  /** Where its readers are. */
  readonly readPieces = new Map<Digest, number>();
  /** What the trackers were told last: whether it has all of the blob. */
  readonly announced = new Map<Digest, boolean>();
  readonly stalledMs: number[] = [];
  alive = true;
  timerMs = Number.POSITIVE_INFINITY;
  sentBytes = 0;
  receivedBytes = 0;
  /** Received in vain. */
  droppedBytes = 0;
  corruptCount = 0;
  dialCount = 0;
  refusedCount = 0;
  /** Most links at a time on which it downloads one blob. */
  outboundPeak = 0;
  /** Bytes asked for and still to come. */
  inFlightBytes = 0;
  inFlightBytesPeak = 0;

  constructor(index: number, peer: PeerId, swarm: Swarm, options: HostOptions) {
    this.index = index;
    this.peer = peer;
    this.swarm = swarm;
    this.options = options;
    this.up = new Port(options.upBytesPerSec);
    this.down = new Port(options.downBytesPerSec);
  }

  /** Open or dialled links of the blob, on which it downloads. */
  outboundCount(digest: Digest): number {
    return this.#linkCounts.get(digest)?.outbound ?? 0;
  }

  /** Links of the blob that it has heard of, on which it serves. */
  inboundCount(digest: Digest): number {
    return this.#linkCounts.get(digest)?.inbound ?? 0;
  }

  connect(link: LinkId, connection: Connection): void {
    this.connections.set(link, connection);
    this.#count(connection, 1);
  }

  disconnect(link: LinkId, connection: Connection): void {
    if (this.connections.delete(link)) this.#count(connection, -1);
  }

  #count({ client, metainfo }: Connection, change: number): void {
    let counts = this.#linkCounts.get(metainfo.digest);
    if (counts === undefined) {
      counts = { outbound: 0, inbound: 0 };
      this.#linkCounts.set(metainfo.digest, counts);
    }
    counts[client === this ? 'outbound' : 'inbound'] += change;
  }
}

/** One exchange stream: `client` downloads from `server`. */
export class Connection {
  readonly client: SimHost;
  readonly server: SimHost;
  readonly clientLink: LinkId;
  readonly metainfo: Metainfo;
  /** Below 0 until the server has heard of it. */
  serverLink: LinkId = -1;
  open = true;
  /** Pieces asked for, as the client sees it. */
  readonly asked: number[] = [];
  askedBytes = 0;
  readonly flows: PieceFlow[] = [];

  constructor(client: SimHost, server: SimHost, clientLink: LinkId, metainfo: Metainfo) {
    this.client = client;
    this.server = server;
    this.clientLink = clientLink;
    this.metainfo = metainfo;
  }

  /** The client no longer waits for the piece. */
  settle(piece: number): void {
    const at = this.asked.indexOf(piece);
    if (at < 0) return;
    this.asked.splice(at, 1);
    const sizeBytes = pieceSize(this.metainfo, piece);
    this.askedBytes -= sizeBytes;
    this.client.inFlightBytes -= sizeBytes;
  }

  /** The client waits for nothing. */
  settleAll(): void {
    this.client.inFlightBytes -= this.askedBytes;
    this.askedBytes = 0;
    this.asked.length = 0;
  }
}

/** A piece that is being sent. */
export class PieceFlow extends Flow {
  readonly connection: Connection;
  readonly piece: number;
  readonly sizeBytes: number;

  constructor(connection: Connection, piece: number, nowMs: number) {
    const sizeBytes = pieceSize(connection.metainfo, piece);
    super(connection.server.up, connection.client.down, sizeBytes, nowMs);
    this.connection = connection;
    this.piece = piece;
    this.sizeBytes = sizeBytes;
  }
}
