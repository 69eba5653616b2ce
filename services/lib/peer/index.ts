/** Runs the swarm on real links, files and clocks: blobs of the mesh on this node's disk. */
export type { PeerChannels, PeerNodeDeps } from './deps.ts';
export { type PeerLimits, type PeerOptions, peerLimits, peerOptions, type ResolvedPeerOptions } from './options.ts';
export { PeerNode } from './peer-node.ts';
export type { BlobFetcher, PeerCallOptions } from './types.ts';
