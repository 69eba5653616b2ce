/** What agent and proxy share as gateways: who may use them, from the config to the options of the registry. */
import type { Clock, Logger } from '#core';
import type { RegistryDeps } from '#registry';
import { type AccessConfig, accessPart } from './config.ts';
import { openAccessControl } from './open-access.ts';

/** Parts of the config file of a gateway, to be spread into its schema. */
export const gatewayParts = {
  /** Open to every allowed network when absent. */
  access: accessPart.optional(),
} as const;

export interface GatewayConfig {
  readonly access?: AccessConfig | undefined;
}

export interface GatewayDeps {
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What the registry gets from a gateway's config. */
export interface Gateway extends AsyncDisposable {
  readonly deps: Pick<RegistryDeps, 'access'>;
}

/** Opens what the config names. Throws `not-found` or `invalid-argument` when a file is absent or wrong. */
export async function openGateway(config: GatewayConfig, deps: GatewayDeps): Promise<Gateway> {
  const access = config.access === undefined ? undefined : await openAccessControl(config.access, deps);
  return {
    deps: access === undefined ? {} : { access: access.control },
    [Symbol.asyncDispose]: async () => access?.[Symbol.asyncDispose](),
  };
}
