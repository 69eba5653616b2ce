/** What every service process stands on: identity, logs, telemetry, certificates, the gRPC server and the channels to others. */
import { AppError, type Clock, type Logger, type Meter, type NodeIdentity, type Rng, type Role, type Tracer } from '#core';
import { CertificateDirectory, type CertificateSource } from '#pki';
import { createLogger, startTelemetry } from '#telemetry';
import { ChannelPool, WireServer } from '#wire';
import { SystemClock, SystemRng } from './clock.ts';
import type { CommonConfig } from './config-parts.ts';
import type { ConfigReload } from './config-reload.ts';
import { parseEndpoint } from './endpoint.ts';
import { Lifecycle } from './lifecycle.ts';
import { NodeDescription } from './node-description.ts';

export interface NodeContext {
  readonly identity: NodeIdentity;
  /** `host:port` under which other nodes reach this one's gRPC server. */
  readonly advertise: string;
  readonly lifecycle: Lifecycle;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly logger: Logger;
  readonly meter: Meter;
  readonly tracer: Tracer;
  readonly certificates: CertificateSource;
  readonly channels: ChannelPool;
  readonly server: WireServer;
  readonly description: NodeDescription;
  /** Takes the parts of the config that can change while the process runs. */
  readonly reload: ConfigReload;
}

/** Opens what a service of `role` needs; nothing listens yet. Throws `not-found` or `failed-precondition` when the certificate is missing or unusable. */
export async function openNode(role: Role, config: CommonConfig, reload: ConfigReload): Promise<NodeContext> {
  const identity: NodeIdentity = { role, id: config.node.id };
  const clock = new SystemClock();
  const rng = new SystemRng();
  const logger = createLogger({ level: config.log.level, pretty: config.log.pretty, name: `${role}/${identity.id}` });
  const lifecycle = new Lifecycle({ graceMs: config.shutdown.grace }, { logger, clock });
  const telemetry = await startTelemetry({
    serviceName: `shoal-${role}`,
    nodeId: identity.id,
    otlpEndpoint: config.telemetry.otlpEndpoint,
  });
  lifecycle.onStop('telemetry', async () => telemetry.shutdown());
  const { meter, tracer } = telemetry;
  const directory = new CertificateDirectory({ root: config.certificates.directory }, { clock });
  const certificates = lifecycle.use('certificates', await directory.watch(identity, { clock, logger, meter }));
  const channels = lifecycle.use('channels', new ChannelPool({}, { certificates, clock, logger, meter, tracer }));
  const server = new WireServer(parseEndpoint(config.grpc.listen), { certificates, clock, logger, meter, tracer });
  const advertise = advertisedEndpoint(config.grpc);
  const description = new NodeDescription({ certificates, clock, reload, logger });
  description.attach(server);
  return { identity, advertise, lifecycle, clock, rng, logger, meter, tracer, certificates, channels, server, description, reload };
}

function advertisedEndpoint(grpc: CommonConfig['grpc']): string {
  const endpoint = grpc.advertise ?? grpc.listen;
  const { host, port } = parseEndpoint(endpoint);
  if (port === 0) throw new AppError('invalid-argument', 'grpc.listen has port 0: name the port, or set grpc.advertise');
  return host === '::' || host === '0.0.0.0' ? `:${port}` : endpoint;
}
