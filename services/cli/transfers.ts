/** `shoal transfers`: what a node downloads and serves, and which peers gave it what. */
import { Command } from 'commander';
import { parseDigest } from '#core';
import { type Transfer, TransferServiceService } from '#gen/shoal/peer/v1/transfer_service';
import { formatSize } from '#runtime';
import { digestFromProto, digestToProto, nodeIdentityFromProto } from '#wire';
import { clusterFileDefault, findNode, openCluster } from './cluster-file.ts';
import { print, printJson, table } from './output.ts';

export function transfersCommand(): Command {
  return new Command('transfers')
    .description('lists the piece transfers of a node, or shows one with its counts per source')
    .argument('<node>', 'for instance agent-1')
    .argument('[digest]', 'show this blob only')
    .option('--cluster <file>', 'the cluster file', clusterFileDefault)
    .option('--json', 'print JSON')
    .action(async (name: string, digest: string | undefined, options: { cluster: string; json?: boolean }) => {
      await using session = await openCluster(options.cluster);
      const node = findNode(session.file, name);
      const client = session.channels.client(TransferServiceService, { endpoint: node.grpc, role: node.role, id: node.id });
      const transfers =
        digest === undefined
          ? (await client.listTransfers({ pageSize: 100, pageToken: '' })).transfers
          : [(await client.getTransfer({ digest: digestToProto(parseDigest(digest)) })).transfer].filter((found) => found !== undefined);
      if (options.json === true) printJson(transfers.map(summary));
      else print(digest === undefined ? listTable(transfers) : sourceTable(transfers));
    });
}

function summary(transfer: Transfer) {
  const sources = transfer.sources.map((source) => ({
    peer: sourceName(source),
    pieceCount: source.pieceCount,
    sizeBytes: source.sizeBytes,
    corruptCount: source.corruptCount,
    duplicateCount: source.duplicateCount,
  }));
  return { ...transfer, digest: digestFromProto(transfer.digest), sources };
}

function listTable(transfers: readonly Transfer[]): string {
  const rows = transfers.map((transfer) => [
    digestFromProto(transfer.digest).slice(0, 19),
    formatSize(Number(transfer.sizeBytes)),
    transfer.complete ? 'complete' : `${transfer.verifiedCount}/${transfer.pieceCount}`,
    transfer.sources.map((source) => `${sourceName(source)}: ${source.pieceCount}`).join(', '),
    formatSize(Number(transfer.servedBytes)),
  ]);
  return table(['BLOB', 'SIZE', 'PIECES', 'FROM', 'SERVED'], rows);
}

function sourceTable(transfers: readonly Transfer[]): string {
  const rows = transfers.flatMap(({ sources }) =>
    sources.map((source) => [
      sourceName(source),
      String(source.pieceCount),
      formatSize(Number(source.sizeBytes)),
      String(source.corruptCount),
      String(source.duplicateCount),
    ]),
  );
  return table(['SOURCE', 'PIECES', 'BYTES', 'CORRUPT', 'DUPLICATE'], rows);
}

function sourceName(source: Transfer['sources'][number]): string {
  const { role, id } = nodeIdentityFromProto(source.peer);
  return `${role}/${id}`;
}
