export { type CheckResult, defaultHealthThresholds, type HealthState, type HealthThresholds, MemberHealth } from './health.ts';
export { hashDigest, hashMember, type KeyHash, mixedUnit, scoreOf, type Weighted } from './rendezvous.ts';
export { type RepairView, shouldTake } from './repair.ts';
export { Ring, ringMembersMax } from './ring.ts';
