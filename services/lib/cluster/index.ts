/** The rest of the cluster as one node sees it: owners, trackers, the index, and who of them answers. */
export {
  BuildIndexClient,
  type BuildIndexClientDeps,
  type BuildIndexClientOptions,
  type IndexState,
  type IndexVerdict,
} from './build-index-client.ts';
export {
  type HealthListener,
  HealthMonitor,
  type HealthMonitorDeps,
  type HealthMonitorOptions,
  type ProbeMode,
} from './health-monitor.ts';
export { type ManifestEntry, manifestFromProto, manifestToProto, type TagEntry, taggedMs } from './index-records.ts';
export { type IngestOutcome, longestIngestMs, usualIngestMs } from './ingest.ts';
export { type EnsuredBlob, MeshUpstreams, type MeshUpstreamsDeps, type UpstreamQuery } from './mesh-upstreams.ts';
export {
  type FoundMetainfo,
  type HeldBlob,
  type IngestOptions,
  OriginCluster,
  type OriginClusterDeps,
  type OriginClusterOptions,
} from './origin-cluster.ts';
export { OriginUploads, type OriginUploadsDeps, type OriginUploadsOptions } from './origin-uploads.ts';
export { Outbox } from './outbox.ts';
export { TrackerDirectory, type TrackerDirectoryDeps, type TrackerDirectoryOptions } from './tracker-directory.ts';
export type { Channels, ClusterCallOptions, LookupResult, Member, MemberStatus, PeerDirectory } from './types.ts';
export { newUploadId, UploadIds } from './upload-id.ts';
export { type OfferedBody, UploadSource, type UploadSourceDeps, type UploadSourceOptions } from './upload-source.ts';
