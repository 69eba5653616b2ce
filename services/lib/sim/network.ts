/**
 * Many engines in one process, in virtual time: hosts with an uplink and a downlink, one latency between any two, trackers that
 * hand out peers. One seed, one run. Bandwidth is modelled in fluid.ts; messages cost no bandwidth.
 */
import { assert, assertNever, Bitfield, type Digest, type Metainfo, parsePeerId, pieceSize, SeededRng } from '#core';
import { type Effect, type LinkId, type PeerOffer, type Roster, Swarm, type SwarmEvent, type SwarmOptions, swarmOptions } from '#swarm';
import { Checks } from './checks.ts';
import { EventQueue } from './event-queue.ts';
import { endFlow, type Flow, startFlow } from './fluid.ts';
import { Connection, type HostOptions, PieceFlow, SimHost } from './host.ts';
import { type NetworkOptions, trackerFailoverMs, trackerMessageMs, verifyBytesPerMs, verifyMs } from './network-options.ts';
import { readOn } from './reader.ts';
import { Trackers } from './trackers.ts';

const call = 0;
const applied = 1;
const timer = 2;
const flowing = 3;
const dialled = 4;
const toClient = 5;
const toServer = 6;

type Subject = (() => void) | SimHost | Connection | Flow;

export class SimNetwork {
  readonly hosts: SimHost[] = [];
  readonly checks: Checks;
  readonly trackers: Trackers;
  nowMs = 0;
  eventCount = 0;
  /** Between hosts; pieces are not counted. */
  messageCount = 0;
  /** Of all hosts, ever. */
  verifiedBytes = 0;
  completedCount = 0;
  openLinkCount = 0;
  readonly #options: NetworkOptions;
  readonly #swarmOptions: SwarmOptions;
  readonly #queue: EventQueue<Subject, SwarmEvent>;
  readonly #byPeer = new Map<string, SimHost>();
  readonly #metainfos = new Map<Digest, Metainfo>();
  readonly #schedule = (flow: Flow): void => {
    if (flow.finishMs >= flow.scheduledMs) return;
    flow.scheduledMs = flow.finishMs;
    this.#queue.push(flow.finishMs, flowing, flow);
  };

  constructor(options: NetworkOptions) {
    this.#options = options;
    this.#swarmOptions = swarmOptions(options.swarm);
    this.checks = new Checks(this.#swarmOptions);
    this.#queue = new EventQueue(options.latencyMs);
    this.trackers = new Trackers(
      { count: options.trackerCount ?? 1, seed: options.seed, roster: options.roster ?? {}, messageMs: trackerMessageMs },
      (digest) => this.#owners(digest),
    );
  }

  /** The roster in charge of a blob. */
  roster(digest: Digest): Roster {
    return this.trackers.roster(digest);
  }

  addHost(options: HostOptions): SimHost {
    const index = this.hosts.length;
    const peer = parsePeerId(options.name);
    const swarm = new Swarm(this.#swarmOptions, { self: peer, rng: new SeededRng(this.#options.seed * 65537 + index) });
    const host = new SimHost(index, peer, swarm, options);
    this.hosts.push(host);
    this.#byPeer.set(peer, host);
    this.trackers.join(peer, `${options.name}:1`);
    return host;
  }

  seed(host: SimHost, metainfo: Metainfo): void {
    this.#metainfos.set(metainfo.digest, metainfo);
    this.at(this.nowMs, () => this.apply(host, { type: 'blob-seeded', metainfo, owners: this.#owners(metainfo.digest) }));
  }

  want(host: SimHost, metainfo: Metainfo, atMs = 0, have: Bitfield = new Bitfield(metainfo.pieceCount)): void {
    this.#metainfos.set(metainfo.digest, metainfo);
    this.at(atMs, () => {
      this.apply(host, { type: 'blob-wanted', metainfo, have });
      if (this.#options.reading === true) this.apply(host, readOn(host, metainfo, 0));
    });
  }

  /** Calls `fn` at a time that has not passed. */
  at(timeMs: number, fn: () => void): void {
    this.#queue.push(timeMs, call, fn);
  }

  /** The host vanishes: its streams break, or with `silent` just say nothing more. */
  kill(host: SimHost, how: { readonly silent?: boolean } = {}): void {
    host.alive = false;
    this.trackers.leave(host.peer);
    for (const connection of Array.from(host.connections.values())) {
      if (how.silent === true) this.#abort(connection);
      else this.#disconnect(connection, host, true);
    }
  }

  /** The tracker in charge of a blob vanishes; a little later the next one has heard of everything. */
  killTracker(digest: Digest): void {
    const lost = Array.from(this.#metainfos.keys()).filter((other) => this.trackers.roster(other) === this.trackers.roster(digest));
    this.trackers.kill(digest);
    this.at(this.nowMs + trackerFailoverMs, () => {
      for (const host of this.hosts) {
        for (const other of lost) {
          const complete = host.announced.get(other);
          if (complete !== undefined) this.#announce(host, other, complete, complete ? 0 : this.#swarmOptions.peersWanted);
        }
      }
    });
  }

  /** Runs until nothing is left to do, `done` says so (it is asked after every event), or the time is up. */
  run(limitMs: number, done: () => boolean = () => false): void {
    while (this.#queue.nextMs <= limitMs && !done()) {
      this.nowMs = this.#queue.nextMs;
      this.eventCount += 1;
      this.#handle();
    }
  }

  /** Applies an event on a host now and carries out the effects. */
  apply(host: SimHost, event: SwarmEvent): void {
    if (!host.alive) return;
    for (const effect of host.swarm.apply(event, Math.floor(this.nowMs))) this.#perform(host, effect);
    const deadlineMs = host.swarm.nextDeadlineMs();
    if (deadlineMs === undefined || deadlineMs >= host.timerMs) return;
    host.timerMs = Math.max(deadlineMs, Math.floor(this.nowMs) + 1);
    this.#queue.push(host.timerMs, timer, host);
  }

  #handle(): void {
    const { kind, subject, detail } = this.#queue.next();
    if (typeof subject === 'function') subject();
    else if (subject instanceof Connection) this.#onConnection(subject, kind, detail);
    else if (subject instanceof PieceFlow) this.#onFlow(subject);
    else if (subject instanceof SimHost) this.#onHost(subject, kind, detail);
  }

  #onHost(host: SimHost, kind: number, event: SwarmEvent | undefined): void {
    if (kind === applied && event !== undefined) {
      this.apply(host, event);
      if (event.type === 'piece-verified' && host.readPieces.get(event.digest) === event.piece) {
        this.apply(host, readOn(host, this.#metainfoOf(event.digest), event.piece));
      }
    } else if (host.timerMs <= this.nowMs) {
      host.timerMs = Number.POSITIVE_INFINITY;
      this.apply(host, { type: 'tick' });
    }
  }

  #onConnection(connection: Connection, kind: number, event: SwarmEvent | undefined): void {
    if (!connection.open) return;
    if (kind === dialled) this.#dialled(connection);
    else if (event === undefined) return;
    else if (kind === toServer) this.apply(connection.server, event);
    else this.#toClient(connection, event);
  }

  #perform(host: SimHost, effect: Effect): void {
    switch (effect.type) {
      case 'dial':
        this.#dial(host, effect.link, effect.peer, this.#metainfoOf(effect.digest));
        return;
      case 'announce':
        this.#announce(host, effect.digest, effect.complete, effect.peersWanted);
        return;
      case 'stalled':
        host.stalledMs.push(this.nowMs);
        this.#offer(host, effect.digest, this.#owners(effect.digest));
        return;
      case 'complete':
        host.completedMs.set(effect.digest, this.nowMs);
        this.completedCount += 1;
        return;
      default: {
        const connection = host.connections.get(effect.link);
        // Without one, the other end has gone and the news of it is under way.
        if (connection !== undefined) this.#performOnLink(host, connection, effect);
        return;
      }
    }
  }

  #performOnLink(host: SimHost, connection: Connection, effect: Extract<Effect, { link: LinkId }>): void {
    const { clientLink, serverLink } = connection;
    switch (effect.type) {
      case 'request':
        this.#request(connection, effect.pieces);
        return;
      case 'cancel':
        for (const piece of effect.pieces) connection.settle(piece);
        this.#send(connection, toServer, { type: 'pieces-cancelled', link: serverLink, pieces: effect.pieces });
        return;
      case 'accept':
        this.checks.accepted(connection);
        this.#send(connection, toClient, { type: 'link-accepted', link: clientLink, have: effect.have.clone() });
        return;
      case 'refuse':
        host.refusedCount += 1;
        host.disconnect(effect.link, connection);
        this.#send(connection, toClient, {
          type: 'link-refused',
          link: clientLink,
          reason: effect.reason,
          retryAfterMs: effect.retryAfterMs,
        });
        return;
      case 'refuse-piece':
        this.#send(connection, toClient, { type: 'piece-refused', link: clientLink, piece: effect.piece, reason: effect.reason });
        return;
      case 'tell-have':
        this.#send(connection, toClient, { type: 'peer-has', link: clientLink, pieces: effect.pieces });
        return;
      case 'serve-piece':
        this.#serve(connection, effect.piece);
        return;
      case 'write-piece':
        this.#write(connection, effect.piece);
        return;
      case 'drop-piece':
        host.droppedBytes += pieceSize(connection.metainfo, effect.piece);
        return;
      case 'close':
        this.#disconnect(connection, host, false);
        return;
      case 'dial':
        return;
      default:
        assertNever(effect);
        return;
    }
  }

  #dial(client: SimHost, clientLink: LinkId, peer: string, metainfo: Metainfo): void {
    client.dialCount += 1;
    const server = this.#byPeer.get(peer);
    if (server?.alive !== true) {
      const failed: SwarmEvent = { type: 'link-closed', link: clientLink, failed: true };
      this.#queue.push(this.nowMs + 2 * this.#options.latencyMs, applied, client, failed);
      return;
    }
    const connection = new Connection(client, server, clientLink, metainfo);
    client.connect(clientLink, connection);
    this.openLinkCount += 1;
    this.checks.dialled(connection);
    this.messageCount += 1;
    this.#queue.pushDelayed(this.nowMs, dialled, connection);
  }

  #dialled(connection: Connection): void {
    const { server, client, metainfo } = connection;
    if (!server.alive) {
      this.#disconnect(connection, server, true);
      return;
    }
    connection.serverLink = server.swarm.newLink();
    server.connect(connection.serverLink, connection);
    this.apply(server, { type: 'link-requested', link: connection.serverLink, digest: metainfo.digest, peer: client.peer });
  }

  #send(connection: Connection, kind: number, event: SwarmEvent): void {
    this.messageCount += 1;
    this.#queue.pushDelayed(this.nowMs, kind, connection, event);
  }

  #request(connection: Connection, pieces: readonly number[]): void {
    const { client, asked, metainfo } = connection;
    for (const piece of pieces) {
      const again = asked.includes(piece);
      asked.push(piece);
      connection.askedBytes += pieceSize(metainfo, piece);
      client.inFlightBytes += pieceSize(metainfo, piece);
      this.checks.requested(connection, again);
    }
    this.#send(connection, toServer, { type: 'pieces-requested', link: connection.serverLink, pieces });
  }

  #toClient(connection: Connection, event: SwarmEvent): void {
    const { client } = connection;
    if (!client.alive) return;
    if (event.type === 'link-refused') {
      this.#forget(connection);
      client.disconnect(connection.clientLink, connection);
    } else if (event.type === 'piece-received') {
      client.receivedBytes += event.sizeBytes;
      connection.settle(event.piece);
    } else if (event.type === 'piece-refused') connection.settle(event.piece);
    this.apply(client, event);
  }

  #serve(connection: Connection, piece: number): void {
    const flow = new PieceFlow(connection, piece, this.nowMs);
    connection.flows.push(flow);
    startFlow(flow, this.nowMs, this.#schedule);
  }

  /** A flow should be through by now, unless it slowed down since. */
  #onFlow(flow: PieceFlow): void {
    if (flow.scheduledMs !== this.nowMs) return;
    if (flow.finishMs > this.nowMs) {
      flow.scheduledMs = Number.POSITIVE_INFINITY;
      this.#schedule(flow);
      return;
    }
    const { connection, piece, sizeBytes } = flow;
    const { server, clientLink, serverLink, flows } = connection;
    flow.scheduledMs = Number.POSITIVE_INFINITY;
    endFlow(flow, this.nowMs, this.#schedule);
    flows.splice(flows.indexOf(flow), 1);
    server.sentBytes += sizeBytes;
    this.#queue.pushDelayed(this.nowMs, toClient, connection, { type: 'piece-received', link: clientLink, piece, sizeBytes });
    this.apply(server, { type: 'piece-sent', link: serverLink, piece, sizeBytes });
  }

  #write({ client, server, metainfo }: Connection, piece: number): void {
    const { digest } = metainfo;
    const doneMs = this.nowMs + verifyMs + pieceSize(metainfo, piece) / verifyBytesPerMs;
    if (server.options.corrupt === true) {
      client.corruptCount += 1;
      this.#queue.push(doneMs, applied, client, { type: 'piece-corrupt', digest, piece, peer: server.peer });
      return;
    }
    let counts = client.verifiedCounts.get(digest);
    if (counts === undefined) {
      counts = new Uint8Array(metainfo.pieceCount);
      client.verifiedCounts.set(digest, counts);
    }
    this.checks.verified(client, counts, piece);
    this.verifiedBytes += pieceSize(metainfo, piece);
    this.#queue.push(doneMs, applied, client, { type: 'piece-verified', digest, piece });
  }

  /** The stream ends for `by` now and for the other end when it hears of it. */
  #disconnect(connection: Connection, by: SimHost, failed: boolean): void {
    const { client, server, clientLink, serverLink } = connection;
    if (!connection.open) return;
    this.#forget(connection);
    client.disconnect(clientLink, connection);
    server.disconnect(serverLink, connection);
    const host = by === client ? server : client;
    const link = by === client ? serverLink : clientLink;
    if (link >= 0) this.#queue.pushDelayed(this.nowMs, applied, host, { type: 'link-closed', link, failed });
  }

  #forget(connection: Connection): void {
    connection.open = false;
    this.openLinkCount -= 1;
    connection.settleAll();
    this.#abort(connection);
  }

  /** What is being sent ends half-way. */
  #abort({ flows, server }: Connection): void {
    for (const flow of flows) {
      server.sentBytes += flow.sizeBytes - flow.leftBytes(this.nowMs);
      flow.scheduledMs = Number.POSITIVE_INFINITY;
      endFlow(flow, this.nowMs, this.#schedule);
    }
    flows.length = 0;
  }

  #announce(host: SimHost, digest: Digest, complete: boolean, peersWanted: number): void {
    host.announced.set(digest, complete);
    this.at(this.nowMs + this.#options.latencyMs, () => {
      this.at(this.trackers.acceptMs(digest, this.nowMs), () => {
        if (host.alive) this.#offer(host, digest, this.trackers.announced(host.peer, digest, complete, peersWanted));
      });
    });
  }

  #offer(host: SimHost, digest: Digest, peers: readonly PeerOffer[]): void {
    if (peers.length > 0) this.#queue.pushDelayed(this.nowMs, applied, host, { type: 'peers-offered', digest, peers });
  }

  #owners(digest: Digest): readonly PeerOffer[] {
    return this.#options.owners?.(digest) ?? [];
  }

  #metainfoOf(digest: Digest): Metainfo {
    const metainfo = this.#metainfos.get(digest);
    assert(metainfo !== undefined, 'a blob of this network');
    return metainfo;
  }
}
