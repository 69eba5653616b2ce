/** What agent and proxy share as gateways: who may use them and how much, from the config to the options of the registry. */
import type { z } from 'zod';
import { AppError, type Clock, type Logger, type Meter } from '#core';
import type { RegistryDeps, RegistryOptions } from '#registry';
import { registryPart } from '#runtime';
import { auditPart, openAuditLog } from './audit-log.ts';
import { type AccessConfig, accessPart } from './config.ts';
import { limitsOf, limitsPart } from './limits-part.ts';
import { openAccessControl } from './open-access.ts';
import { TlsFiles, tlsPart } from './tls-files.ts';

/** Parts of the config file of a gateway, to be spread into its schema. */
export const gatewayParts = {
  registry: registryPart.extend({
    /** Plain HTTP when absent. */
    tls: tlsPart.optional(),
    limits: limitsPart,
  }),
  /** Open to every allowed network when absent. */
  access: accessPart.optional(),
  audit: auditPart,
} as const;

export interface GatewayConfig {
  readonly registry: z.infer<typeof gatewayParts.registry>;
  readonly access?: AccessConfig | undefined;
  readonly audit: z.infer<typeof auditPart>;
}

export interface GatewayDeps {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly meter: Meter;
}

/** What the registry gets from a gateway's config. */
export interface Gateway extends AsyncDisposable {
  readonly options: RegistryOptions;
  readonly deps: Pick<RegistryDeps, 'access' | 'audit'>;
}

/** Opens what the config names. Throws `not-found`, `invalid-argument` or `failed-precondition` when a file is absent or wrong. */
export async function openGateway(config: GatewayConfig, deps: GatewayDeps): Promise<Gateway> {
  const { registry } = config;
  checkCertificateRules(config);
  const tls = registry.tls === undefined ? undefined : await TlsFiles.open(registry.tls, deps);
  const access = config.access === undefined ? undefined : await openAccessControl(config.access, deps);
  const audit = await openAuditLog(config.audit, deps);
  return {
    options: {
      allowedNetworks: registry.allowedNetworks,
      catalogEnabled: registry.catalog,
      limits: limitsOf(registry.limits),
      ...(tls === undefined ? {} : { tls }),
    },
    deps: { ...(access === undefined ? {} : { access: access.control }), ...(audit.record === undefined ? {} : { audit: audit.record }) },
    [Symbol.asyncDispose]: async () => {
      for (const part of [tls, access, audit]) await part?.[Symbol.asyncDispose]();
    },
  };
}

/** A rule for certificates that nobody is asked for is a slip. */
function checkCertificateRules({ registry, access }: GatewayConfig): void {
  const names = access?.rules.flatMap(({ who }) => who) ?? [];
  const members = Object.values(access?.groups ?? {}).flat();
  const word = [...names, ...members].find((text) => text.startsWith('certificate:'));
  if (word === undefined || registry.tls?.clientCaFile !== undefined) return;
  throw new AppError('invalid-argument', `access names ${word}, but no client is asked for a certificate: set registry.tls.clientCaFile`);
}
