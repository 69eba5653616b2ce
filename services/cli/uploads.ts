/** `shoal uploads`: the pushes on their way in. They gather at the origins, whichever proxy receives them. */
import { Command } from 'commander';
import { AppError } from '#core';
import { UploadServiceService } from '#gen/shoal/origin/v1/upload_service';
import { formatDuration, formatSize, SystemClock } from '#runtime';
import { timestampFromProto } from '#wire';
import { type ClusterFile, type ClusterNode, clusterFileDefault, findNode, openCluster } from './cluster-file.ts';
import { print, printJson, table } from './output.ts';

interface Flags {
  readonly cluster: string;
  readonly cancel?: string;
  readonly json?: boolean;
}

export function uploadsCommand(): Command {
  return new Command('uploads')
    .description('lists the open uploads of every origin, or of one')
    .argument('[node]', 'an origin, for instance origin-1')
    .option('--cluster <file>', 'the cluster file', clusterFileDefault)
    .option('--cancel <id>', 'end this upload and free its disk space')
    .option('--json', 'print JSON')
    .action(async (name: string | undefined, flags: Flags) => {
      await using session = await openCluster(flags.cluster);
      const client = ({ grpc, role, id }: ClusterNode) => session.channels.client(UploadServiceService, { endpoint: grpc, role, id });
      const found = await Promise.all(
        originsNamed(session.file, name).map(async (node) => {
          const { uploads } = await client(node).listUploads({ pageSize: 1000, pageToken: '' });
          return uploads.map((upload) => ({ ...upload, origin: node.id, node }));
        }),
      );
      const uploads = found.flat();
      if (flags.cancel !== undefined) {
        const upload = uploads.find(({ id }) => id === flags.cancel);
        if (upload === undefined) throw new AppError('not-found', `no open upload has the id ${flags.cancel}: run shoal uploads`);
        await client(upload.node).cancelUpload({ repository: upload.repository, id: upload.id });
        return print(`ended the upload ${upload.id} of ${upload.repository} at ${upload.origin}`);
      }
      if (flags.json === true) return printJson(uploads.map(({ node: _node, ...upload }) => upload));
      const nowMs = new SystemClock().wallMs();
      const rows = uploads.map(({ id, origin, repository, offsetBytes, startTime, updateTime }) => [
        id,
        origin,
        repository,
        formatSize(Number(offsetBytes)),
        formatDuration(nowMs - timestampFromProto(startTime)),
        formatDuration(nowMs - timestampFromProto(updateTime)),
      ]);
      return print(table(['UPLOAD', 'ORIGIN', 'REPOSITORY', 'RECEIVED', 'STARTED', 'LAST BYTE'], rows));
    });
}

function originsNamed(file: ClusterFile, name: string | undefined): readonly ClusterNode[] {
  if (name === undefined) return file.nodes.filter(({ role }) => role === 'origin');
  const node = findNode(file, name);
  if (node.role !== 'origin') throw new AppError('invalid-argument', `${name} is not an origin: uploads gather at the origins`);
  return [node];
}
