/**
 * Many engines in one process, in virtual time. Hosts have an uplink and a downlink that carry pieces one after another, pairs of
 * hosts a latency; a tracker with the shipped roster hands out peers. One seed, one run.
 */
import {
  assert,
  type Bitfield,
  type Digest,
  type Metainfo,
  type PeerId,
  Bitfield as Pieces,
  parsePeerId,
  pieceSize,
  SeededRng,
} from '#core';
import { type Effect, type LinkId, Roster, type RosterOptions, Swarm, type SwarmEvent, type SwarmOptions, swarmOptions } from '#swarm';
import { EventHeap } from './event-heap.ts';

export interface NetworkOptions {
  readonly seed: number;
  /** One way, between any two hosts. */
  readonly latencyMs: number;
  readonly swarm?: Partial<SwarmOptions>;
  readonly roster?: Partial<RosterOptions>;
}

export interface HostOptions {
  readonly name: string;
  readonly upBytesPerSec: number;
  readonly downBytesPerSec: number;
  /** Every piece it serves is wrong. */
  readonly corrupt?: boolean;
}

/** One exchange stream: `client` downloads from `server`. */
interface Connection {
  readonly client: SwarmHost;
  readonly server: SwarmHost;
  readonly clientLink: LinkId;
  readonly digest: Digest;
  serverLink: LinkId;
  open: boolean;
}

/** One simulated host and what was counted on it. */
export interface SwarmHost {
  readonly index: number;
  readonly peer: PeerId;
  readonly swarm: Swarm;
  readonly options: HostOptions;
  readonly connections: Map<LinkId, Connection>;
  readonly requestedBytes: Map<LinkId, number>;
  readonly verifiedCounts: Map<Digest, Uint8Array>;
  readonly completedMs: Map<Digest, number>;
  readonly stalledMs: number[];
  alive: boolean;
  upFreeMs: number;
  downFreeMs: number;
  timerMs: number;
  sentBytes: number;
  receivedBytes: number;
  droppedBytes: number;
  corruptCount: number;
  dialCount: number;
  refusedCount: number;
  outboundPeak: number;
  inFlightBytesPeak: number;
}

type NetworkEvent =
  | { readonly kind: 'apply'; readonly host: SwarmHost; readonly event: SwarmEvent }
  | { readonly kind: 'flow'; readonly connection: Connection; readonly piece: number; readonly sizeBytes: number; readonly endMs: number }
  | { readonly kind: 'timer'; readonly host: SwarmHost }
  | { readonly kind: 'dial'; readonly connection: Connection }
  | { readonly kind: 'to-client'; readonly connection: Connection; readonly event: SwarmEvent }
  | { readonly kind: 'to-server'; readonly connection: Connection; readonly event: SwarmEvent }
  | { readonly kind: 'closed'; readonly host: SwarmHost; readonly link: LinkId; readonly failed: boolean }
  | {
      readonly kind: 'announce';
      readonly host: SwarmHost;
      readonly digest: Digest;
      readonly complete: boolean;
      readonly peersWanted: number;
    }
  | { readonly kind: 'call'; readonly call: () => void };

const verifyMs = 0.5;

export class SwarmNetwork {
  readonly hosts: SwarmHost[] = [];
  readonly roster: Roster;
  nowMs = 0;
  eventCount = 0;
  readonly #options: NetworkOptions;
  readonly #swarmOptions: SwarmOptions;
  readonly #heap = new EventHeap<NetworkEvent>();
  readonly #byPeer = new Map<PeerId, SwarmHost>();
  readonly #metainfos = new Map<Digest, Metainfo>();

  constructor(options: NetworkOptions) {
    this.#options = options;
    this.#swarmOptions = swarmOptions(options.swarm);
    this.roster = new Roster(options.roster ?? {}, { rng: new SeededRng(options.seed * 7919 + 1) });
  }

