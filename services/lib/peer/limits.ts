/** The limits of a running engine: the ones an operator or a changed config file may set. */
import { AppError, type Logger } from '#core';
import type { SwarmLimits as LimitsMessage } from '#gen/shoal/peer/v1/transfer_service';
import { type SwarmSetting, type SwarmSettings, swarmOptionsOf, swarmSettingNames, swarmSettingsOf } from '#runtime';
import { type SwarmOptions, swarmOptions } from '#swarm';
import { safeNumber } from '#wire';

export interface LimitsDeps {
  readonly apply: (options: SwarmOptions) => void;
  readonly logger: Logger;
}

export interface LimitsUpdate {
  readonly before: SwarmSettings;
  readonly after: SwarmSettings;
}

export class Limits {
  readonly #deps: LimitsDeps;
  #options: SwarmOptions;

  constructor(options: SwarmOptions, deps: LimitsDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  get current(): SwarmSettings {
    return swarmSettingsOf(this.#options);
  }

  /** Changes what is given, at once and without ending a transfer. Throws `invalid-argument` and changes nothing when a value is out of its bounds. */
  update(settings: Partial<SwarmSettings>): LimitsUpdate {
    const before = this.current;
    this.#options = swarmOptions({ ...this.#options, ...swarmOptionsOf(settings) });
    this.#deps.apply(this.#options);
    const after = this.current;
    const changed = swarmSettingNames.filter((name) => before[name] !== after[name]);
    if (changed.length > 0) {
      const values = (of: SwarmSettings) => Object.fromEntries(changed.map((name) => [name, of[name]]));
      this.#deps.logger.info('limits changed', { before: values(before), after: values(after) });
    }
    return { before, after };
  }
}

/** What is absent stays absent. */
export function limitsToProto(settings: Partial<SwarmSettings>): LimitsMessage {
  const { inFlight, inFlightPerLink, egressPerSecond, ingressPerSecond } = settings;
  const size = (value: number | undefined): bigint | undefined => (value === undefined ? undefined : BigInt(value));
  return {
    outboundLinks: settings.outboundLinks,
    owingLinks: settings.owingLinks,
    inboundLinks: settings.inboundLinks,
    inboundLinksTotal: settings.inboundLinksTotal,
    serveConcurrency: settings.serveConcurrency,
    inFlight: size(inFlight),
    inFlightPerLink: size(inFlightPerLink),
    egressPerSecond: size(egressPerSecond),
    ingressPerSecond: size(ingressPerSecond),
  };
}

/** The settings that are present. Throws `invalid-argument` when there is none, or one is no safe number. */
export function limitsFromProto(message: LimitsMessage | undefined): Partial<SwarmSettings> {
  const settings: Partial<Record<SwarmSetting, number>> = {};
  for (const name of swarmSettingNames) {
    const value = message?.[name];
    if (value !== undefined) settings[name] = typeof value === 'bigint' ? safeNumber(value, name) : value;
  }
  if (Object.keys(settings).length === 0) {
    throw new AppError('invalid-argument', `the request changes nothing: give at least one of ${swarmSettingNames.join(', ')}`);
  }
  return settings;
}
