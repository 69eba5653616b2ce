/** `shoal events`: what happens between a node and its peers, as it happens. */
import { Command } from 'commander';
import pc from 'picocolors';
import { AppError, parseDigest } from '#core';
import { NetworkEventServiceService, type WatchNetworkEventsResponse } from '#gen/shoal/peer/v1/network_event_service';
import {
  type NetworkEvent,
  type NetworkEventKind,
  networkEventFromProto,
  networkEventKinds,
  networkEventKindToProto,
  networkEventLine,
  type TimedEvent,
} from '#peer';
import { formatDuration, formatSize, nearestName } from '#runtime';
import { digestToProto } from '#wire';
import { clusterFileDefault, findNode, openCluster } from './cluster-file.ts';
import { print, shortDigest } from './output.ts';

interface EventsOptions {
  readonly cluster: string;
  readonly blob?: readonly string[];
  readonly kind?: readonly string[];
  readonly count?: string;
  readonly json?: boolean;
}

export function eventsCommand(): Command {
  return new Command('events')
    .description('shows links, pieces, downloads and announcements of a node as they happen, a line each, until Ctrl-C')
    .argument('<node>', 'an agent, origin or proxy, for instance agent-1')
    .option('--blob <digests...>', 'events of these blobs only')
    .option('--kind <kinds...>', `events of these kinds only: ${networkEventKinds.join(', ')}`)
    .option('--count <number>', 'end after so many events')
    .option('--json', 'print a JSON document a line')
    .option('--cluster <file>', 'the cluster file', clusterFileDefault)
    .action(watchNode);
}

async function watchNode(name: string, options: EventsOptions): Promise<void> {
  const kinds = (options.kind ?? []).map(parseKind);
  const digests = (options.blob ?? []).map(parseDigest);
  const countMax = parseCount(options.count);
  await using session = await openCluster(options.cluster);
  const node = findNode(session.file, name);
  const client = session.channels.client(NetworkEventServiceService, { endpoint: node.grpc, role: node.role, id: node.id });
  const abort = new AbortController();
  const stop = (): void => abort.abort();
  process.once('SIGINT', stop);
  try {
    const request = { digests: digests.map(digestToProto), kinds: kinds.map(networkEventKindToProto) };
    await show(client.watchNetworkEvents(request, { signal: abort.signal }), countMax, options.json === true);
  } catch (error) {
    if (!abort.signal.aborted) throw error;
  } finally {
    process.off('SIGINT', stop);
  }
}

/** Prints events until the stream ends or `countMax` are shown. */
async function show(stream: AsyncIterable<WatchNetworkEventsResponse>, countMax: number, json: boolean): Promise<void> {
  let count = 0;
  for await (const { events } of stream) {
    for (const timed of events.map(networkEventFromProto)) {
      if (timed === undefined) continue;
      print(json ? networkEventLine(timed) : describeEvent(timed));
      count += 1;
      if (count === countMax) return;
    }
  }
}

function parseKind(text: string): NetworkEventKind {
  const found = networkEventKinds.find((kind) => kind === text);
  if (found !== undefined) return found;
  const nearest = nearestName(text, networkEventKinds);
  const hint = nearest === undefined ? `there are: ${networkEventKinds.join(', ')}` : `did you mean ${nearest}?`;
  throw new AppError('invalid-argument', `there is no kind of event ${text}; ${hint}`);
}

function parseCount(text: string | undefined): number {
  if (text === undefined) return Number.POSITIVE_INFINITY;
  const count = Number(text);
  if (Number.isSafeInteger(count) && count > 0) return count;
  throw new AppError('invalid-argument', '--count takes a whole number of at least 1');
}

/** `12:34:56.789 sha256:0123456789ab piece-received 17 (1.0 MiB) from agent/host-7`. */
export function describeEvent({ timeMs, event }: TimedEvent): string {
  const time = pc.dim(new Date(timeMs).toISOString().slice(11, 23));
  if (event.type === 'gap')
    return `${time} ${pc.yellow(`${event.droppedCount} events are missing here: they came faster than they were read`)}`;
  return `${time} ${shortDigest(event.digest)} ${colourOf(event)(event.type)} ${detailOf(event)}`.trimEnd();
}

type Told = Exclude<NetworkEvent, { readonly type: 'gap' }>;

function colourOf({ type }: Told): (text: string) => string {
  if (type === 'piece-rejected' || type === 'download-failed') return pc.red;
  if (type === 'link-down' || type === 'link-refused') return pc.yellow;
  return type === 'blob-complete' ? pc.green : pc.cyan;
}

function detailOf(event: Told): string {
  switch (event.type) {
    case 'link-up':
      return event.direction === 'outbound' ? `to ${event.peer}` : `from ${event.peer}`;
    case 'link-down':
      return `${event.peer}: ${event.wasUp ? '' : 'not reached: '}${event.reason}`;
    case 'link-refused':
      return `${event.direction === 'outbound' ? 'by' : 'to'} ${event.peer}: ${event.reason}, again in ${event.retryAfterMs} ms`;
    case 'piece-requested':
      return `${event.piece} ${event.direction === 'outbound' ? 'of' : 'by'} ${event.peer}`;
    case 'piece-received':
      return `${event.piece} (${formatSize(event.sizeBytes)}) from ${event.peer}`;
    case 'piece-rejected':
      return `${event.piece} ${event.direction === 'outbound' ? 'of' : 'to'} ${event.peer}: ${event.reason}`;
    case 'piece-sent':
      return `${event.piece} (${formatSize(event.sizeBytes)}) to ${event.peer}`;
    case 'download-started':
      return `${formatSize(event.sizeBytes)} in ${event.pieceCount} pieces, ${event.presentCount} here already`;
    case 'blob-complete':
      return `${formatSize(event.sizeBytes)} in ${formatDuration(event.durationMs)}`;
    case 'download-failed':
      return `${event.code}: ${event.message}`;
    case 'announced':
      return `${event.state}${event.peersWanted > 0 ? `, ${event.peersWanted} peers wanted` : ''}`;
  }
}
