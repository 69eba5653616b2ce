/**
 * A peer that tells the tracker it has a blob and answers every request with a corrupt piece. A process of its own with a valid certificate;
 * its argument is a {@link LiarJob}.
 */
import { argv, stdin } from 'node:process';
import { fileURLToPath } from 'node:url';
import { Bitfield, nullMeter, parseDigest, pieceCountOf, pieceLengthFor, pieceSizeOf, silentLogger } from '#core';
import { type AnnounceRequest, BlobState, TrackerServiceService } from '#gen/shoal/tracker/v1/tracker_service';
import { CertificateDirectory } from '#pki';
import { SystemClock } from '#runtime';
import { ChannelPool, digestToProto, type InboundExchange, pieceFrame, WireServer } from '#wire';

export interface LiarJob {
  readonly id: string;
  readonly address: string;
  /** Folder of the certificates. */
  readonly certificates: string;
  readonly tracker: { readonly id: string; readonly endpoint: string };
  readonly digest: string;
  readonly sizeBytes: number;
}

const port = 15_001;

/** Pieces of the right size and no content of the blob, one after another. */
function lie(exchange: InboundExchange, { sizeBytes }: LiarJob): void {
  const pieceLength = pieceLengthFor(sizeBytes);
  let last = Promise.resolve();
  exchange.listen({
    requested: (pieces) => {
      for (const piece of pieces) {
        last = last.then(() => exchange.piece(piece, pieceFrame(pieceSizeOf(sizeBytes, pieceLength, piece)))).catch(() => undefined);
      }
    },
    cancelled: () => undefined,
    closed: () => undefined,
  });
  exchange.accept(Bitfield.full(pieceCountOf(sizeBytes, pieceLength)));
}

async function* announcement(job: LiarJob): AsyncGenerator<AnnounceRequest> {
  yield { message: { $case: 'hello', hello: { endpoint: `${job.address}:${port}` } } };
  const digest = digestToProto(parseDigest(job.digest));
  yield { message: { $case: 'update', update: { digest, state: BlobState.COMPLETE, peersWanted: 0, metainfoWanted: false } } };
  await new Promise(() => undefined);
}

async function main(job: LiarJob): Promise<void> {
  const observed = { clock: new SystemClock(), logger: silentLogger, meter: nullMeter };
  const directory = new CertificateDirectory({ root: job.certificates }, observed);
  const certificates = await directory.watch({ role: 'agent', id: job.id }, observed);
  const deps = { ...observed, certificates };
  const server = new WireServer({ host: job.address, port }, deps);
  server.addPeerService({ exchange: (exchange) => lie(exchange, job), fetchBlob: async () => ({ data: Buffer.alloc(job.sizeBytes) }) });
  await server.listen();
  const tracker = new ChannelPool({}, deps).client(TrackerServiceService, { ...job.tracker, role: 'tracker' });
  stdin.on('end', () => process.exit(0)).resume();
  for await (const _ of tracker.announce(announcement(job)));
}

if (argv[1] === fileURLToPath(import.meta.url)) await main(JSON.parse(argv[2] ?? '{}') as LiarJob);
