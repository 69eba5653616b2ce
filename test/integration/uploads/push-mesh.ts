/** Origins with real upload stores and proxies that send them bodies, over real mTLS sockets. */
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { newUploadId, OriginCluster, OriginUploads, UploadSource, type UploadSourceOptions } from '#cluster';
import { type Logger, type Metainfo, type NodeIdentity, nullMeter, peerIdOf, SeededRng, silentLogger } from '#core';
import { OriginServiceService } from '#gen/shoal/origin/v1/origin_service';
import { UploadServiceService } from '#gen/shoal/origin/v1/upload_service';
import { StaticCertificateSource } from '#pki';
import { MemoryBlobStore, UploadStore } from '#storage';
import { ChannelPool } from '#wire';
import { BlobsInUse } from '../../../services/origin/blobs-in-use.ts';
import { uploadHandlers } from '../../../services/origin/upload-handlers.ts';
import { UploadKeeper } from '../../../services/origin/upload-keeper.ts';
import { MemoryOrigin } from '../../support/cluster-mesh.ts';
import { tempDir } from '../../support/storage-fixtures.ts';
import { Mesh, realClock, type TestServer } from '../wire/mesh.ts';

const deps = { clock: realClock, logger: silentLogger, meter: nullMeter };

/** Takes over finished uploads as a disk would. */
export class PushOrigin {
  readonly id: string;
  readonly root: string;
  /** What the other origins ask of it. */
  readonly ingests = new MemoryOrigin();
  readonly queued: string[] = [];
  store = new MemoryBlobStore({ capacityBytes: 1e9 }, deps);
  served: TestServer | undefined;
  uploads: UploadStore | undefined;

  constructor(id: string, root: string) {
    this.id = id;
    this.root = root;
  }
}

export interface PushProxy {
  readonly uploads: OriginUploads;
  readonly source: UploadSource;
  readonly server: TestServer;
}

export class PushMesh {
  readonly mesh: Mesh;
  readonly origins: readonly PushOrigin[];
  readonly #test: TestContext;

  private constructor(mesh: Mesh, origins: readonly PushOrigin[], test: TestContext) {
    this.mesh = mesh;
    this.origins = origins;
    this.#test = test;
  }

  static async open(test: TestContext, originCount = 3): Promise<PushMesh> {
    const root = await tempDir(test);
    const origins = Array.from({ length: originCount }, (_, index) => new PushOrigin(`o${index + 1}`, join(root, `o${index + 1}`)));
    const mesh = new PushMesh(await Mesh.open(test), origins, test);
    // Ports first: each origin must know the others.
    for (const origin of origins) await mesh.#serve(origin);
    return mesh;
  }

  get members(): readonly { readonly id: string; readonly endpoint: string }[] {
    return this.origins.map(({ id, served }) => ({ id, endpoint: served?.target.endpoint ?? '127.0.0.1:1' }));
  }

  /** The origin that an upload is at. */
  originOf(id: string): PushOrigin {
    const found = this.origins.find((origin) => newUploadId(origin.id).slice(0, 13) === id.slice(0, 13));
    if (found === undefined) throw new Error(`no origin for ${id}`);
    return found;
  }

  /** Ends an origin; its disk stays. */
  async stop(origin: PushOrigin): Promise<void> {
    await origin.served?.server.drain({ graceMs: 0 });
    await origin.uploads?.[Symbol.asyncDispose]();
  }

  /** Starts an origin again where it was. */
  async restart(origin: PushOrigin): Promise<void> {
    await this.stop(origin);
    await this.#serve(origin, origin.served?.port);
  }

  async proxy(id: string, options: UploadSourceOptions = {}, logger: Logger = silentLogger): Promise<PushProxy> {
    const source = new UploadSource(options, deps);
    const server = await this.mesh.serve({ role: 'proxy', id }, (wire) => source.attach(wire), {}, undefined, { logger });
    const channels = await this.pool({ role: 'proxy', id });
    const origins = this.#cluster(channels);
    const uploads = new OriginUploads({ advertise: `:${server.port}` }, { ...deps, channels, origins, source, rng: new SeededRng(1) });
    return { uploads, source, server };
  }

  async pool(identity: NodeIdentity): Promise<ChannelPool> {
    const certificates = new StaticCertificateSource(await this.mesh.material(identity));
    const pool = new ChannelPool({}, { certificates, ...deps });
    this.#test.after(async () => pool[Symbol.asyncDispose]());
    return pool;
  }

  #cluster(channels: ChannelPool, self?: string): OriginCluster {
    const more = self === undefined ? {} : { self };
    const cluster = new OriginCluster(
      { members: this.members, replicas: 2, probe: 'suspects', ...more },
      { ...deps, channels, rng: new SeededRng(2) },
    );
    this.#test.after(async () => cluster[Symbol.asyncDispose]());
    return cluster;
  }

  async #serve(origin: PushOrigin, port = 0): Promise<void> {
    const identity: NodeIdentity = { role: 'origin', id: origin.id };
    const uploads = await UploadStore.open({ root: origin.root, newId: () => newUploadId(origin.id) }, deps);
    origin.uploads = uploads;
    this.#test.after(async () => uploads[Symbol.asyncDispose]());
    const channels = await this.pool(identity);
    const peer = { seed: () => undefined };
    const blobs = {
      ingest: async ({ metainfo }: { readonly metainfo: Metainfo }) => {
        origin.queued.push(metainfo.digest);
        return { writtenBack: false };
      },
    };
    const self = { peer: peerIdOf(identity), endpoint: ':7', complete: true };
    let cluster: OriginCluster | undefined;
    // Made with the first commit, when every origin has its port.
    const ingest: OriginCluster['ingest'] = async (...order) => {
      cluster ??= this.#cluster(channels, origin.id);
      return cluster.ingest(...order);
    };
    const keeper = new UploadKeeper({
      uploads,
      store: origin.store,
      peer,
      origins: { ingest },
      keeper: blobs,
      inUse: new BlobsInUse(),
      channels,
      self,
      clock: realClock,
    });
    origin.served = await this.mesh.serve(
      identity,
      (server) => {
        server.addService('shoal.origin.v1.UploadService', UploadServiceService, uploadHandlers({ uploads, keeper }));
        server.addService('shoal.origin.v1.OriginService', OriginServiceService, origin.ingests.handlers());
      },
      { port },
    );
  }
}
