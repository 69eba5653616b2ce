/** `shoal uploads`: the pushes on their way in. They gather at the origins, whichever proxy receives them. */
import { Command } from 'commander';
import { AppError, toAppError } from '#core';
import { UploadServiceService } from '#gen/shoal/origin/v1/upload_service';
import { formatDuration, formatSize, SystemClock } from '#runtime';
import { type Client, timestampFromProto } from '#wire';
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
      const { uploads, silent } = await uploadsAt(originsNamed(session.file, name), client);
      if (flags.cancel !== undefined) {
        const upload = uploads.find(({ id }) => id === flags.cancel);
        if (upload === undefined) throw unknownUpload(flags.cancel, silent);
        await client(upload.node).cancelUpload({ repository: upload.repository, id: upload.id });
        return print(`ended the upload ${upload.id} of ${upload.repository} at ${upload.origin}`);
      }
      for (const { id, error } of silent) process.stderr.write(`shoal: ${id} does not tell its uploads: ${error.message}\n`);
      if (silent.length > 0) process.exitCode = 1;
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

type UploadClient = Client<typeof UploadServiceService>;

/** The uploads of the origins that answer, and those that do not. */
async function uploadsAt(origins: readonly ClusterNode[], client: (node: ClusterNode) => UploadClient) {
  const answers = await Promise.all(
    origins.map(async (node) => {
      try {
        const { uploads } = await client(node).listUploads({ pageSize: 1000, pageToken: '' });
        return { node, uploads };
      } catch (error) {
        return { node, error: toAppError(error) };
      }
    }),
  );
  return {
    uploads: answers.flatMap(({ node, uploads = [] }) => uploads.map((upload) => ({ ...upload, origin: node.id, node }))),
    silent: answers.flatMap(({ node: { id }, error }) => (error === undefined ? [] : [{ id, error }])),
  };
}

function unknownUpload(id: string, silent: readonly { readonly id: string }[]): AppError {
  if (silent.length === 0) return new AppError('not-found', `no open upload has the id ${id}: run shoal uploads`);
  const names = silent.map((origin) => origin.id).join(', ');
  return new AppError('unavailable', `no origin that answers has the upload ${id}; ${names} may have it: try again when it is up`);
}

function originsNamed(file: ClusterFile, name: string | undefined): readonly ClusterNode[] {
  if (name === undefined) return file.nodes.filter(({ role }) => role === 'origin');
  const node = findNode(file, name);
  if (node.role !== 'origin') throw new AppError('invalid-argument', `${name} is not an origin: uploads gather at the origins`);
  return [node];
}