  addHost(options: HostOptions): SwarmHost {
    const index = this.hosts.length;
    const peer = parsePeerId(options.name);
    const host: SwarmHost = {
      index,
      peer,
      swarm: new Swarm(this.#swarmOptions, { self: peer, rng: new SeededRng(this.#options.seed * 65537 + index) }),
      options,
      connections: new Map(),
      requestedBytes: new Map(),
      verifiedCounts: new Map(),
      completedMs: new Map(),
      stalledMs: [],
      alive: true,
      upFreeMs: 0,
      downFreeMs: 0,
      timerMs: Number.POSITIVE_INFINITY,
      sentBytes: 0,
      receivedBytes: 0,
      droppedBytes: 0,
      corruptCount: 0,
      dialCount: 0,
      refusedCount: 0,
      outboundPeak: 0,
      inFlightBytesPeak: 0,
    };
    this.hosts.push(host);
    this.#byPeer.set(peer, host);
    this.roster.apply({ type: 'peer-joined', peer, session: 1, endpoint: `${options.name}:1` });
    return host;
  }

  seed(host: SwarmHost, metainfo: Metainfo): void {
    this.#metainfos.set(metainfo.digest, metainfo);
    this.at(this.nowMs, () => this.apply(host, { type: 'blob-seeded', metainfo }));
  }

  want(host: SwarmHost, metainfo: Metainfo, atMs = 0, have: Bitfield = new Pieces(metainfo.pieceCount)): void {
    this.#metainfos.set(metainfo.digest, metainfo);
    this.at(atMs, () => this.apply(host, { type: 'blob-wanted', metainfo, have }));
  }

  /** Runs `call` at a time. */
  at(timeMs: number, call: () => void): void {
    this.#heap.push(timeMs, { kind: 'call', call });
  }

  /** The host vanishes: its streams break, or with `silent` just say nothing more. */
  kill(host: SwarmHost, how: { readonly silent?: boolean } = {}): void {
    host.alive = false;
    this.roster.apply({ type: 'peer-left', peer: host.peer, session: 1 });
    for (const connection of Array.from(host.connections.values())) {
      if (how.silent === true) continue;
      this.#disconnect(connection, host, true);
    }
  }

  /** Runs until nothing is left to do, `done` says so, or the time is up. */
  run(limitMs: number, done: () => boolean = () => false): void {
    while (this.#heap.nextMs <= limitMs && !done()) {
      this.nowMs = this.#heap.nextMs;
      this.eventCount += 1;
      this.#handle(this.#heap.pop());
    }
  }

  /** Applies an event on a host now and carries out the effects. */
  apply(host: SwarmHost, event: SwarmEvent): void {
    if (!host.alive) return;
    for (const effect of host.swarm.apply(event, Math.floor(this.nowMs))) this.#perform(host, effect);
    this.#arm(host);
  }

  #handle(event: NetworkEvent): void {
    switch (event.kind) {
      case 'call':
        event.call();
        break;
      case 'apply':
        this.apply(event.host, event.event);
        break;
      case 'timer':
        if (event.host.timerMs <= this.nowMs) {
          event.host.timerMs = Number.POSITIVE_INFINITY;
          this.apply(event.host, { type: 'tick' });
        }
        break;
      case 'dial':
        this.#dialled(event.connection);
        break;
      case 'flow':
        this.#flow(event);
        break;
      case 'to-client':
        this.#toClient(event.connection, event.event);
        break;
      case 'to-server':
        if (event.connection.open) this.apply(event.connection.server, event.event);
        break;
      case 'closed':
        this.apply(event.host, { type: 'link-closed', link: event.link, failed: event.failed });
        break;
      case 'announce':
        this.#announced(event.host, event.digest, event.complete, event.peersWanted);
        break;
    }
  }

