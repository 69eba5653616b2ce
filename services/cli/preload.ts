/** `shoal preload`: fetches an image to a host before anybody asks for it. */
import { SingleBar } from 'cli-progress';
import { Command } from 'commander';
import { AppError } from '#core';
import { AgentServiceService } from '#gen/shoal/agent/v1/agent_service';
import { formatSize } from '#runtime';
import { clusterFileDefault, findNode, openCluster } from './cluster-file.ts';
import { print, printJson } from './output.ts';

export function preloadCommand(): Command {
  return new Command('preload')
    .description('fetches an image to a host through its agent')
    .argument('<node>', 'the agent, for instance agent-1')
    .argument('<image>', 'repository:tag or repository@digest')
    .option('--cluster <file>', 'the cluster file', clusterFileDefault)
    .option('--json', 'print the final counts as JSON, without a progress bar')
    .action(async (name: string, image: string, options: { cluster: string; json?: boolean }) => {
      await using session = await openCluster(options.cluster);
      const node = findNode(session.file, name);
      if (node.role !== 'agent') throw new AppError('invalid-argument', `${name} is not an agent: only agents preload images`);
      const client = session.channels.client(AgentServiceService, { endpoint: node.grpc, role: node.role, id: node.id });
      const bar = new SingleBar({ format: '{bar} {percentage}% | {present} of {all} | {blobs} blobs', hideCursor: true });
      if (options.json !== true) bar.start(1, 0, { present: '0 B', all: '?', blobs: 0 });
      let last: object = {};
      try {
        for await (const progress of client.preload(parseImage(image))) {
          last = progress;
          bar.setTotal(Math.max(1, Number(progress.totalBytes)));
          bar.update(Number(progress.presentBytes), {
            present: formatSize(Number(progress.presentBytes)),
            all: formatSize(Number(progress.totalBytes)),
            blobs: progress.blobCount,
          });
        }
      } finally {
        bar.stop();
      }
      if (options.json === true) printJson(last);
      else print(`${image} is on ${node.id}`);
    });
}

/** Splits `repository:tag` or `repository@digest`; without either the tag is `latest`. */
function parseImage(image: string): { repository: string; reference: string } {
  const at = image.indexOf('@');
  if (at >= 0) return { repository: image.slice(0, at), reference: image.slice(at + 1) };
  const colon = image.lastIndexOf(':');
  if (colon > image.lastIndexOf('/')) return { repository: image.slice(0, colon), reference: image.slice(colon + 1) };
  return { repository: image, reference: 'latest' };
}
