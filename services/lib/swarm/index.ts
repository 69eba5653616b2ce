export { chooseHandout, type Handed, type HandoutPools, type HandoutRequest } from './handout.ts';
export { type Limit, type SwarmOptions, swarmLimits, swarmOptions } from './options.ts';
export {
  type MemberSnapshot,
  Roster,
  type RosterEvent,
  type RosterOptions,
  rosterDefaults,
  type SwarmSnapshot,
} from './roster.ts';
export { Swarm, type SwarmDeps } from './swarm.ts';
export { TokenBucket } from './token-bucket.ts';
export type {
  CloseReason,
  Effect,
  LinkId,
  LinkSnapshot,
  PeerOffer,
  PenaltySnapshot,
  ReaderId,
  RefusalReason,
  SourceCount,
  SwarmEvent,
  TransferSnapshot,
} from './types.ts';
