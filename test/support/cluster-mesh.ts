/** Origins that answer from memory and real trackers on loopback, for tests of what stands between them. */
import type { TestContext } from 'node:test';
import { OriginCluster, type OriginClusterOptions, TrackerDirectory } from '#cluster';
import {
  AppError,
  type Digest,
  digestOf,
  type Metainfo,
  MetainfoBuilder,
  type NodeIdentity,
  nullMeter,
  SeededRng,
  silentLogger,
} from '#core';
import { type IngestRequest, OriginServiceService } from '#gen/shoal/origin/v1/origin_service';
import { TrackerServiceService } from '#gen/shoal/tracker/v1/tracker_service';
import { StaticCertificateSource } from '#pki';
import { Ring } from '#placement';
import { ChannelPool, digestFromProto, digestToProto, type Handlers, metainfoFromProto, metainfoToProto } from '#wire';
import { trackerHandlers } from '../../services/tracker/handlers.ts';
import { Mesh, realClock, type TestServer } from '../integration/wire/mesh.ts';

/** A small blob's metainfo; the same text gives the same blob. */
export function blob(text: string): Metainfo {
  const bytes = Buffer.from(text);
  return new MetainfoBuilder().update(bytes).finish(digestOf(bytes));
}

/** An origin without a disk. */
export class MemoryOrigin {
  readonly held = new Map<Digest, Metainfo>();
  /** What an ingest does before it is acknowledged. */
  onIngest: (request: IngestRequest, signal: AbortSignal) => Promise<void> = async () => undefined;
  metainfoCallCount = 0;
  /** Blobs that callers have lost. */
  readonly toldLost: Digest[] = [];

  handlers(): Handlers<typeof OriginServiceService> {
    const unsupported = async (): Promise<never> => {
      throw new AppError('unsupported', 'not part of this test');
    };
    return {
      locate: unsupported,
      statBlob: unsupported,
      listBlobs: async ({ pageSize, pageToken }) => {
        const rest = [...this.held.values()].filter(({ digest }) => digest > pageToken).sort((a, b) => (a.digest < b.digest ? -1 : 1));
        const page = rest.slice(0, pageSize);
        const blobs = page.map(({ digest, sizeBytes }) => ({
          digest: digestToProto(digest),
          sizeBytes: BigInt(sizeBytes),
          writeBackPending: false,
        }));
        return { blobs, nextPageToken: rest.length > page.length ? (page.at(-1)?.digest ?? '') : '' };
      },
      getRing: unsupported,
      listWriteBacks: unsupported,
      getMetainfo: async (request) => {
        this.metainfoCallCount += 1;
        if (request.callerLost) this.toldLost.push(digestFromProto(request.digest));
        const metainfo = this.held.get(digestFromProto(request.digest));
        if (metainfo === undefined) throw new AppError('not-found', 'no such blob', { data: { kind: 'blob' } });
        return { metainfo: metainfoToProto(metainfo) };
      },
      ingest: async (request, { signal }) => {
        await this.onIngest(request, signal);
        const metainfo = metainfoFromProto(request.metainfo);
        this.held.set(metainfo.digest, metainfo);
        return { writtenBack: false };
      },
    };
  }
}

export interface NamedServer extends TestServer {
  readonly id: string;
  readonly endpoint: string;
}

export class ClusterMesh {
  readonly mesh: Mesh;
  readonly origins = new Map<string, MemoryOrigin>();
  readonly originServers: NamedServer[] = [];
  readonly #test: TestContext;

  private constructor(mesh: Mesh, test: TestContext) {
    this.mesh = mesh;
    this.#test = test;
  }

  static async open(test: TestContext, originCount = 3): Promise<ClusterMesh> {
    const cluster = new ClusterMesh(await Mesh.open(test), test);
    for (let i = 1; i <= originCount; i += 1) await cluster.#serveOrigin(`o${i}`);
    return cluster;
  }

  /** The client side of one node. */
  async pool(identity: NodeIdentity): Promise<ChannelPool> {
    const certificates = new StaticCertificateSource(await this.mesh.material(identity));
    const pool = new ChannelPool({}, { certificates, clock: realClock, logger: silentLogger, meter: nullMeter });
    this.#test.after(async () => pool[Symbol.asyncDispose]());
    return pool;
  }

  /** A tracker with its own view of the origins; `port` 0 takes a free one. */
  async serveTracker(id: string, port = 0): Promise<NamedServer> {
    const origins = this.originCluster(await this.pool({ role: 'tracker', id }), {});
    const deps = { origins, clock: realClock, rng: new SeededRng(1), meter: nullMeter };
    const served = await this.mesh.serve(
      { role: 'tracker', id },
      (server) => server.addService('shoal.tracker.v1.TrackerService', TrackerServiceService, trackerHandlers(deps)),
      { port },
    );
    return { ...served, id, endpoint: served.target.endpoint };
  }

  originCluster(channels: ChannelPool, options: Partial<OriginClusterOptions>): OriginCluster {
    const members = this.originServers.map(({ id, endpoint }) => ({ id, endpoint }));
    const deps = { channels, clock: realClock, rng: new SeededRng(2), logger: silentLogger };
    const cluster = new OriginCluster({ members, replicas: 3, probe: 'suspects', ...options }, deps);
    this.#test.after(async () => cluster[Symbol.asyncDispose]());
    return cluster;
  }

  /** A directory of a node that says it serves at `advertise`. Each has a connection of its own. */
  async directory(trackers: readonly NamedServer[], id: string, advertise = '10.0.0.1:7000'): Promise<TrackerDirectory> {
    const channels = await this.pool({ role: 'agent', id });
    const origins = this.originCluster(channels, {});
    const deps = { channels, origins, clock: realClock, rng: new SeededRng(3), logger: silentLogger };
    const members = trackers.map(({ id: tracker, endpoint }) => ({ id: tracker, endpoint }));
    const directory = new TrackerDirectory({ trackers: members, advertise }, deps);
    this.#test.after(async () => directory[Symbol.asyncDispose]());
    return directory;
  }

  /** A blob that every origin holds. */
  publish(text: string): Metainfo {
    const metainfo = blob(text);
    for (const origin of this.origins.values()) origin.held.set(metainfo.digest, metainfo);
    return metainfo;
  }

  async #serveOrigin(id: string): Promise<void> {
    const origin = new MemoryOrigin();
    this.origins.set(id, origin);
    const served = await this.mesh.serve({ role: 'origin', id }, (server) =>
      server.addService('shoal.origin.v1.OriginService', OriginServiceService, origin.handlers()),
    );
    this.originServers.push({ ...served, id, endpoint: served.target.endpoint });
  }
}

/** A published blob whose first tracker is `id`. */
export function publishFor(cluster: ClusterMesh, trackers: readonly NamedServer[], id: string): Metainfo {
  const ring = new Ring(trackers);
  for (let i = 0; ; i += 1) {
    const metainfo = blob(`blob ${i} of ${id}`);
    if (ring.order(metainfo.digest)[0]?.id === id) return cluster.publish(`blob ${i} of ${id}`);
  }
}
