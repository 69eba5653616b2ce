/** Who may do what at a gateway: rules, passwords and tokens behind the registry's access port. */
export { type AccessConfig, accessPart } from './config.ts';
export { type Gateway, type GatewayConfig, type GatewayDeps, gatewayParts, openGateway } from './gateway.ts';
export { type AccessDeps, type OpenedAccess, openAccessControl } from './open-access.ts';
