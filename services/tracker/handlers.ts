/** TrackerService: the announce streams, and what operators can see of the swarms. */
import type { OriginCluster } from '#cluster';
import { AppError, type Clock, type Digest, isDigest, type Meter, type Rng } from '#core';
import type { TrackerServiceService } from '#gen/shoal/tracker/v1/tracker_service';
import { Roster, type SwarmSnapshot } from '#swarm';
import { digestFromProto, digestToProto, type Handlers, peerToProto } from '#wire';
import { AnnounceService } from './announce.ts';
import { MetainfoCache } from './metainfo-cache.ts';

export interface TrackerHandlerDeps {
  readonly origins: Pick<OriginCluster, 'getMetainfo' | 'ownerOffers'>;
  readonly clock: Clock;
  readonly rng: Rng;
  readonly meter: Meter;
}

const pageSizeDefault = 100;
const pageSizeMax = 1000;
/** As the proto says. */
const listedPeersMax = 20_000;

export function trackerHandlers({ origins, clock, rng, meter }: TrackerHandlerDeps): Handlers<typeof TrackerServiceService> {
  const roster = new Roster({}, { rng });
  const metainfos = new MetainfoCache({}, { origins });
  const announcing = new AnnounceService({ roster, metainfos, clock, owners: (digest) => origins.ownerOffers(digest) });
  meter.gauge('shoal_tracker_peers', 'Nodes with an open announce stream.', () => announcing.streamCount);
  meter.gauge('shoal_tracker_blobs', 'Blobs that nodes have announced.', () => roster.blobCount);
  meter.gauge('shoal_tracker_memberships', 'Announced blobs, counted for each node.', () => roster.membershipCount);
  meter.gauge('shoal_tracker_metainfo_bytes', 'Cached metainfo.', () => metainfos.sizeBytes);
  return {
    announce: (requests, context) => announcing.announce(requests, context),
    async listBlobs(request) {
      const limit = pageSize(request.pageSize);
      const page = swarmsAfter(roster, pageDigest(request.pageToken)).slice(0, limit + 1);
      const blobs = page.slice(0, limit).map(({ digest, completeCount, wantingCount, originCount }) => ({
        digest: digestToProto(digest),
        completeCount: completeCount + originCount,
        wantedCount: wantingCount,
      }));
      return { blobs, nextPageToken: page.length > limit ? (page[limit - 1]?.digest ?? '') : '' };
    },
    async listPeers(request) {
      const digest = digestFromProto(request.digest);
      const members = roster.members(digest, 0, listedPeersMax);
      if (members.length === 0) throw new AppError('not-found', 'nobody has announced this blob', { data: { kind: 'blob', digest } });
      return { peers: members.map(peerToProto) };
    },
  };
}

/** In digest order. The roster keeps none, and operators ask seldom. */
function swarmsAfter(roster: Roster, after: Digest | undefined): SwarmSnapshot[] {
  const swarms = roster.swarms(0, roster.blobCount).filter(({ digest }) => after === undefined || digest > after);
  return swarms.sort((a, b) => (a.digest < b.digest ? -1 : 1));
}

function pageSize(size: number): number {
  if (size > pageSizeMax) throw new AppError('invalid-argument', `page_size is at most ${pageSizeMax}`);
  return size === 0 ? pageSizeDefault : size;
}

function pageDigest(token: string): Digest | undefined {
  if (token === '') return undefined;
  if (!isDigest(token)) throw new AppError('invalid-argument', 'page_token: use next_page_token of the page before');
  return token;
}
