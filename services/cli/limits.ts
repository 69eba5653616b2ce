/** `shoal limits` and `shoal reload`: the limits of a running node. */
import { Command } from 'commander';
import { AppError } from '#core';
import { NodeServiceService } from '#gen/shoal/node/v1/node_service';
import { TransferServiceService } from '#gen/shoal/peer/v1/transfer_service';
import { limitsFromProto, limitsToProto } from '#peer';
import {
  formatSize,
  isSizeSetting,
  parseSize,
  parseSwarmSetting,
  type SwarmSetting,
  type SwarmSettings,
  swarmSettingLimit,
  swarmSettingNames,
} from '#runtime';
import { clusterFileDefault, findNode, openCluster } from './cluster-file.ts';
import { print, printJson, table } from './output.ts';

interface LimitsOptions {
  readonly cluster: string;
  readonly set?: readonly string[];
  readonly json?: boolean;
}

export function limitsCommand(): Command {
  return new Command('limits')
    .description('shows the limits of the swarm on a node, or changes them while transfers run; a restart or a reload forgets the change')
    .argument('<node>', 'an agent, origin or proxy, for instance agent-1')
    .option('--set <limit=value...>', 'for instance egress=50MiB/s inboundLinks=30; 0 is unlimited for rates')
    .option('--cluster <file>', 'the cluster file', clusterFileDefault)
    .option('--json', 'print JSON')
    .action(async (name: string, options: LimitsOptions) => {
      await using session = await openCluster(options.cluster);
      const node = findNode(session.file, name);
      const client = session.channels.client(TransferServiceService, { endpoint: node.grpc, role: node.role, id: node.id });
      if (options.set === undefined) {
        const limits = limitsFromProto((await client.getLimits({})).limits);
        if (options.json === true) printJson(limits);
        else print(limitsTable(limits));
        return;
      }
      const answer = await client.updateLimits({ limits: limitsToProto(parseSettings(options.set)) });
      const before = limitsFromProto(answer.before);
      const after = limitsFromProto(answer.after);
      if (options.json === true) printJson({ before, after });
      else print(changesText(before, after));
    });
}

export function reloadCommand(): Command {
  return new Command('reload')
    .description('makes a node read its config file again, as SIGHUP does: limits of the swarm change at once')
    .argument('<node>', 'for instance agent-1')
    .option('--cluster <file>', 'the cluster file', clusterFileDefault)
    .option('--json', 'print JSON')
    .action(async (name: string, options: { cluster: string; json?: boolean }) => {
      await using session = await openCluster(options.cluster);
      const node = findNode(session.file, name);
      const client = session.channels.client(NodeServiceService, { endpoint: node.grpc, role: node.role, id: node.id });
      const answer = await client.reloadConfig({});
      if (options.json === true) return printJson(answer);
      if (answer.changes.length > 0) {
        print(
          table(
            ['CHANGED', 'BEFORE', 'NOW'],
            answer.changes.map(({ key, before, after }) => [key, before, after]),
          ),
        );
      }
      if (answer.restartKeys.length > 0) print(`Different in the file, in force after a restart: ${answer.restartKeys.join(', ')}`);
      else if (answer.changes.length === 0) print('Nothing is different.');
    });
}

/** `name=value` words; rates may end in `/s`. Throws `invalid-argument`. */
export function parseSettings(words: readonly string[]): Partial<SwarmSettings> {
  const settings: Partial<Record<SwarmSetting, number>> = {};
  for (const word of words) {
    const at = word.indexOf('=');
    if (at < 1) throw new AppError('invalid-argument', `write a limit like egress=50MiB/s, not ${word}`);
    const name = parseSwarmSetting(word.slice(0, at));
    const text = word.slice(at + 1).replace(/\/s$/, '');
    const value = /^\d+$/.test(text) ? Number(text) : isSizeSetting(name) ? parseSize(text) : undefined;
    if (value === undefined) {
      throw new AppError('invalid-argument', `${name}=${text}: write ${isSizeSetting(name) ? 'a size like 64MiB' : 'a whole number'}`);
    }
    settings[name] = value;
  }
  return settings;
}

function limitsTable(limits: Partial<SwarmSettings>): string {
  const rows = swarmSettingNames.map((name) => {
    const limit = swarmSettingLimit(name);
    const { min, max } = limit;
    return [name, valueText(name, limits[name]), valueText(name, limit.default), `${boundText(name, min)} to ${boundText(name, max)}`];
  });
  return table(['LIMIT', 'NOW', 'DEFAULT', 'POSSIBLE'], rows);
}

function changesText(before: Partial<SwarmSettings>, after: Partial<SwarmSettings>): string {
  const changed = swarmSettingNames.filter((name) => before[name] !== after[name]);
  if (changed.length === 0) return 'Nothing is different.';
  return table(
    ['CHANGED', 'BEFORE', 'NOW'],
    changed.map((name) => [name, valueText(name, before[name]), valueText(name, after[name])]),
  );
}

function valueText(name: SwarmSetting, value: number | undefined): string {
  if (value === undefined) return '-';
  if (name.endsWith('PerSecond')) return value === 0 ? 'unlimited' : `${formatSize(value)}/s`;
  return boundText(name, value);
}

function boundText(name: SwarmSetting, value: number): string {
  return isSizeSetting(name) ? formatSize(value) : String(value);
}
