/** Answers NodeService: who this node is, how its parts are, and what is new in its config file. */

import type { Clock, Logger } from '#core';
import { NodeServiceService } from '#gen/shoal/node/v1/node_service';
import type { CertificateSource } from '#pki';
import { nodeIdentityToProto, timestampToProto, type WireServer } from '#wire';
import type { ConfigReload } from './config-reload.ts';
import { version } from './version.ts';

/** The state of one part, e.g. the ring. */
export interface ComponentState {
  readonly healthy: boolean;
  readonly message: string;
}

export class NodeDescription {
  readonly #certificates: CertificateSource;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #reload: ConfigReload;
  readonly #startedMs: number;
  readonly #components = new Map<string, () => ComponentState>();
  #usage: () => { readonly usedBytes: number; readonly capacityBytes: number } = () => ({ usedBytes: 0, capacityBytes: 0 });

  constructor(deps: {
    readonly certificates: CertificateSource;
    readonly clock: Clock;
    readonly logger: Logger;
    readonly reload: ConfigReload;
  }) {
    this.#certificates = deps.certificates;
    this.#clock = deps.clock;
    this.#logger = deps.logger;
    this.#reload = deps.reload;
    this.#startedMs = deps.clock.nowMs();
  }

  /** Adds a part; `read` is called for each answer and must be cheap. */
  component(name: string, read: () => ComponentState): void {
    this.#components.set(name, read);
  }

  /** Names the store whose fill is shown. */
  store(store: { usage(): { readonly usedBytes: number; readonly capacityBytes: number } }): void {
    this.#usage = () => store.usage();
  }

  attach(server: WireServer): void {
    server.addService('shoal.node.v1.NodeService', NodeServiceService, {
      getNode: async () => this.#describe(),
      reloadConfig: async () => this.reloadConfig(),
    });
  }

  /** Reads the config file again. Throws `invalid-argument` or `not-found`; nothing is changed then. */
  reloadConfig() {
    const { changes, restartKeys } = this.#reload.reload();
    this.#logger.info('config reloaded', { changes, restartKeys });
    const text = (value: unknown): string => JSON.stringify(value) ?? '';
    return { changes: changes.map(({ key, before, after }) => ({ key, before: text(before), after: text(after) })), restartKeys };
  }

  #describe() {
    const { identity, cluster, notAfterMs } = this.#certificates.current();
    const uptimeMs = this.#clock.nowMs() - this.#startedMs;
    const usage = this.#usage();
    return {
      identity: nodeIdentityToProto(identity),
      cluster,
      version,
      runtimeVersion: process.version,
      uptime: { seconds: BigInt(Math.floor(uptimeMs / 1000)), nanos: (uptimeMs % 1000) * 1e6 },
      certificateExpireTime: timestampToProto(notAfterMs),
      residentBytes: BigInt(process.memoryUsage.rss()),
      storedBytes: BigInt(usage.usedBytes),
      capacityBytes: BigInt(usage.capacityBytes),
      components: [...this.#components].map(([name, read]) => ({ name, ...read() })),
    };
  }
}