  #arm(host: SwarmHost): void {
    const deadlineMs = host.swarm.nextDeadlineMs();
    if (deadlineMs === undefined || deadlineMs >= host.timerMs) return;
    host.timerMs = Math.max(deadlineMs, Math.floor(this.nowMs) + 1);
    this.#heap.push(host.timerMs, { kind: 'timer', host });
  }

  #perform(host: SwarmHost, effect: Effect): void {
    switch (effect.type) {
      case 'dial':
        this.#dial(host, effect.link, effect.peer, effect.digest);
        break;
      case 'request':
        this.#countRequests(host, effect.link, effect.pieces);
        this.#send(host, effect.link, (connection) => ({ type: 'pieces-requested', link: connection.serverLink, pieces: effect.pieces }));
        break;
      case 'cancel':
        for (const piece of effect.pieces) this.#uncount(host, effect.link, piece);
        this.#send(host, effect.link, (connection) => ({ type: 'pieces-cancelled', link: connection.serverLink, pieces: effect.pieces }));
        break;
      case 'accept': {
        const have = effect.have.clone();
        this.#send(host, effect.link, (connection) => ({ type: 'link-accepted', link: connection.clientLink, have }));
        break;
      }
      case 'refuse':
        host.refusedCount += 1;
        this.#send(host, effect.link, ({ clientLink }) => ({
          type: 'link-refused',
          link: clientLink,
          reason: effect.reason,
          retryAfterMs: effect.retryAfterMs,
        }));
        host.connections.delete(effect.link);
        break;
      case 'refuse-piece':
        this.#send(host, effect.link, ({ clientLink }) => ({
          type: 'piece-refused',
          link: clientLink,
          piece: effect.piece,
          reason: effect.reason,
        }));
        break;
      case 'tell-have':
        this.#send(host, effect.link, ({ clientLink }) => ({ type: 'peer-has', link: clientLink, pieces: effect.pieces }));
        break;
      case 'serve-piece':
        this.#transmit(host, effect.link, effect.digest, effect.piece);
        break;
      case 'write-piece':
        this.#write(host, effect.link, effect.digest, effect.piece);
        break;
      case 'drop-piece':
        host.droppedBytes += this.#sizeOf(effect.digest, effect.piece);
        break;
      case 'close': {
        const connection = host.connections.get(effect.link);
        if (connection !== undefined) this.#disconnect(connection, host, false);
        break;
      }
      case 'announce':
        this.#heap.push(this.nowMs + this.#options.latencyMs, { ...effect, kind: 'announce', host });
        break;
      case 'stalled':
        host.stalledMs.push(this.nowMs);
        break;
      case 'complete':
        host.completedMs.set(effect.digest, this.nowMs);
        break;
    }
  }

  #dial(client: SwarmHost, clientLink: LinkId, peer: PeerId, digest: Digest): void {
    client.dialCount += 1;
    const server = this.#byPeer.get(peer);
    if (server?.alive !== true) {
      this.#heap.push(this.nowMs + 2 * this.#options.latencyMs, { kind: 'closed', host: client, link: clientLink, failed: true });
      return;
    }
    const connection: Connection = { client, server, clientLink, digest, serverLink: -1, open: true };
    client.connections.set(clientLink, connection);
    let outbound = 0;
    for (const other of client.connections.values()) if (other.client === client && other.digest === digest) outbound += 1;
    client.outboundPeak = Math.max(client.outboundPeak, outbound);
    this.#heap.push(this.nowMs + this.#options.latencyMs, { kind: 'dial', connection });
  }

  #dialled(connection: Connection): void {
    const { server, client, clientLink, digest } = connection;
    if (!connection.open) return;
    if (!server.alive) {
      client.connections.delete(clientLink);
      this.#heap.push(this.nowMs + this.#options.latencyMs, { kind: 'closed', host: client, link: clientLink, failed: true });
      return;
    }
    connection.serverLink = server.swarm.newLink();
    server.connections.set(connection.serverLink, connection);
    this.apply(server, { type: 'link-requested', link: connection.serverLink, digest, peer: client.peer });
  }

  /** Sends a message to the other end of a link. */
  #send(from: SwarmHost, link: LinkId, message: (connection: Connection) => SwarmEvent): void {
    const connection = from.connections.get(link);
    if (connection === undefined) return;
    const kind = connection.client === from ? 'to-server' : 'to-client';
    this.#heap.push(this.nowMs + this.#options.latencyMs, { kind, connection, event: message(connection) });
  }

  #toClient(connection: Connection, event: SwarmEvent): void {
    const { client } = connection;
    if (!connection.open || !client.alive) return;
    if (event.type === 'link-refused') {
      connection.open = false;
      client.connections.delete(connection.clientLink);
    }
    if (event.type === 'piece-received') client.receivedBytes += event.sizeBytes;
    if (event.type === 'piece-received' || event.type === 'piece-refused') this.#uncount(client, connection.clientLink, event.piece);
    this.apply(client, event);
  }

  /** The piece waits for the uplink. */
  #transmit(server: SwarmHost, link: LinkId, digest: Digest, piece: number): void {
    const connection = server.connections.get(link);
    // The other end has gone; the news of it is still under way.
    if (connection === undefined) return;
    const sizeBytes = this.#sizeOf(digest, piece);
    const startMs = Math.max(this.nowMs, server.upFreeMs);
    server.upFreeMs = startMs + (sizeBytes * 1000) / server.options.upBytesPerSec;
    server.sentBytes += sizeBytes;
    this.#heap.push(startMs, { kind: 'flow', connection, piece, sizeBytes, endMs: server.upFreeMs });
  }

  /** The piece flows, and is received as fast as the downlink takes it. */
  #flow({ connection, piece, sizeBytes, endMs }: Extract<NetworkEvent, { kind: 'flow' }>): void {
    const { client, clientLink, serverLink } = connection;
    const { latencyMs } = this.#options;
    const landMs = Math.max(client.downFreeMs, this.nowMs + latencyMs) + (sizeBytes * 1000) / client.options.downBytesPerSec;
    const arrivesMs = Math.max(endMs + latencyMs, landMs);
    client.downFreeMs = landMs;
    const sent: SwarmEvent = { type: 'piece-sent', link: serverLink, piece, sizeBytes };
    this.#heap.push(Math.max(endMs, arrivesMs - latencyMs), { kind: 'to-server', connection, event: sent });
    this.#heap.push(arrivesMs, { kind: 'to-client', connection, event: { type: 'piece-received', link: clientLink, piece, sizeBytes } });
  }

  #write(host: SwarmHost, link: LinkId, digest: Digest, piece: number): void {
    const server = host.connections.get(link)?.server;
    assert(server !== undefined, 'a piece comes over a connection');
    if (server.options.corrupt === true) {
      host.corruptCount += 1;
      const event: SwarmEvent = { type: 'piece-corrupt', digest, piece, peer: server.peer };
      this.#heap.push(this.nowMs + verifyMs, { kind: 'apply', host, event });
      return;
    }
    let counts = host.verifiedCounts.get(digest);
    if (counts === undefined) {
      counts = new Uint8Array(this.#metainfoOf(digest).pieceCount);
      host.verifiedCounts.set(digest, counts);
    }
    counts[piece] = (counts[piece] ?? 0) + 1;
    this.#heap.push(this.nowMs + verifyMs, { kind: 'apply', host, event: { type: 'piece-verified', digest, piece } });
  }

  #disconnect(connection: Connection, by: SwarmHost, failed: boolean): void {
    const { client, server, clientLink, serverLink } = connection;
    if (!connection.open) return;
    connection.open = false;
    client.connections.delete(clientLink);
    client.requestedBytes.delete(clientLink);
    server.connections.delete(serverLink);
    const host = by === client ? server : client;
    const link = by === client ? serverLink : clientLink;
    if (link >= 0) this.#heap.push(this.nowMs + this.#options.latencyMs, { kind: 'closed', host, link, failed });
  }

  #announced(host: SwarmHost, digest: Digest, complete: boolean, peersWanted: number): void {
    if (!host.alive) return;
    const haveCount = host.swarm.transfers().find((transfer) => transfer.digest === digest)?.verifiedCount ?? 0;
    this.roster.apply({ type: 'blob-announced', peer: host.peer, session: 1, digest, complete, haveCount });
    if (peersWanted === 0) return;
    const peers = this.roster.handout(digest, host.peer, peersWanted);
    this.#heap.push(this.nowMs + this.#options.latencyMs, { kind: 'apply', host, event: { type: 'peers-offered', digest, peers } });
  }

  #countRequests(host: SwarmHost, link: LinkId, pieces: readonly number[]): void {
    const connection = host.connections.get(link);
    if (connection === undefined) return;
    let bytes = host.requestedBytes.get(link) ?? 0;
    for (const piece of pieces) bytes += this.#sizeOf(connection.digest, piece);
    host.requestedBytes.set(link, bytes);
    assert(bytes <= this.#swarmOptions.inFlightBytesPerLink, 'a link stays within its bytes in flight');
    let total = 0;
    for (const each of host.requestedBytes.values()) total += each;
    host.inFlightBytesPeak = Math.max(host.inFlightBytesPeak, total);
  }

  #uncount(host: SwarmHost, link: LinkId, piece: number): void {
    const connection = host.connections.get(link);
    const bytes = host.requestedBytes.get(link);
    if (connection !== undefined && bytes !== undefined)
      host.requestedBytes.set(link, Math.max(0, bytes - this.#sizeOf(connection.digest, piece)));
  }

  #sizeOf(digest: Digest, piece: number): number {
    return pieceSize(this.#metainfoOf(digest), piece);
  }

  #metainfoOf(digest: Digest): Metainfo {
    const metainfo = this.#metainfos.get(digest);
    assert(metainfo !== undefined, 'a blob of this network');
    return metainfo;
  }
}
