export { atIntervals, type IntervalDeps } from './at-intervals.ts';
export { SystemClock, SystemRng } from './clock.ts';
export {
  type CommonConfig,
  certificatesPart,
  commonParts,
  endpoint,
  grpcPart,
  logPart,
  member,
  members,
  networkEventsPart,
  nodePart,
  originsPart,
  registryPart,
  shutdownPart,
  storePart,
  telemetryPart,
} from './config-parts.ts';
export { type ConfigChange, ConfigReload, type LivePart, type ReloadOutcome } from './config-reload.ts';
export { formatEndpoint, type HostPort, parseEndpoint } from './endpoint.ts';
export { Lifecycle } from './lifecycle.ts';
export { loadConfig, parseConfig } from './load-config.ts';
export { nearestName } from './nearest-name.ts';
export { type NodeContext, openNode } from './node-context.ts';
export { type ComponentState, NodeDescription } from './node-description.ts';
export { runService, type ServiceProgram } from './run-service.ts';
export {
  isSizeSetting,
  parseSwarmSetting,
  type SwarmSetting,
  type SwarmSettings,
  swarmOptionsOf,
  swarmPart,
  swarmSettingLimit,
  swarmSettingNames,
  swarmSettingsOf,
} from './swarm-part.ts';
export { durationMs, formatDuration, formatSize, parseDuration, parseSize, sizeBytes } from './units.ts';
export { version } from './version.ts';
