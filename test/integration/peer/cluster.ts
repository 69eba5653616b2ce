/** Several PeerNodes in one process on real mutual-TLS sockets, with one tracker in memory. Everything ends with the test. */
import type { TestContext } from 'node:test';
import { type Logger, type Meter, type NodeIdentity, nullMeter, peerIdOf, SeededRng, silentLogger } from '#core';
import { type NetworkEvents, PeerNode, type PeerOptions } from '#peer';
import { type Authority, createAuthority, issueLeaf, parseTlsMaterial, StaticCertificateSource } from '#pki';
import { SystemClock } from '#runtime';
import { type BlobStore, DiskBlobStore, MemoryBlobStore } from '#storage';
import type { PeerOffer, TransferSnapshot } from '#swarm';
import { type MemoryDirectory, MemoryTracker } from '#test/support/memory-directory';
import type { TestBlob } from '#test/support/storage-fixtures';
import { ChannelPool, type PeerHandlers, WireServer } from '#wire';

export const clock = new SystemClock();
const capacityBytes = 2 ** 34;

export interface NodeSetup {
  readonly options?: PeerOptions;
  /** Memory by default. */
  readonly store?: BlobStore;
  /** Complete blobs it begins with. */
  readonly blobs?: readonly TestBlob[];
  /** It is one of the owners of every blob. */
  readonly owner?: boolean;
  readonly logger?: Logger;
  readonly meter?: Meter;
  readonly events?: NetworkEvents;
}

export interface TestNode {
  readonly identity: NodeIdentity;
  readonly node: PeerNode;
  readonly store: BlobStore;
  readonly server: WireServer;
  readonly pool: ChannelPool;
  readonly directory: MemoryDirectory;
  readonly offer: PeerOffer;
  /** Ends it as a dead process would: connections break. */
  kill(): Promise<void>;
}

export class PeerCluster {
  readonly tracker = new MemoryTracker();
  readonly #authority: Authority;
  readonly #test: TestContext;
  #seed = 1;

  private constructor(authority: Authority, test: TestContext) {
    this.#authority = authority;
    this.#test = test;
  }

  static async open(test: TestContext): Promise<PeerCluster> {
    return new PeerCluster(await createAuthority({ cluster: 'test' }, { clock }), test);
  }

  async certificates(identity: NodeIdentity): Promise<StaticCertificateSource> {
    const { certPem, keyPem } = await issueLeaf(this.#authority, { identity }, { clock });
    return new StaticCertificateSource(parseTlsMaterial({ caPem: this.#authority.certPem, certPem, keyPem }, clock.wallMs()));
  }

  async node(identity: NodeIdentity, setup: NodeSetup = {}): Promise<TestNode> {
    const certificates = await this.certificates(identity);
    const store = setup.store ?? new MemoryBlobStore({ capacityBytes }, { clock });
    for (const { bytes, metainfo } of setup.blobs ?? []) {
      if (store.stat(metainfo.digest) === undefined) await fill(store, { bytes, metainfo });
      this.tracker.publish(metainfo);
    }
    const logger = setup.logger ?? silentLogger;
    const meter = setup.meter ?? nullMeter;
    const directory = this.tracker.join(identity);
    const pool = new ChannelPool({}, { certificates, clock, logger, meter });
    this.#seed += 1;
    const node = await PeerNode.open(setup.options ?? {}, {
      self: identity,
      store,
      channels: pool,
      directory,
      clock,
      rng: new SeededRng(this.#seed),
      logger,
      meter,
      ...(setup.events === undefined ? {} : { events: setup.events }),
    });
    const server = new WireServer({ host: '127.0.0.1', port: 0 }, { certificates, clock, logger, meter });
    node.attach(server);
    const { port } = await server.listen();
    directory.endpoint = `127.0.0.1:${port}`;
    const offer: PeerOffer = { peer: peerIdOf(identity), endpoint: directory.endpoint, complete: (setup.blobs ?? []).length > 0 };
    if (setup.owner === true) this.tracker.owners.push(offer);
    const kill = async (): Promise<void> => {
      await server[Symbol.asyncDispose]();
      await node[Symbol.asyncDispose]();
      pool.close();
    };
    this.#test.after(async () => {
      await kill();
      await store[Symbol.asyncDispose]();
    });
    return { identity, node, store, server, pool, directory, offer, kill };
  }

  /** A server that answers exchanges as `handlers` say, offered to everybody as an owner with everything. */
  async impostor(identity: NodeIdentity, handlers: PeerHandlers): Promise<PeerOffer> {
    const certificates = await this.certificates(identity);
    const server = new WireServer({ host: '127.0.0.1', port: 0 }, { certificates, clock, logger: silentLogger, meter: nullMeter });
    server.addPeerService(handlers);
    const { port } = await server.listen();
    this.#test.after(async () => server[Symbol.asyncDispose]());
    return { peer: peerIdOf(identity), endpoint: `127.0.0.1:${port}`, complete: true };
  }
}

export async function diskStore(root: string): Promise<DiskBlobStore> {
  return await DiskBlobStore.open({ root, capacityBytes }, { clock, logger: silentLogger, meter: nullMeter });
}

/** Makes a blob complete in a store. */
export async function fill(store: BlobStore, { bytes, metainfo }: TestBlob): Promise<void> {
  const partial = await store.openPartial(metainfo);
  if (partial === undefined) return;
  for (let piece = 0; piece < metainfo.pieceCount; piece += 1) {
    const start = piece * metainfo.pieceLengthBytes;
    await partial.writePiece(piece, bytes.subarray(start, Math.min(bytes.byteLength, start + metainfo.pieceLengthBytes)));
  }
  await partial.commit({ fsync: false });
  await partial[Symbol.asyncDispose]();
}

/** Each test waits at most this long for the network. */
export function deadline(): AbortSignal {
  return AbortSignal.timeout(30_000);
}

export async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(Uint8Array.from(chunk));
  return Buffer.concat(parts);
}

export function transferOf(node: TestNode, blob: TestBlob): TransferSnapshot | undefined {
  return node.node.transfers().find(({ digest }) => digest === blob.metainfo.digest);
}

/** Pieces that a node took from each peer. */
export function piecesFrom(node: TestNode, blob: TestBlob): Map<string, number> {
  return new Map(transferOf(node, blob)?.sources.map(({ peer, pieceCount }) => [peer, pieceCount]));
}
