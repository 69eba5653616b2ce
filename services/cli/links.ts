/** `shoal links` and `shoal penalties`: who a node exchanges pieces with, and whom it leaves alone. */
import { Command } from 'commander';
import { type Link, LinkDirection, type Penalty, PenaltyReason, TransferServiceService } from '#gen/shoal/peer/v1/transfer_service';
import { formatDuration, formatSize, SystemClock } from '#runtime';
import { digestFromProto, nodeIdentityFromProto, timestampFromProto } from '#wire';
import { clusterFileDefault, findNode, openCluster } from './cluster-file.ts';
import { print, printJson, shortDigest, table } from './output.ts';

interface ListOptions {
  readonly cluster: string;
  readonly json?: boolean;
}

export function linksCommand(): Command {
  return listCommand('links', 'lists the open links of a node: which blob, with whom, which way, how fast').action(
    async (name: string, options: ListOptions) => {
      await using session = await openCluster(options.cluster);
      const node = findNode(session.file, name);
      const client = session.channels.client(TransferServiceService, { endpoint: node.grpc, role: node.role, id: node.id });
      const links = (await client.listLinks({})).links.map(linkOf).sort((a, b) => b.rateBytesPerSec - a.rateBytesPerSec);
      if (options.json === true) return printJson(links);
      if (links.length === 0) return print(`${node.role}/${node.id} has no open link.`);
      const nowMs = new SystemClock().wallMs();
      const rows = links.map(({ digest, peer, direction, inFlightCount, rateBytesPerSec, openTimeMs }) => [
        shortDigest(digest),
        direction === 'outbound' ? `from ${peer}` : `to ${peer}`,
        String(inFlightCount),
        `${formatSize(rateBytesPerSec)}/s`,
        formatDuration(Math.max(0, nowMs - openTimeMs)),
      ]);
      return print(table(['BLOB', 'LINK', 'IN FLIGHT', 'RATE', 'OPEN FOR'], rows));
    },
  );
}

export function penaltiesCommand(): Command {
  return listCommand('penalties', 'lists the peers that a node leaves alone for a while, and why').action(
    async (name: string, options: ListOptions) => {
      await using session = await openCluster(options.cluster);
      const node = findNode(session.file, name);
      const client = session.channels.client(TransferServiceService, { endpoint: node.grpc, role: node.role, id: node.id });
      const penalties = (await client.listPenalties({})).penalties.map(penaltyOf).sort((a, b) => b.untilTimeMs - a.untilTimeMs);
      if (options.json === true) return printJson(penalties);
      if (penalties.length === 0) return print(`${node.role}/${node.id} avoids nobody.`);
      const nowMs = new SystemClock().wallMs();
      const rows = penalties.map(({ peer, reason, strikeCount, untilTimeMs }) => [
        peer,
        reason,
        String(strikeCount),
        formatDuration(Math.max(0, untilTimeMs - nowMs)),
      ]);
      return print(table(['PEER', 'REASON', 'STRIKES', 'FOR ANOTHER'], rows));
    },
  );
}

function listCommand(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .argument('<node>', 'an agent, origin or proxy, for instance agent-1')
    .option('--cluster <file>', 'the cluster file', clusterFileDefault)
    .option('--json', 'print JSON');
}

function linkOf(link: Link) {
  return {
    digest: digestFromProto(link.digest),
    peer: nameOf(link.peer),
    direction: link.direction === LinkDirection.OUTBOUND ? 'outbound' : 'inbound',
    inFlightCount: link.inFlightCount,
    rateBytesPerSec: Number(link.rateBytesPerSec),
    openTimeMs: timestampFromProto(link.openTime),
  };
}

function penaltyOf({ peer, reason, strikeCount, untilTime }: Penalty) {
  return { peer: nameOf(peer), reason: reasonName(reason), strikeCount, untilTimeMs: timestampFromProto(untilTime) };
}

function nameOf(peer: Link['peer']): string {
  const { role, id } = nodeIdentityFromProto(peer);
  return `${role}/${id}`;
}

function reasonName(reason: PenaltyReason): string {
  switch (reason) {
    case PenaltyReason.CORRUPT:
      return 'corrupt';
    case PenaltyReason.UNREACHABLE:
      return 'unreachable';
    case PenaltyReason.SLOW:
      return 'slow';
    default:
      return 'unknown';
  }
}
