/** `shoal uploads`: the pushes that a proxy is receiving. */
import { Command } from 'commander';
import { AppError } from '#core';
import { ProxyServiceService } from '#gen/shoal/proxy/v1/proxy_service';
import { formatDuration, formatSize, SystemClock } from '#runtime';
import { timestampFromProto } from '#wire';
import { clusterFileDefault, findNode, openCluster } from './cluster-file.ts';
import { print, printJson, table } from './output.ts';

export function uploadsCommand(): Command {
  return new Command('uploads')
    .description('lists the open uploads of a proxy')
    .argument('<node>', 'the proxy, for instance proxy-1')
    .option('--cluster <file>', 'the cluster file', clusterFileDefault)
    .option('--json', 'print JSON')
    .action(async (name: string, options: { cluster: string; json?: boolean }) => {
      await using session = await openCluster(options.cluster);
      const node = findNode(session.file, name);
      if (node.role !== 'proxy') throw new AppError('invalid-argument', `${name} is not a proxy: only proxies take uploads`);
      const client = session.channels.client(ProxyServiceService, { endpoint: node.grpc, role: node.role, id: node.id });
      const { uploads } = await client.listUploads({ pageSize: 1000, pageToken: '' });
      if (options.json === true) return printJson(uploads);
      const nowMs = new SystemClock().wallMs();
      const rows = uploads.map(({ id, repository, offsetBytes, startTime, updateTime }) => [
        id,
        repository,
        formatSize(Number(offsetBytes)),
        formatDuration(nowMs - timestampFromProto(startTime)),
        formatDuration(nowMs - timestampFromProto(updateTime)),
      ]);
      return print(table(['UPLOAD', 'REPOSITORY', 'RECEIVED', 'STARTED', 'LAST BYTE'], rows));
    });
}
