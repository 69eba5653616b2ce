/** Runs the swarm on real links, files and clocks: blobs of the mesh on this node's disk. */
export type { PeerChannels, PeerNodeDeps } from './deps.ts';
export { limitsFromProto, limitsToProto } from './limits.ts';
export { type NetworkEvent, type NetworkEventKind, networkEventKinds, networkEventLine, type TimedEvent } from './network-event.ts';
export { networkEventFromProto, networkEventKindToProto } from './network-event-codec.ts';
export type { NetworkEventFileOptions } from './network-event-file.ts';
export { type NetworkEventFilter, NetworkEvents } from './network-events.ts';
export { type PeerLimits, type PeerOptions, peerLimits, peerOptions, type ResolvedPeerOptions } from './options.ts';
export { PeerNode } from './peer-node.ts';
export type { BlobFetcher, PeerCallOptions } from './types.ts';
