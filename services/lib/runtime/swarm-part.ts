/** The limits of the piece swarm that a config file sets and that an operator can change while the node runs. */
import { z } from 'zod';
import { AppError } from '#core';
import { type Limit, type SwarmOptions, swarmLimits } from '#swarm';
import { nearestName } from './nearest-name.ts';
import { sizeBytes } from './units.ts';

/** Names in config files, messages and commands, and the engine's own. */
const optionOf = {
  outboundLinks: 'outboundLinksPerBlob',
  owingLinks: 'owingLinksPerBlob',
  inboundLinks: 'inboundLinksPerBlob',
  inboundLinksTotal: 'inboundLinks',
  serveConcurrency: 'serveConcurrency',
  inFlight: 'inFlightBytes',
  inFlightPerLink: 'inFlightBytesPerLink',
  egressPerSecond: 'egressBytesPerSec',
  ingressPerSecond: 'ingressBytesPerSec',
} as const satisfies Readonly<Record<string, keyof SwarmOptions>>;

export type SwarmSetting = keyof typeof optionOf;
/** A value for each setting: counts, bytes, or bytes per second. */
export type SwarmSettings = Readonly<Record<SwarmSetting, number>>;

export const swarmSettingNames = Object.keys(optionOf) as readonly SwarmSetting[];

/** Default and bounds of a setting, and the reason for them. */
export function swarmSettingLimit(name: SwarmSetting): Limit {
  return swarmLimits[optionOf[name]];
}

/** True when the setting is a number of bytes, or of bytes per second. */
export function isSizeSetting(name: SwarmSetting): boolean {
  return optionOf[name].includes('Bytes');
}

const count = (name: SwarmSetting) => {
  const { min, max, default: fallback } = swarmSettingLimit(name);
  return z.number().int().min(min).max(max).default(fallback);
};
const size = (name: SwarmSetting) => {
  const { min, max, default: fallback } = swarmSettingLimit(name);
  return sizeBytes(min, max).default(fallback);
};

/** The key `swarm` of a config file. */
export const swarmPart = z
  .strictObject({
    /** Links on which this node downloads, for each blob. */
    outboundLinks: count('outboundLinks'),
    /** Sources of a blob that owe a piece at the same time. */
    owingLinks: count('owingLinks'),
    /** Links on which this node serves, for each blob. */
    inboundLinks: count('inboundLinks'),
    /** Links on which this node serves, over all blobs. */
    inboundLinksTotal: count('inboundLinksTotal'),
    /** Pieces that are served at the same time. */
    serveConcurrency: count('serveConcurrency'),
    /** Bytes asked for and not yet on disk, over all blobs. */
    inFlight: size('inFlight'),
    /** Bytes asked for on one link. */
    inFlightPerLink: size('inFlightPerLink'),
    /** Bytes per second to other peers; 0 is unlimited. */
    egressPerSecond: size('egressPerSecond'),
    /** Bytes per second from other peers; 0 is unlimited. */
    ingressPerSecond: size('ingressPerSecond'),
  })
  .prefault({});

/** The engine's options for settings. Throws `invalid-argument` for a value out of its bounds, naming the setting and the bounds. */
export function swarmOptionsOf(settings: Partial<SwarmSettings>): Partial<SwarmOptions> {
  const options: Partial<Record<keyof SwarmOptions, number>> = {};
  for (const name of swarmSettingNames) {
    const value = settings[name];
    if (value === undefined) continue;
    const { min, max } = swarmSettingLimit(name);
    if (!Number.isSafeInteger(value) || value < min || value > max) {
      throw new AppError('invalid-argument', `${name} must be a whole number from ${min} to ${max}`, { data: { name, value } });
    }
    options[optionOf[name]] = value;
  }
  return options;
}

/** The settings that options stand for. */
export function swarmSettingsOf(options: SwarmOptions): SwarmSettings {
  return Object.fromEntries(swarmSettingNames.map((name) => [name, options[optionOf[name]]])) as SwarmSettings;
}

/** The setting that somebody names; `egress` and `ingress` will do. Throws `invalid-argument` with the nearest name. */
export function parseSwarmSetting(text: string): SwarmSetting {
  const name = text === 'egress' || text === 'ingress' ? `${text}PerSecond` : text;
  const found = swarmSettingNames.find((known) => known.toLowerCase() === name.toLowerCase());
  if (found !== undefined) return found;
  const nearest = nearestName(name, swarmSettingNames);
  const hint = nearest === undefined ? `there are: ${swarmSettingNames.join(', ')}` : `did you mean ${nearest}?`;
  throw new AppError('invalid-argument', `there is no limit ${text}; ${hint}`);
}
